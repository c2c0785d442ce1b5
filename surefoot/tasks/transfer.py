"""Data sets of transfer learning, with one test set and no shifted one: AutoFT's and others of CLIP's evaluation.

N rows. No pandas at import: the Snakefile imports this module.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surefoot.files import UserError
from surefoot.mistakes import suggestion
from surefoot.seeds import unit
from surefoot.task_entries import BenchmarkTask
from surefoot.tasks import EvalSet, Part, Task
from surefoot.tasks.benchmarks import Prepared, hold_out, selector
from surefoot.tasks.cifar import pictures, records
from surefoot.tasks.imagenet_files import by_class
from surefoot.tasks.transfer_sources import SOURCES

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

HELD_OUT = 0.1  # of each class, for id_val, where the makers name no validation images
POOL = 1024  # PatchCamelyon: training images a class from which few are drawn, so that few need not mean all


@cache
def tables() -> dict[str, dict[str, list[str]]]:
    """Data set -> classes (names on disk, in the order of the labels), words of the prompts, templates.

    OpenAI's words and templates for CLIP, as clip_benchmark ships them or as the names on disk give them.
    """
    return json.loads((Path(__file__).parent / "data" / "transfer.json").read_text(encoding="utf-8"))


# Rows ----------------------------------------------------------------------------------------------------------------


def _rows(data: str, files: Sequence[str], labels: Sequence[int], where: Path) -> "pd.DataFrame":
    """Rows of images in files of their own. Raises UserError for a label that no class has and for a missing file."""
    import pandas as pd

    classes = len(tables()[data]["classes"])
    if wrong := [label for label in labels if not 0 <= label < classes]:
        raise UserError(
            f"{where}: label {wrong[0]} is not one of 0 to {classes - 1}; it is another version of the data set"
        )
    rows = pd.DataFrame({"file": list(files), "label": list(labels)}).astype({"label": "int64"})
    return rows.assign(cluster=rows["file"], group="all", fold="")


def _train(index: Callable[[Path], "pd.DataFrame"], share: float, root: Path) -> "pd.DataFrame":
    """Training images, with a share of each class held out of them."""
    rows = index(root)
    return hold_out(rows, share) if share else rows.assign(fold="train")


def _labels(data: str, names: Sequence[str], where: Path) -> list[int]:
    """Labels of class names. Raises UserError for an unknown one."""
    classes = tables()[data]["classes"]
    known = {name: label for label, name in enumerate(classes)}
    if unknown := [name for name in names if name not in known]:
        near = suggestion(unknown[0], classes)
        raise UserError(f"{where}: unknown class {unknown[0]!r}{near}; it is another version of the data set")
    return [known[name] for name in names]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}); complete the data set, or correct data_root") from None


def _matlab(path: Path, *names: str) -> dict[str, Any]:
    """Variables of a MATLAB file. Raises UserError for a missing or damaged file and for a missing variable."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        found = loadmat(path, squeeze_me=True)
        return {name: found[name] for name in names}
    except (OSError, KeyError, ValueError, TypeError, MatReadError) as error:
        raise UserError(f"{path} cannot be read ({error}); it is cut off or another file; get it again") from None


def _sst2(folder: str, root: Path) -> "pd.DataFrame":
    return by_class(root, f"rendered-sst2/{folder}", tables()["sst2"]["classes"])


def _caltech101(test: bool, root: Path) -> "pd.DataFrame":
    """60 % of each class train, 20 % validate, 20 % test, drawn once: there is no official split."""
    at = "caltech101/101_ObjectCategories"
    if not (root / at).is_dir():
        raise UserError(f"there is no folder {root / at}; complete the data set, or correct data_root")
    found = {path.name.lower(): path.name for path in (root / at).iterdir()}
    rows = by_class(root, at, [found.get(name.lower(), name) for name in tables()["caltech101"]["classes"]])
    rows = hold_out(rows, 0.2)
    if test:
        return rows[rows["fold"] == "val"].assign(fold="").reset_index(drop=True)
    return hold_out(rows[rows["fold"] == "train"].reset_index(drop=True), 0.25)


