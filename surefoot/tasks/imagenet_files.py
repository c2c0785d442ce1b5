"""Images in class folders, and the test images of ImageNet in the three layouts that people have. N images.

No pandas at import: the Snakefile imports this module.
"""

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.files import UserError
from surefoot.tasks.folder import IMAGES

if TYPE_CHECKING:
    import pandas as pd

KIT = "ILSVRC2012_devkit_t12"
KAGGLE = "LOC_val_solution.csv"


def by_class(root: Path, at: str, folders: Sequence[str]) -> "pd.DataFrame":
    """Rows of the images in class folders below root/at; the label is the place of the folder in `folders`.

    Raises UserError for a folder that is missing or empty, so that a half-extracted data set is named.
    """
    top, found = root / at, []
    if missing := [name for name in folders if not (top / name).is_dir()]:
        raise UserError(
            f"{top}: {len(missing)} of {len(folders)} class folders are missing, such as {missing[0]}; "
            "complete the data set, or correct data_root"
        )
    for label, name in enumerate(folders):
        images = _images(top / name)
        if not images:
            raise UserError(f"{top / name} holds no image; complete the data set")
        found += [(f"{at}/{name}/{image}", label) for image in images]
    return _rows(found)


def test_images(root: Path, wnids: Sequence[str]) -> "pd.DataFrame":
    """Rows of the validation images of some classes, which all papers test on.

    They lie in class folders, or together as in their archive; then the development kit or Kaggle's table says what
    they are. Raises UserError where nothing does, and where images and table are not complete.
    """
    flat = _images(root / "val") if (root / "val").is_dir() else []
    if (root / "val" / wnids[0]).is_dir() or not flat:
        return by_class(root, "val", wnids)
    kit, tables = root / KIT / "data", [place / KAGGLE for place in _beside(root)]
    if kit.is_dir():
        meant = _of_the_kit(kit, root / "val", flat)
    elif table := next((table for table in tables if table.is_file()), None):
        meant = _of_kaggle(table, root / "val", flat)
    else:
        raise UserError(
            f"{root / 'val'} holds {len(flat)} images together, and nothing says what they show. Put {KAGGLE}, which "
            f"Kaggle has beside its folder ILSVRC, to {tables[-1]}; or unpack {KIT}.tar.gz of image-net.org to "
            f"{root / KIT}; or sort the images into folders {root / 'val'}/<WordNet id>"
        )
    place = {wnid: k for k, wnid in enumerate(wnids)}
    found = [(f"val/{file}", place[wnid]) for file, wnid in zip(flat, meant, strict=True) if wnid in place]
    return _rows(sorted(found, key=lambda row: row[1]))


def _images(folder: Path) -> list[str]:
    """Names of the images in a folder, in their order."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.name.lower().endswith(IMAGES) and not e.name.startswith("."))


def _rows(found: list[tuple[str, int]]) -> "pd.DataFrame":
    import pandas as pd

    rows = pd.DataFrame(found, columns=["file", "label"])
    return rows.assign(cluster=rows["file"], group="all", fold="")


def _beside(root: Path) -> list[Path]:
    """Folders in which Kaggle's table may lie; its own place, beside ILSVRC/Data/CLS-LOC, comes last."""
    return [root, *root.parents[1:3]] if root.parts[-2:] == ("Data", "CLS-LOC") else [root]


def _of_the_kit(kit: Path, val: Path, files: Sequence[str]) -> list[str]:
    """WordNet ids [N] of the images in `val`, which the kit numbers in the order of their names."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        synsets = loadmat(kit / "meta.mat", squeeze_me=True)["synsets"]
        truth = list(map(int, (kit / "ILSVRC2012_validation_ground_truth.txt").read_text(encoding="ascii").split()))
    except (OSError, KeyError, ValueError, TypeError, MatReadError) as error:
        raise UserError(f"{kit} cannot be read ({error}); extract {KIT}.tar.gz again") from None
    if len(files) != len(truth):
        raise UserError(f"{val}: {len(files)} images, but {kit} lists {len(truth)}; extract the archive again")
    name = {int(s[0]): str(s[1]) for s in synsets}
    return [name.get(number, "") for number in truth]


def _of_kaggle(table: Path, val: Path, files: Sequence[str]) -> list[str]:
    """WordNet ids [N] of the images in `val`; a line has an image's name without ending, then its class and boxes."""
    try:
        with table.open(encoding="utf-8", newline="") as lines:
            meant = {line["ImageId"]: line["PredictionString"].split()[0] for line in csv.DictReader(lines)}
    except (OSError, ValueError, KeyError, AttributeError, IndexError) as error:
        raise UserError(f"{table} cannot be read ({error!r}); get Kaggle's {KAGGLE} again") from None
    names = [Path(file).stem for file in files]
    if unknown := [name for name in names if name not in meant]:
        raise UserError(f"{table} does not list {unknown[0]}, which is in {val}; get Kaggle's {KAGGLE} again")
    if len(names) != len(meant):
        raise UserError(f"{val}: {len(names)} images, but {table} lists {len(meant)}; extract the archive again")
    return [meant[name] for name in names]
