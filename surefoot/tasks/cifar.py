"""CIFAR-10 with CIFAR-10.1, CIFAR-10.2, CIFAR-10-C and flipped labels.

Images are arrays, not files; the column `row` says where. No pandas at import: the Snakefile imports this module.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.files import UserError
from surefoot.mistakes import suggestion
from surefoot.seeds import unit
from surefoot.sources import File, Source
from surefoot.task_entries import BenchmarkTask
from surefoot.tasks import EvalSet, Part, Target, Task
from surefoot.tasks.benchmarks import Prepared, hold_out, known_names, selector

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TEMPLATES = (
    "a photo of a {}.",
    "a blurry photo of a {}.",
    "a black and white photo of a {}.",
    "a low contrast photo of a {}.",
    "a high contrast photo of a {}.",
    "a bad photo of a {}.",
    "a good photo of a {}.",
    "a photo of a small {}.",
    "a photo of a big {}.",
    "a photo of the {}.",
    "a blurry photo of the {}.",
    "a black and white photo of the {}.",
    "a low contrast photo of the {}.",
    "a high contrast photo of the {}.",
    "a bad photo of the {}.",
    "a good photo of the {}.",
    "a photo of the small {}.",
    "a photo of the big {}.",
)
PIXELS, SIDE, IMAGES = 3072, 32, 10000  # bytes of an image, pixels of a side, images of a file
SEVERITY = 5
POOL = 0.2  # part of the test images of each class that corrupted validation and adaptation images show
TARGET_VAL = 10  # of these, images a class that choose in adaptations
HELD_OUT = 0.1

# Those of the released Surgical Fine-Tuning command; AutoFT's search takes all.
SURGICAL = (
    "frost",
    "gaussian_blur",
    "gaussian_noise",
    "glass_blur",
    "impulse_noise",
    "jpeg_compression",
    "motion_blur",
    "pixelate",
    "saturate",
    "shot_noise",
    "snow",
    "spatter",
    "speckle_noise",
    "zoom_blur",
)
CORRUPTIONS = (*SURGICAL, "brightness", "contrast", "defocus_blur", "elastic_transform", "fog")
TITLES = {"cifar10_1": "CIFAR-10.1", "cifar10_2": "CIFAR-10.2"}
TEST_SETS, OOD_VAL = (*TITLES, "c"), ("c", *TITLES)
NUMPY = "https://github.com/modestyachts"


def _rows(file: str, labels: "np.ndarray", names: Sequence[str] | None = None) -> "pd.DataFrame":
    import pandas as pd

    if len(labels) and not 0 <= min(labels) <= max(labels) < len(CLASSES):
        raise UserError(f"{file}: a label is outside 0 to 9; the file is damaged or not of CIFAR-10")
    rows = pd.DataFrame({"file": file, "row": range(len(labels)), "label": labels.astype("int64")})
    rows["cluster"] = names if names is not None else [f"{file} {row}" for row in rows["row"]]
    return rows.assign(group="all", fold="")


def records(root: Path, file: str, labels: int = 1) -> "np.ndarray":
    """uint8 [N, labels + 3072] of a file of the binary version: the labels and three colour planes of each image.

    Raises UserError for a file that is missing or cut off.
    """
    import numpy as np

    path, length = root / file, labels + PIXELS
    if not path.is_file():
        archive = path.parent.name.replace("-batches-bin", "-binary")
        raise UserError(
            f"{path} is missing: get the binary version ({archive}.tar.gz); the Python version is "
            "pickled, which runs code when it is read"
        )
    content = np.fromfile(path, np.uint8)
    if not len(content) or len(content) % length:
        raise UserError(f"{path} has {len(content)} bytes, no multiple of {length}: it is cut off; get it again")
    return content.reshape(-1, length)


def pictures(content: "np.ndarray") -> "np.ndarray":
    """uint8 [N, 32, 32, 3] of the records of some images, whose last bytes are the three colour planes."""
    return content[:, -PIXELS:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)


def _binary(files: Sequence[str], root: Path) -> "pd.DataFrame":
    import pandas as pd

    at = "cifar-10-batches-bin"
    return pd.concat([_rows(f"{at}/{f}", records(root, f"{at}/{f}")[:, 0]) for f in files], ignore_index=True)


def _train(root: Path) -> "pd.DataFrame":
    return hold_out(_binary([f"data_batch_{number}.bin" for number in range(1, 6)], root), HELD_OUT)


def pooled(rows: "pd.DataFrame") -> "pd.DataFrame":
    """Cut the test images: `fold` becomes 'val' for POOL of each class, else 'test'.

    The cut and the cluster follow the number of the test image, so CIFAR-10-C, which shows the same ones, is cut alike.
    """
    rows = rows.assign(cluster=[f"test {row % IMAGES}" for row in rows["row"]])
    key = rows["row"].map(lambda row: unit("cifar pool", row % IMAGES))
    place = key.groupby(rows["label"]).rank(method="first") - 1
    size = (rows.groupby("label")["label"].transform("size") * POOL).astype("int64").clip(lower=1)
    return rows.assign(fold=["val" if here else "test" for here in place < size])


def _test(root: Path) -> "pd.DataFrame":
    return pooled(_binary(["test_batch.bin"], root))


def _read_binary(root: Path, rows: "pd.DataFrame") -> Iterator["np.ndarray"]:
    for file, part in rows.groupby("file", sort=False):
        yield from pictures(records(root, str(file))[part["row"].to_numpy()]).copy()


def _array(root: Path, file: str, key: str = "") -> "np.ndarray":
    """A plain array of a .npy file (mapped) or of a .npz file. Raises UserError for a pickled or damaged one."""
    import numpy as np

    path = root / file
    try:
        found = np.load(path, mmap_mode=None if key else "r", allow_pickle=False)
        return found[key] if key else found
    except FileNotFoundError:
        raise UserError(f"{path} is missing; complete the data set, or correct data_root") from None
    except (ValueError, KeyError, EOFError, OSError) as error:
        raise UserError(f"{path} cannot be read ({error}); it is cut off, or another version of the file") from None


V6 = "cifar10.1_v6_data.npy", "cifar10.1_v6_labels.npy"
V2 = "cifar102_test.npz"


def _v6(root: Path) -> "pd.DataFrame":
    return _rows(V6[0], _array(root, V6[1]))


def _v2(root: Path) -> "pd.DataFrame":
    return _rows(V2, _array(root, V2, "labels"))


def _corrupted(corruption: str, root: Path) -> "pd.DataFrame":
    """The test images under one corruption at severity 5: the last of the five blocks of a file."""
    file = f"CIFAR-10-C/{corruption}.npy"
    labels, images = _array(root, "CIFAR-10-C/labels.npy"), _array(root, file)
    if len(labels) != len(images):
        raise UserError(f"{root / file} has {len(images)} images, but labels.npy {len(labels)} labels; get both again")
    rows = _rows(file, labels)
    block = len(rows) // 5
    return pooled(rows[(SEVERITY - 1) * block : SEVERITY * block].reset_index(drop=True))


def _read_arrays(root: Path, rows: "pd.DataFrame") -> Iterator["np.ndarray"]:
    for file, part in rows.groupby("file", sort=False):
        images = _array(root, str(file), "images" if str(file).endswith(".npz") else "")
        yield from (images[row] for row in part["row"])


SOURCES: dict[str, Source] = {
    "cifar10": Source(
        name="cifar10",
        files=(
            File(
                "cifar-10-binary.tar.gz",
                ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
                sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                size=170_052_171,
            ),
        ),
        needs=("cifar-10-batches-bin/data_batch_1.bin", "cifar-10-batches-bin/test_batch.bin"),
        folders=(".", "cifar10", "cifar-10"),
        pickled="cifar-10-batches-py",
        licence="open; no licence stated",
        size=184_380_000,
    ),
    "cifar10_1": Source(
        name="cifar10_1",
        files=(
            File(
                V6[0],
                (f"{NUMPY}/CIFAR-10.1/raw/master/datasets/{V6[0]}",),
                sha256="2997188e5816f5bd545dc77771b6227828c28146049fcecf3fa10775474cacc6",
                size=6_144_128,
            ),
            File(
                V6[1],
                (f"{NUMPY}/CIFAR-10.1/raw/master/datasets/{V6[1]}",),
                sha256="ae40beda001693674edc94d925ee8268cfe68905f8f9aff800c8dcdfcd6c9448",
                size=8_128,
            ),
        ),
        needs=V6,
        folders=(".", "CIFAR-10.1", "cifar10_1", "CIFAR-10.1/datasets"),
        licence="MIT",
    ),
    "cifar10_2": Source(
        name="cifar10_2",
        files=(
            File(
                V2,
                (f"{NUMPY}/cifar-10.2/raw/521467a/{V2}",),
                git_blob="7a3829681be56af70ea80ec99cf3822e2f5edff3",
            ),
        ),
        needs=(V2,),
        folders=(".", "cifar-10.2", "cifar10_2", "CIFAR-10.2"),
        licence="open; no licence file",
    ),
    "cifar10_c": Source(
        name="cifar10_c",
        files=(
            File(
                "CIFAR-10-C.tar",
                ("https://zenodo.org/records/2535967/files/CIFAR-10-C.tar",),
                sha256="c72763e101c723b7c507b96205f7e938912a5d587376173b825850cf3cb876a7",
                md5="56bf5dcef84df0e2308c6dcbcbbd8499",
                size=2_918_471_680,
            ),
        ),
        needs=("CIFAR-10-C/labels.npy",),
        folders=(".", "cifar10_c"),
        licence="CC BY 4.0",
        size=2_918_471_680,
    ),
}
SPLITS: dict[str, Prepared] = {
    "cifar10-train": Prepared("cifar10", _train, images=50000, read=_read_binary),
    "cifar10-test": Prepared("cifar10", _test, images=10000, read=_read_binary),
    "cifar10_1": Prepared("cifar10_1", _v6, images=2000, read=_read_arrays),
    "cifar10_2": Prepared("cifar10_2", _v2, images=2000, read=_read_arrays),
    **{
        f"c-{name}": Prepared("cifar10_c", partial(_corrupted, name), images=10000, read=_read_arrays)
        for name in CORRUPTIONS
    },
}


def build(name: str, entry: BenchmarkTask) -> Task:
    """The task of a config entry.

    Raises UserError for an unknown data set, test set, validation set or corruption, and for a test set that chooses.
    """
    where = f"tasks.{name}"
    if entry.data != "cifar10":
        raise UserError(f"{where}.data: unknown data set {entry.data!r}{suggestion(entry.data, ['cifar10'])}")
    if entry.shift not in ("style", "corrupt", "flip"):
        raise UserError(f"{where}.shift: {entry.shift} is not known of CIFAR-10; use style, corrupt or flip")
    adapts, published = entry.shift != "style", entry.selection == "as_published"
    ood_val = known_names(f"{where}.ood_val", entry.ood_val, OOD_VAL, () if adapts else ("c",))
    others = tuple(test for test in TITLES if test not in ood_val)
    test_sets = known_names(f"{where}.test_sets", entry.test_sets, TEST_SETS, () if adapts else others)
    corruptions = known_names(
        f"{where}.corruptions", entry.corruptions, CORRUPTIONS, SURGICAL if adapts else CORRUPTIONS
    )
    if not adapts and not test_sets:
        raise UserError(f"{where}.test_sets: empty; name one of {', '.join(TEST_SETS)}")
    if (twice := [test for test in ood_val if test in TITLES and test in test_sets]) and not published:
        raise UserError(f"{where}: {twice[0]} both chooses (ood_val) and is reported (test_sets); leave it out of one")
    # Corrupted validation images and images that are adapted to are test images too: those leave the reported sets.
    clean = "test" if "c" in ood_val or adapts else ""
    held_out = EvalSet("id_val", "CIFAR-10 (held out of train)", "id_val", (Part("cifar10-train", "val"),))
    same = EvalSet("id_val", "CIFAR-10 (test)", "id_val", (Part("cifar10-test", clean),), note="the reported test set")
    sets = [
        same if published else held_out,
        EvalSet("id_test", "CIFAR-10 (test)", "id_test", (Part("cifar10-test", clean),)),
    ]
    if ood_val:
        parts = [Part(f"c-{kind}", "val") for kind in corruptions] if "c" in ood_val else []
        parts += [Part(test, "") for test in ood_val if test != "c"]
        titles = " and ".join("CIFAR-10-C" if test == "c" else TITLES[test] for test in ood_val)
        sets.append(EvalSet("ood_val", titles, "ood_val", tuple(parts)))
    for test in test_sets:
        if test == "c":
            sets += [
                EvalSet(f"c_{kind}", f"CIFAR-10-C {_words(kind)}", "ood_test", (Part(f"c-{kind}", clean),))
                for kind in corruptions
            ]
        else:
            sets.append(EvalSet(test, TITLES[test], "ood_test", (Part(test, ""),)))
    used = dict.fromkeys(["cifar10-train", *(part.split for s in sets for part in s.parts)])
    sources = dict.fromkeys(SPLITS[split].source for split in used)
    return Task(
        name=name,
        dataset="cifar",
        title=f"CIFAR-10, {entry.shots} images a class" if entry.shots else "CIFAR-10",
        classes=CLASSES,
        prompt_names=CLASSES,
        templates=TEMPLATES,
        cluster="image (in CIFAR-10-C the image that was corrupted)",
        train=(Part("cifar10-train", "" if published and not entry.shots else "train"),),
        eval_sets=tuple(sets),
        licences="; ".join(f"{source}: {SOURCES[source].licence}" for source in sources),
        select=selector(len(CLASSES), entry.shots, flip=entry.shift == "flip"),
        targets=_targets(entry.shift, corruptions),
        note=_note(entry, ood_val),
        exact=True,
        grouped=False,
    )


def _targets(shift: str, corruptions: Sequence[str]) -> tuple[Target, ...]:
    if shift == "flip":
        return (Target("flip", "labels flipped", "cifar10-test", TARGET_VAL),)
    if shift == "corrupt":
        return tuple(Target(kind, f"CIFAR-10-C {_words(kind)}", f"c-{kind}", TARGET_VAL) for kind in corruptions)
    return ()


def _words(kind: str) -> str:
    return kind.replace("_", " ")


def _note(entry: BenchmarkTask, ood_val: Sequence[str]) -> str:
    parts = [
        "Images of 32 pixels are enlarged by the model's evaluation transform. CIFAR-10.2 is its 2,000 test images, as "
        "in WiSE-FT (AutoFT's code reads the 10,000 training images). Templates are OpenAI's for CLIP; which ones the "
        "papers used is not verified."
    ]
    if entry.selection == "as_published":
        parts.append("id_val is the reported test set, as in the papers' code, and nothing is held out of train.")
    else:
        parts.append(f"id_val is {HELD_OUT:.0%} of each training class, drawn once for all seeds.")
    if "c" in ood_val:
        parts.append(
            f"ood_val: {POOL:.0%} of the test images of each class under every corruption at severity {SEVERITY}; they "
            "leave the test sets (AutoFT's code shuffled images and labels apart)."
        )
    if entry.shift in ("corrupt", "flip"):
        parts.append(
            f"Targets: {POOL:.0%} of the test images of each class are a pool ({TARGET_VAL} choose, shots train), the "
            "others the test (90 a class in the released code)."
        )
    if entry.shift == "flip":
        parts.append("Label y becomes 9 - y; that this is the paper's permutation is not verified.")
    return " ".join(parts)