def _cars(split: str, root: Path) -> "pd.DataFrame":
    top = root / "stanford_cars"
    path = top / ("devkit/cars_train_annos.mat" if split == "train" else "cars_test_annos_withlabels.mat")
    listed = _matlab(path, "annotations")["annotations"]
    if not {"fname", "class"} <= set(listed.dtype.names or ()):
        raise UserError(
            f"{path} has no file names and classes; the test needs the file with labels, which is in "
            "pytorch/vision#7545"
        )
    at = f"stanford_cars/cars_{split}"
    names = [str(name) for name in listed["fname"]]
    if names and not (root / at / names[0]).is_file() and (root / at / f"cars_{split}").is_dir():
        at = f"{at}/cars_{split}"  # as the copy on Kaggle lies
    return _rows("cars", [f"{at}/{name}" for name in names], [int(label) - 1 for label in listed["class"]], path)


def _flowers102(ids: str, root: Path) -> "pd.DataFrame":
    top = root / "flowers-102"
    labels = _matlab(top / "imagelabels.mat", "labels")["labels"]
    numbers = [int(number) for number in _matlab(top / "setid.mat", ids)[ids]]
    if numbers and not 1 <= min(numbers) <= max(numbers) <= len(labels):
        raise UserError(f"{top / 'setid.mat'} names image {max(numbers)}, but imagelabels.mat has {len(labels)} labels")
    files = [f"flowers-102/jpg/image_{number:05d}.jpg" for number in numbers]
    return _rows("flowers102", files, [int(labels[number - 1]) - 1 for number in numbers], top / "imagelabels.mat")


def _dtd(split: str, root: Path) -> "pd.DataFrame":
    """The first of the ten official partitions."""
    path = root / "dtd" / "labels" / f"{split}1.txt"
    files = _text(path).split()
    labels = _labels("dtd", [file.partition("/")[0] for file in files], path)
    return _rows("dtd", [f"dtd/images/{file}" for file in files], labels, path)


def _food101(split: str, root: Path) -> "pd.DataFrame":
    path = root / "food-101" / "meta" / f"{split}.json"
    try:
        listed = [file for files in json.loads(_text(path)).values() for file in files]
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path} is no list of files by class ({error}); get it again") from None
    labels = _labels("food101", [file.partition("/")[0] for file in listed], path)
    return _rows("food101", [f"food-101/images/{file}.jpg" for file in listed], labels, path)


def _sun397(split: str, root: Path) -> "pd.DataFrame":
    """The first of the ten official partitions."""
    lists = [root / place / f"{split}_01.txt" for place in ("Partitions", "SUN397", ".")]
    path = next((path for path in lists if path.is_file()), lists[0])
    files = _text(path).split()
    labels = _labels("sun397", [file.rpartition("/")[0] for file in files], path)
    return _rows("sun397", [f"SUN397{file}" for file in files], labels, path)


def _cifar100(split: str, root: Path) -> "pd.DataFrame":
    import pandas as pd

    file = f"cifar-100-binary/{split}.bin"
    labels = records(root, file, labels=2)[:, 1].astype("int64")  # the first byte is the coarse label
    rows = pd.DataFrame({"file": file, "row": range(len(labels)), "label": labels})
    if rows["label"].max() > 99:
        raise UserError(f"{root / file}: a label is outside 0 to 99; the file is damaged or not of CIFAR-100")
    return rows.assign(cluster=[f"{split} {row}" for row in rows["row"]], group="all", fold="")


def _read_cifar100(root: Path, rows: "pd.DataFrame") -> Iterator["np.ndarray"]:
    for file, part in rows.groupby("file", sort=False):
        yield from pictures(records(root, str(file), labels=2)[part["row"].to_numpy()]).copy()


def _opened(path: Path) -> Any:
    """An HDF5 file. Raises UserError for one that is missing or damaged."""
    import h5py

    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error}); complete the data set, or get the file again") from None


