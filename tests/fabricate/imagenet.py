"""ImageNet and its shifted test sets as they lie on disk, with tiny pictures of odd sizes and modes."""

import io
import shutil
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path

import numpy as np
from PIL import ImageOps
from scipy.io import savemat

from surefoot.tasks.imagenet import SEVERITY, SHIFTS, tables
from tests.fabricate import videos
from tests.fabricate.folder import picture

RED = (255, 0, 0)
# ImageNet has grey and CMYK files, and one PNG that is called JPEG.
KINDS = (("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("RGB", "PNG"))


def pictures_of(rng: np.random.Generator, border: bool = False) -> Iterator[bytes]:
    """Files of a few dozen pictures over and over: decoding is tested, not seeing."""
    files = []
    for number in range(24):
        image = picture(tuple(rng.integers(0, 256, 3)), 0.1, rng)
        mode, form = KINDS[number % len(KINDS)]
        if border:
            image, form = ImageOps.expand(image, 1, RED), "PNG"
        out = io.BytesIO()
        (image if border else image.convert(mode)).save(out, form)
        files.append(out.getvalue())
    for number in count():
        yield files[number % len(files)]


def _write(folder: Path, names: Iterable[str], pictures: Iterator[bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(next(pictures))


def fabricate(
    root: Path,
    images_per_class: int = 2,
    seed: int = 0,
    wnids: Sequence[str] | None = None,
    shifts: Sequence[str] = ("v2", "r", "a", "sketch", "objectnet"),
    corruptions: Sequence[str] = ("gaussian_noise", "impulse_noise", "shot_noise"),
    with_videos: bool = False,
) -> None:
    """Write the folders of every image set below a root, as `data_root` would name it.

    All 1000 classes (the layouts need them) with `images_per_class` images each; `wnids`: of ImageNet itself only these
    classes, which is enough for BREEDS. ImageNet-C at the severity that is read, with the names of the test images.
    """
    pictures, known = pictures_of(np.random.default_rng(seed)), tables()
    numbers = range(images_per_class)
    for wnid in wnids or known["wnids"]:
        _write(root / "imagenet/train" / wnid, (f"{wnid}_{n}.JPEG" for n in numbers), pictures)
        names = [f"ILSVRC2012_val_{known['wnids'].index(wnid) * images_per_class + n + 1:08d}.JPEG" for n in numbers]
        for at in ("imagenet/val", *(f"imagenet-c/{c}/{SEVERITY}" for c in corruptions)):
            _write(root / at / wnid, names, pictures)
    classes = {
        "v2": [str(number) for number in range(1000)],
        "sketch": known["wnids"],
        **{name: [known["wnids"][column] for column in known[name]] for name in ("r", "a")},
        "objectnet": [*known["objectnet"], "air_freshener"],  # one of the folders that ImageNet has no class for
    }
    for shift in shifts:
        ending = {"v2": "jpeg", "sketch": "JPEG", "objectnet": "png"}.get(shift, "jpg")
        kind = pictures_of(np.random.default_rng(seed + 1), border=True) if shift == "objectnet" else pictures
        for name in classes[shift]:
            _write(root / SHIFTS[shift].folder / name, (f"{name}_{n}.{ending}" for n in numbers), kind)
    if with_videos:
        videos.fabricate(root / "imagenet_vid_ytbb_robust", pictures)
    for shift in set(shifts) & {"r", "a"}:
        (root / SHIFTS[shift].folder / "README.txt").write_text("a stray file beside the class folders")


def _lie_together(root: Path, val: Path) -> dict[str, str]:
    """Put the test images of `root` (which holds val/<wnid>) together into `val`; file -> WordNet id."""
    val.mkdir(parents=True)
    found = {path.name: path.parent.name for path in (root / "val").glob("*/*.JPEG")}
    for name, wnid in found.items():
        (val / name).write_bytes((root / "val" / wnid / name).read_bytes())
    return found


def flatten(root: Path, to: Path) -> None:
    """Below `to` the test images of `root` (which holds val/<wnid>) as their archive and the development kit have them.

    ILSVRC's own numbers of classes are in another order than the WordNet ids; numbers above 1000 are inner nodes.
    """
    kit, known = to / "ILSVRC2012_devkit_t12/data", tables()["wnids"]
    kit.mkdir(parents=True)
    number = {wnid: len(known) - place for place, wnid in enumerate(known)}
    truth = _lie_together(root, to / "val")
    lines = "".join(f"{number[truth[name]]}\n" for name in sorted(truth))
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text(lines)
    fields = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O")]
    leaves = [(number[wnid], wnid, "a word", "a gloss", 0) for wnid in known]
    synsets = np.array([*leaves, (1001, "n00001740", "entity", "that which is", 2)], dtype=fields)
    savemat(kit / "meta.mat", {"synsets": synsets})


def as_on_kaggle(root: Path, to: Path) -> None:
    """Below `to` the images of `root` as Kaggle has them: test images together, and a table of their boxes in no order.

    Some images have several boxes; the folder of the competition's own test images has no labels.
    """
    images = to / "ILSVRC/Data/CLS-LOC"
    truth = _lie_together(root, images / "val")
    shutil.copytree(root / "train", images / "train")
    (images / "test").mkdir()
    lines = ["ImageId,PredictionString"]
    for number, name in enumerate(sorted(truth, reverse=True)):
        boxes = " ".join([f"{truth[name]} 85 1 499 272"] * (1 + number % 3))
        lines.append(f"{Path(name).stem},{boxes} ")
    (to / "LOC_val_solution.csv").write_text("\n".join(lines) + "\n")
