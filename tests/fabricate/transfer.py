"""The data sets of transfer learning as they lie on disk, with few images of odd sizes and modes."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.io import savemat

from surefoot.tasks.transfer import tables
from tests.fabricate.wilds import picture

MODES = ("RGB", "L", "CMYK")  # of JPEG files; PNG files are greys, colours and palettes
KNOWN = ("sst2", "caltech101", "cars", "flowers102", "cifar100", "dtd", "food101", "sun397", "pcam")


def fabricate(root: Path, images_per_class: int = 2, seed: int = 0, data: tuple[str, ...] = KNOWN) -> None:
    """Write `images_per_class` training images of each class (Caltech-101: five or more) and one or two test images."""
    for name in data:
        WRITERS[name](root, images_per_class, np.random.default_rng(seed))


def _save(path: Path, label: int, rng: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = picture(label, rng, int(rng.integers(20, 34)), int(rng.integers(20, 34)))
    image.convert(("RGB", "P", "L")[label % 3] if path.suffix == ".png" else MODES[label % 3]).save(path)


def _each(data: str, count: int) -> Iterator[tuple[int, str, int]]:
    """Label, class and number of every image."""
    for label, name in enumerate(tables()[data]["classes"]):
        yield from ((label, name, number) for number in range(count))


def _sst2(root: Path, count: int, rng: np.random.Generator) -> None:
    for split in ("train", "valid", "test"):
        for label, name, number in _each("sst2", count):
            _save(root / "rendered-sst2" / split / name / f"{number}.png", label, rng)


def _caltech101(root: Path, count: int, rng: np.random.Generator) -> None:
    top = root / "caltech101" / "101_ObjectCategories"
    for label, name, number in _each("caltech101", max(count, 5)):
        _save(top / name / f"image_{number + 1:04d}.jpg", label, rng)
    _save(top / "BACKGROUND_Google" / "image_0001.jpg", 0, rng)
    (top / "BACKGROUND_Google" / "tmp").write_text("as in the archive")


def _cars(root: Path, count: int, rng: np.random.Generator) -> None:
    top = root / "stanford_cars"
    (top / "devkit").mkdir(parents=True)
    names = np.array([tables()["cars"]["classes"]], dtype=object)
    savemat(top / "devkit" / "cars_meta.mat", {"class_names": names})
    kinds = [(k, object) for k in ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")]
    for split, file in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        images = [(label, number) for label, _, number in _each("cars", count if split == "train" else 1)]
        listed = np.empty((1, len(images)), dtype=kinds)
        for place, chosen in enumerate(rng.permutation(len(images))):
            label, name = images[chosen][0], f"{place + 1:05d}.jpg"
            listed[0, place] = (1, 1, 9, 9, label + 1, name)
            _save(top / f"cars_{split}" / name, label, rng)
        savemat(top / file, {"annotations": listed})


def _flowers102(root: Path, count: int, rng: np.random.Generator) -> None:
    top = root / "flowers-102"
    labels = rng.permutation(np.repeat(np.arange(102), count + 2))
    for number, label in enumerate(labels, 1):
        _save(top / "jpg" / f"image_{number:05d}.jpg", int(label), rng)
    savemat(top / "imagelabels.mat", {"labels": (labels + 1)[None].astype(np.uint8)})
    order = np.argsort(labels, kind="stable").reshape(102, -1) + 1
    parts = {"trnid": order[:, :count], "valid": order[:, count], "tstid": order[:, count + 1]}
    savemat(top / "setid.mat", {name: rng.permutation(ids.ravel())[None] for name, ids in parts.items()})


def _cifar100(root: Path, count: int, rng: np.random.Generator) -> None:
    top = root / "cifar-100-binary"
    top.mkdir(parents=True)
    for split, copies in (("train", count), ("test", 1)):
        labels = rng.permutation(np.repeat(np.arange(100), copies)).astype(np.uint8)
        planes = [np.asarray(picture(int(y), rng, 32, 32)).transpose(2, 0, 1).reshape(-1) for y in labels]
        np.concatenate([labels[:, None] // 5, labels[:, None], np.stack(planes)], 1).tofile(top / f"{split}.bin")


def _dtd(root: Path, count: int, rng: np.random.Generator) -> None:
    top = root / "dtd"
    (top / "labels").mkdir(parents=True)
    for split, first, copies in (("train", 0, count), ("val", count, 1), ("test", count + 1, 1)):
        images = [(y, f"{name}/{name}_{first + number:04d}.jpg") for y, name, number in _each("dtd", copies)]
        for label, file in images:
            _save(top / "images" / file, label, rng)
        (top / "labels" / f"{split}1.txt").write_text("".join(f"{file}\n" for _, file in images))


def _food101(root: Path, count: int, rng: np.random.Generator) -> None:
    top = root / "food-101"
    (top / "meta").mkdir(parents=True)
    for split, first, copies in (("train", 0, count), ("test", count, 1)):
        listed: dict[str, list[str]] = {}
        for label, name, number in _each("food101", copies):
            file = f"{name}/{1000 + first + number}"
            _save(top / "images" / f"{file}.jpg", label, rng)
            listed.setdefault(name, []).append(file)
        turned = {name: listed[name] for name in reversed(listed)}  # the order of the real lists is not that of labels
        (top / "meta" / f"{split}.json").write_text(json.dumps(turned))


def _sun397(root: Path, count: int, rng: np.random.Generator) -> None:
    top = root / "SUN397"
    (root / "Partitions").mkdir(parents=True, exist_ok=True)
    for split, first, copies in (("Training", 0, count), ("Testing", count, 1)):
        images = [(y, f"{name}/sun_{first + number:016d}.jpg") for y, name, number in _each("sun397", copies)]
        for label, file in images:
            _save(top / file[1:], label, rng)
        (root / "Partitions" / f"{split}_01.txt").write_text("".join(f"{file}\n" for _, file in images))
    (top / "ClassName.txt").write_text("".join(f"{name}\n" for name in tables()["sun397"]["classes"]))


def _pcam(root: Path, count: int, rng: np.random.Generator) -> None:
    import h5py

    top = root / "pcam"
    top.mkdir(parents=True)
    for split in ("train", "valid", "test"):
        labels = rng.permutation(np.repeat([0, 1], count)).astype(np.uint8)
        images = np.stack([np.asarray(picture(int(y), rng, 96, 96)) for y in labels])
        for part, values in (("x", images), ("y", labels.reshape(-1, 1, 1, 1))):
            with h5py.File(top / f"camelyonpatch_level_2_split_{split}_{part}.h5", "w") as file:
                file[part] = values


WRITERS = {
    "sst2": _sst2,
    "pcam": _pcam,
    "caltech101": _caltech101,
    "cars": _cars,
    "flowers102": _flowers102,
    "cifar100": _cifar100,
    "dtd": _dtd,
    "food101": _food101,
    "sun397": _sun397,
}