def _pcam(split: str, few: bool, root: Path) -> "pd.DataFrame":
    import pandas as pd

    file = f"pcam/camelyonpatch_level_2_split_{split}_x.h5"
    path = root / file.replace("_x.h5", "_y.h5")
    with _opened(path) as labels, _opened(root / file) as images:
        if "y" not in labels or "x" not in images:
            raise UserError(f"{path} and the file of images beside it have no data sets y and x; get both again")
        values, count = labels["y"][:].reshape(-1).astype("int64"), len(images["x"])
    if len(values) != count:
        raise UserError(f"{path} has {len(values)} labels, but {root / file} {count} images; get both again")
    if len(values) and not 0 <= values.min() <= values.max() <= 1:
        raise UserError(f"{path}: a label is neither 0 nor 1; the file is damaged or not of PatchCamelyon")
    rows = pd.DataFrame({"file": file, "row": range(count), "label": values})
    if few:
        place = rows["row"].map(lambda row: unit("pcam pool", row)).groupby(rows["label"]).rank(method="first")
        rows = rows[place <= POOL].reset_index(drop=True)
    return rows.assign(cluster=[f"{split} {row}" for row in rows["row"]], group="all", fold="")


def _read_pcam(root: Path, rows: "pd.DataFrame") -> Iterator["np.ndarray"]:
    for file, part in rows.groupby("file", sort=False):
        with _opened(root / str(file)) as opened:
            yield from (opened["x"][row] for row in part["row"])


# The data sets -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Data:
    """A data set: prepared splits by what they hold (train, maybe val, test), and what its card says.

    `held_out`: share of each class of train that is id_val where there is no split val.
    """

    title: str
    splits: dict[str, Prepared]
    note: str
    held_out: float = 0.0


def _data(
    title: str,
    source: str,
    index: dict[str, Callable[[Path], "pd.DataFrame"]],
    note: str,
    images: dict[str, int],
    held_out: float = 0.0,
    stream: bool = False,
    read: Callable[[Path, "pd.DataFrame"], Iterator[Any]] | None = None,
) -> Data:
    """A data set whose training images are 'train' but for what is held out, and maybe stay files."""
    splits = {}
    for name, rows in index.items():
        trains = name.startswith("train")
        how = partial(_train, rows, held_out) if trains else rows
        splits[name] = Prepared(source, how, images[name], read, stream=stream and trains)
    return Data(title, splits, note, held_out)


OFFICIAL = "Official splits."
CUT = "id_val is 20 % of each training class, drawn once; AutoFT's cut has this size, but other images."

