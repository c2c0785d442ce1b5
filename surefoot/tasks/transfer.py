"""Data sets of transfer learning, with one test set and no shifted one: AutoFT's and others of CLIP's evaluation.

N rows. No pandas at import: the Snakefile imports this module.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surefoot import config
from surefoot.files import UserError
from surefoot.seeds import unit
from surefoot.sources import File, Source
from surefoot.tasks import EvalSet, Part, Task
from surefoot.tasks.benchmarks import Prepared, hold_out, selector
from surefoot.tasks.imagenet import by_class

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
        near = config.suggestion(unknown[0], classes)
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
    labels = _records(root, file)[:, 1].astype("int64")
    rows = pd.DataFrame({"file": file, "row": range(len(labels)), "label": labels})
    if rows["label"].max() > 99:
        raise UserError(f"{root / file}: a label is outside 0 to 99; the file is damaged or not of CIFAR-100")
    return rows.assign(cluster=[f"{split} {row}" for row in rows["row"]], group="all", fold="")


def _records(root: Path, file: str) -> "np.ndarray":
    """uint8 [N, 3074]: coarse label, label and the three colour planes of each image."""
    import numpy as np

    path = root / file
    if not path.is_file():
        raise UserError(
            f"{path} is missing: get the binary version (cifar-100-binary.tar.gz); the Python version is pickled, "
            "which runs code when it is read"
        )
    content = np.fromfile(path, np.uint8)
    if not len(content) or len(content) % 3074:
        raise UserError(f"{path} has {len(content)} bytes, no multiple of 3074: it is cut off; get it again")
    return content.reshape(-1, 3074)


def _read_cifar100(root: Path, rows: "pd.DataFrame") -> Iterator["np.ndarray"]:
    for file, part in rows.groupby("file", sort=False):
        images = _records(root, str(file))[part["row"].to_numpy(), 2:]
        yield from images.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1).copy()


def _opened(path: Path) -> Any:
    """An HDF5 file. Raises UserError where h5py or the file is missing, or the file is damaged."""
    try:
        import h5py
    except ImportError:
        raise UserError(
            "PatchCamelyon is stored as HDF5: install h5py into the environment (pip install h5py)"
        ) from None
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
    images: dict[str, int] | None = None,
    held_out: float = 0.0,
    stream: bool = False,
    read: Callable[[Path, "pd.DataFrame"], Iterator[Any]] | None = None,
) -> Data:
    """A data set whose training images are 'train' but for what is held out, and maybe stay files."""
    splits = {}
    for name, rows in index.items():
        trains = name.startswith("train")
        how = partial(_train, rows, held_out) if trains else rows
        splits[name] = Prepared(source, how, (images or {}).get(name, 0), read, stream=stream and trains)
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
            "train": Prepared("caltech101", partial(_caltech101, False), stream=True),
            "test": Prepared("caltech101", partial(_caltech101, True)),
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

_PCAM = {
    "train_x": ("d619e741468a7ab35c7e4a75e6821b7e7e6c9411705d45708f2a0efc8960656c", 6_421_353_462),
    "train_y": ("b74126d2c01b20d3661f9b46765d29cf4e4fba6faba29c8e0d09d406331ab75a", 0),
    "valid_x": ("f82ee1670d027b4ec388048d9eabc2186b77c009655dae76d624c0ecb053ccb2", 805_965_320),
    "valid_y": ("ce1ae30f08feb468447971cfd0472e7becd0ad96d877c64120c72571439ae48c", 0),
    "test_x": ("79174c2201ad521602a5888be8f36ee10875f37403dd3f2086caf2182ef87245", 800_875_929),
    "test_y": ("0a522005fccc8bbd04c5a117bfaf81d8da2676f03a29d7499f71d0a0bd6068ef", 0),
}
_FLOWERS = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102"

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Source(
            name="sst2",
            files=(
                File(
                    "rendered-sst2.tgz",
                    ("https://openaipublic.azureedge.net/clip/data/rendered-sst2.tgz",),
                    md5="2384d08e9dcfa4bd55b324e610496ee5",
                ),
            ),
            needs=tuple(f"rendered-sst2/{split}" for split in ("train", "valid", "test")),
            folders=(".", "sst2"),
            licence="not verified",
        ),
        Source(
            name="pcam",
            files=tuple(
                File(
                    f"camelyonpatch_level_2_split_{part}.h5.gz",
                    (f"https://zenodo.org/records/2546921/files/camelyonpatch_level_2_split_{part}.h5.gz",),
                    sha256=digest,
                    size=size,
                    to="pcam",
                )
                for part, (digest, size) in _PCAM.items()
            ),
            needs=tuple(f"pcam/camelyonpatch_level_2_split_{part}.h5" for part in _PCAM),
            folders=(".", "PatchCamelyon"),
            licence="CC0 1.0",
        ),
        Source(
            name="caltech101",
            files=(
                File(
                    "caltech-101.zip",
                    ("https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",),
                    sha256="331234750fc7f77520e50d9565e8b6907b03565e30320da1401130db08c61f91",
                    md5="3138e1922a9193bfa496528edbbc45d0",
                    size=137_414_764,
                    to="caltech101",
                    strip=1,
                    inner="beside",
                ),
            ),
            needs=("caltech101/101_ObjectCategories",),
            folders=(".",),
            licence="not verified",
        ),
        Source(
            name="cars",
            files=(
                File(
                    "cars_train.tgz",
                    sha256="512b227b30e2f0a8aab9e09485786ab4479582073a144998da74d64b801fd288",
                    size=979_269_282,
                    to="stanford_cars",
                ),
                File(
                    "cars_test.tgz",
                    sha256="bffea656d6f425cba3c91c6d83336e4c5f86c6cffd8975b0f375d3a10da8e243",
                    size=977_350_468,
                    to="stanford_cars",
                ),
                File(
                    "cars_test_annos_withlabels.mat",
                    sha256="790f75be8ea34eeded134cc559332baf23e30e91367e9ddca97d26ed9b895f05",
                    size=185_758,
                    to="stanford_cars",
                ),
                File(
                    "car_devkit.tgz",
                    ("https://github.com/pytorch/vision/files/11644847/car_devkit.tgz",),
                    sha256="b97deb463af7d58b6bfaa18b2a4de9829f0f79e8ce663dfa9261bf7810e9accd",
                    size=330_960,
                    to="stanford_cars",
                ),
            ),
            needs=(
                "stanford_cars/devkit/cars_train_annos.mat",
                "stanford_cars/cars_test_annos_withlabels.mat",
                "stanford_cars/cars_train",
                "stanford_cars/cars_test",
            ),
            folders=(".",),
            licence="non-commercial research (its page is gone; not verified)",
            by_hand="The makers' host is gone. The images are on Kaggle (jessicali9530/stanford-cars-dataset), the "
            "labels of the test in an issue of torchvision (pytorch/vision#7545); put cars_train, cars_test, devkit "
            "and cars_test_annos_withlabels.mat into stanford_cars/ below data_root.transfer.",
        ),
        Source(
            name="flowers102",
            files=(
                File(
                    "102flowers.tgz",
                    (f"{_FLOWERS}/102flowers.tgz",),
                    sha256="2d01ecc807db462958cfe3d92f57a8c252b4abd240eb955770201e45f783b246",
                    size=344_862_509,
                    to="flowers-102",
                ),
                File(
                    "imagelabels.mat",
                    (f"{_FLOWERS}/imagelabels.mat",),
                    sha256="4903e94206bac23bf772aadf06451916df56b58fc483a62db32a97b82656651d",
                    size=502,
                    to="flowers-102",
                ),
                File(
                    "setid.mat",
                    (f"{_FLOWERS}/setid.mat",),
                    sha256="46b8678f91fd95d3c8f4feab80d271a6c834a1dd896fe29fd3e6ad9ce5c8dccd",
                    size=14_989,
                    to="flowers-102",
                ),
            ),
            needs=("flowers-102/jpg", "flowers-102/imagelabels.mat", "flowers-102/setid.mat"),
            folders=(".",),
            licence="not verified",
        ),
        Source(
            name="cifar100",
            files=(
                File(
                    "cifar-100-binary.tar.gz",
                    ("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",),
                    sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
                    size=168_513_733,
                ),
            ),
            needs=("cifar-100-binary/train.bin", "cifar-100-binary/test.bin"),
            folders=(".", "cifar100", "cifar-100"),
            licence="open; no licence stated",
        ),
        Source(
            name="dtd",
            files=(
                File(
                    "dtd-r1.0.1.tar.gz",
                    ("https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",),
                    sha256="e42855a52a4950a3b59612834602aa253914755c95b0cff9ead6d07395f8e205",
                    md5="fff73e5086ae6bdbea199a49dfb8a4c1",
                    size=625_239_812,
                ),
            ),
            needs=("dtd/images", "dtd/labels"),
            folders=(".", "dtd"),
            licence="not verified",
        ),
        Source(
            name="food101",
            files=(
                File(
                    "food-101.tar.gz",
                    ("http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",),
                    sha256="d97d15e438b7f4498f96086a4f7e2fa42a32f2712e87d3295441b2b6314053a4",
                    md5="85eeb15f3717b99a5da872d97d918f87",
                    size=4_996_278_331,
                ),
            ),
            needs=("food-101/images", "food-101/meta/train.json", "food-101/meta/test.json"),
            folders=(".",),
            licence="not verified",
        ),
        Source(
            name="sun397",
            files=(
                File(
                    "SUN397.tar.gz",
                    ("https://vision.princeton.edu/projects/2010/SUN/SUN397.tar.gz",),
                    sha256="f404130965a7ad77bed5ececc71e720ab50f3cc1e1bb257257610d38f3b928ec",
                    md5="8ca2778205c41d23104230ba66911c7a",
                    size=39_077_296_924,
                ),
                File(
                    "Partitions.zip",
                    ("https://vision.princeton.edu/projects/2010/SUN/download/Partitions.zip",),
                    sha256="e3311ea5f812d4cc6faef194688343d1111f6cd6f70f2c62f393c2b8d6ba1ec9",
                    size=18_293_705,
                    to="Partitions",
                ),
            ),
            needs=("SUN397",),
            folders=(".",),
            licence="not verified",
        ),
    )
}


def build(name: str, entry: config.BenchmarkTask) -> Task:
    """The task of a config entry. Raises UserError for an unknown data set and for choices that none of them offers."""
    where = f"tasks.{name}"
    if entry.data not in DATA:
        raise UserError(f"{where}.data: unknown data set {entry.data!r}{config.suggestion(entry.data, DATA)}")
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
    )
