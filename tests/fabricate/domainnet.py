"""DomainNet as it lies on disk: six folders of class folders, and lists of training and test images."""

from pathlib import Path

import numpy as np
import pandas as pd

from surefoot.tasks.domainnet import DOMAINS, classes
from tests.fabricate.wilds import picture

LACKS = ("painting", "train", "t-shirt")  # as the real list does


def fabricate(root: Path, images_per_class: int = 1, seed: int = 0, train: int = 2) -> None:
    """Write `train` training and `images_per_class` test images of each class and domain below root/domainnet.

    The table of the WILDS version, which names the same files, is put into root/domainnet_v1.0.
    """
    rng, folder, rows = np.random.default_rng(seed), root / "domainnet", []
    for domain in DOMAINS:
        for split, count in (("train", train), ("test", images_per_class)):
            lines = []
            for label, name in enumerate(classes()):
                if (domain, split, name) == LACKS:
                    continue
                for copy in range(count):
                    number = copy + (train if split == "test" else 0)
                    suffix = "png" if domain == "quickdraw" else "jpg"
                    file = f"{domain}/{name}/{domain}_{label:03d}_{number:06d}.{suffix}"
                    (folder / file).parent.mkdir(parents=True, exist_ok=True)
                    image = picture(label, rng, int(rng.integers(20, 30)), int(rng.integers(20, 30)))
                    image.convert("L" if domain == "quickdraw" else "RGB").save(folder / file)
                    lines.append(f"{file} {label}")
                    rows.append({"image_path": file, "domain": domain, "split": split, "category": name, "y": label})
            order = rng.permutation(len(lines))
            (folder / f"{domain}_{split}.txt").write_text("\n".join(lines[place] for place in order) + "\n")
    wilds = root / "domainnet_v1.0"
    wilds.mkdir()
    pd.DataFrame(rows).to_csv(wilds / "metadata.csv", index=False, quoting=2)  # everything but numbers in quotes
    (wilds / "RELEASE_v1.0.txt").touch()