DATA = {
    "sst2": _data(
        "Rendered SST2, sentences on films as images",
        "sst2",
        {name: partial(_sst2, "valid" if name == "val" else name) for name in ("train", "val", "test")},
        OFFICIAL,
        {"train": 6920, "val": 872, "test": 1821},
        stream=True,
    ),
    "pcam": _data(
        "PatchCamelyon, metastases in lymph nodes",
        "pcam",
        {
            "train": partial(_pcam, "train", False),
            "train_few": partial(_pcam, "train", True),
            "val": partial(_pcam, "valid", False),
            "test": partial(_pcam, "test", False),
        },
        f"{OFFICIAL} Training images for `shots` come from {POOL} of each class, drawn once. Patches of one slide are "
        "similar, which intervals do not know. AutoFT reads the images as JPEG; here they are as distributed.",
        {"train": 262144, "train_few": 2 * POOL, "val": 32768, "test": 32768},
        read=_read_pcam,
    ),
    "caltech101": Data(
        "Caltech-101, objects",
        {
            "train": Prepared("caltech101", partial(_caltech101, False), about=6940, stream=True),
            "test": Prepared("caltech101", partial(_caltech101, True), about=1740),
        },
        "No official split: 60 % train, 20 % id_val, 20 % test of each class, drawn once. AutoFT's shares are the "
        "same, its draw was not seeded. Without the background class.",
        held_out=0.25,
    ),
    "cars": _data(
        "Stanford Cars",
        "cars",
        {name: partial(_cars, name) for name in ("train", "test")},
        f"Official test set. {CUT}",
        {"train": 8144, "test": 8041},
        held_out=0.2,
        stream=True,
    ),
    "flowers102": _data(
        "Oxford 102 Flowers",
        "flowers102",
        {name: partial(_flowers102, ids) for name, ids in (("train", "trnid"), ("val", "valid"), ("test", "tstid"))},
        f"{OFFICIAL} Names are OpenAI's in the order of the labels; torchvision has others at three places.",
        {"train": 1020, "val": 1020, "test": 6149},
        stream=True,
    ),
    "cifar100": _data(
        "CIFAR-100",
        "cifar100",
        {name: partial(_cifar100, name) for name in ("train", "test")},
        f"Official test set; id_val is {HELD_OUT:.0%} of each training class.",
        {"train": 50000, "test": 10000},
        held_out=HELD_OUT,
        read=_read_cifar100,
    ),
    "dtd": _data(
        "Describable Textures",
        "dtd",
        {name: partial(_dtd, name) for name in ("train", "val", "test")},
        "First of the ten official partitions.",
        {"train": 1880, "val": 1880, "test": 1880},  # 40 of each class
        stream=True,
    ),
    "food101": _data(
        "Food-101",
        "food101",
        {name: partial(_food101, name) for name in ("train", "test")},
        f"Official test set, whose labels were checked by hand; those of the training set were not. id_val is "
        f"{HELD_OUT:.0%} of each training class.",
        {"train": 75750, "test": 25250},
        held_out=HELD_OUT,
        stream=True,
    ),
    "sun397": _data(
        "SUN397, scenes",
        "sun397",
        {"train": partial(_sun397, "Training"), "test": partial(_sun397, "Testing")},
        f"First of the ten official partitions; id_val is {HELD_OUT:.0%} of each training class.",
        {"train": 19850, "test": 19850},
        held_out=HELD_OUT,
        stream=True,
    ),
}
SPLITS: dict[str, Prepared] = {f"{data}-{name}": how for data in DATA for name, how in DATA[data].splits.items()}


def build(name: str, entry: BenchmarkTask) -> Task:
    """The task of a config entry. Raises UserError for an unknown data set and for choices that none of them offers."""
    where = f"tasks.{name}"
    if entry.data not in DATA:
        raise UserError(f"{where}.data: unknown data set {entry.data!r}{suggestion(entry.data, DATA)}")
    for key in ("test_sets", "ood_val", "corruptions"):
        if getattr(entry, key):
            raise UserError(f"{where}.{key}: {entry.data} has one test set, which is not shifted; leave the key out")
    if entry.shift != "style":
        raise UserError(f"{where}.shift: {entry.data} has no target to adapt to; leave the key out")
    if entry.selection == "as_published":
        raise UserError(f"{where}.selection: the papers chose on validation images too; leave the key out")
    data, shots, known = DATA[entry.data], entry.shots, tables()[entry.data]
    train = "train_few" if shots and "train_few" in data.splits else "train"
    if shots and train == "train_few" and shots > POOL:
        raise UserError(
            f"{where}.shots: {shots} is more than the {POOL} of each class that are kept; leave the key out"
        )
    take = (0, shots) if shots else None
    chosen = Part(f"{entry.data}-val", "", take) if "val" in data.splits else Part(f"{entry.data}-train", "val", take)
    note = data.note
    if shots:
        note += f" Training: {shots} images a class, drawn per seed; id_val has at most as many. The papers' draws are "
        note += "not published."
    return Task(
        name=name,
        dataset="transfer",
        title=f"{data.title}, {shots} images a class" if shots else data.title,
        classes=tuple(known["classes"]),
        prompt_names=tuple(known["words"]),
        templates=tuple(known["templates"]),
        cluster="image",
        train=(Part(f"{entry.data}-{train}", "train"),),
        eval_sets=(
            EvalSet("id_val", "Validation", "id_val", (chosen,)),
            EvalSet("id_test", "Test", "id_test", (Part(f"{entry.data}-test", ""),)),
        ),
        licences=SOURCES[entry.data].licence,
        select=selector(len(known["classes"]), shots),
        note=note,
        exact=True,
        grouped=False,
    )
