"""CIFAR-10 and its shifted sets as they lie on disk, with few images."""

from pathlib import Path

import numpy as np

from surefoot.tasks.cifar import CORRUPTIONS


def fabricate(root: Path, images_per_class: int = 6, seed: int = 0, corruptions: tuple[str, ...] = CORRUPTIONS) -> None:
    """Write the binary files of CIFAR-10 and the arrays of 10.1, 10.2 and 10-C below a root."""
    rng, labels = np.random.default_rng(seed), np.tile(np.arange(10, dtype=np.uint8), images_per_class)

    def images() -> np.ndarray:
        colours = np.linspace(20, 230, 10)[labels][:, None, None, None]
        return (colours + rng.normal(0, 15, (len(labels), 32, 32, 3))).clip(0, 255).astype(np.uint8)

    batches = root / "cifar-10-batches-bin"
    batches.mkdir(parents=True)
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        planes = images().transpose(0, 3, 1, 2).reshape(len(labels), -1)
        np.concatenate([labels[:, None], planes], 1).tofile(batches / f"{name}.bin")
    np.save(root / "cifar10.1_v6_data.npy", images())
    np.save(root / "cifar10.1_v6_labels.npy", labels.astype(np.int32))
    np.savez(root / "cifar102_test.npz", images=images(), labels=labels.astype(np.int64))
    corrupted = root / "CIFAR-10-C"
    corrupted.mkdir()
    np.save(corrupted / "labels.npy", np.tile(labels, 5))
    for name in corruptions:
        np.save(corrupted / f"{name}.npy", np.concatenate([images() for _ in range(5)]))
