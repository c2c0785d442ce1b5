"""ImageNet with its shifted test sets: V2, R, A, Sketch, ObjectNet, ImageNet-C and two sets of videos.

C = 1000 classes in the order of their WordNet ids. No pandas at import: the Snakefile imports this module.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surefoot.files import UserError
from surefoot.mistakes import suggestion
from surefoot.seeds import unit
from surefoot.task_entries import BenchmarkTask
from surefoot.tasks import EvalSet, Part, Target, Task
from surefoot.tasks.benchmarks import Prepared, hold_out, known_names, selector
from surefoot.tasks.imagenet_files import by_class, test_images
from surefoot.tasks.imagenet_sources import CORRUPTIONS, SEVERITY, SOURCES
from surefoot.tasks.imagenet_videos import ANCHOR, vid_rows, ytbb_rows

if TYPE_CHECKING:
    import pandas as pd

HELD_OUT = 0.01  # of each class of the training set, for id_val
# Test images of a class that corrupted validation images and adaptations may show: one for each standard corruption.
POOL = 15
TARGET_VAL = 10  # of these, in adaptations (Surgical Fine-Tuning's code); 5 are left for training

STANDARD = tuple(name for group, names in CORRUPTIONS.items() if group != "extra" for name in names)
KNOWN = (*STANDARD, *CORRUPTIONS["extra"])


@cache
def tables() -> dict[str, Any]:
    """Class names, templates and index tables, as WiSE-FT's code has them.

    wnids and names [C] (open_clip's and OpenAI's names, of which two occur twice), templates [80], r and a [200]:
    classes of ImageNet-R and A; objectnet: folder -> classes that mean it, as vid (a list) and ytbb of the videos.
    """
    return json.loads((Path(__file__).parent / "data" / "imagenet.json").read_text(encoding="utf-8"))


def _train(root: Path) -> "pd.DataFrame":
    return hold_out(by_class(root, "train", tables()["wnids"]), HELD_OUT)


def pooled(rows: "pd.DataFrame") -> "pd.DataFrame":
    """Cut the 50 test images of each class: `fold` becomes 'val' for POOL of them (half of fewer than 30), else 'test'.

    The cut follows the names of the files, so ImageNet-C, which has the same names, is cut alike; the column `place`
    counts the images of 'val' within their class.
    """
    rows = rows.assign(key=[unit("pool", Path(file).stem) for file in rows["file"]])
    place = rows.groupby("label")["key"].rank(method="first").astype("int64") - 1
    size = (rows.groupby("label")["key"].transform("size") // 2).clip(upper=POOL)
    rows = rows.assign(fold=["val" if here else "test" for here in place < size], place=place, pool=size)
    return rows.drop(columns="key")


def _val(root: Path) -> "pd.DataFrame":
    return pooled(test_images(root, tables()["wnids"])).drop(columns=["place", "pool"])


def _corrupted(corruption: str, root: Path) -> "pd.DataFrame":
    """All 50,000 images under one corruption; the cluster is the image, whatever the corruption."""
    rows = pooled(by_class(root, f"{corruption}/{SEVERITY}", tables()["wnids"]))
    return rows.assign(cluster=[Path(file).stem for file in rows["file"]]).drop(columns=["place", "pool"])


def _corrupted_val(corruption: str, root: Path) -> "pd.DataFrame":
    """One image of each class under one corruption, from the pool; the standard corruptions take different ones."""
    rows = pooled(by_class(root, f"{corruption}/{SEVERITY}", tables()["wnids"]))
    rows = rows[(rows["fold"] == "val") & (rows["place"] == KNOWN.index(corruption) % POOL % rows["pool"])]
    rows = rows.assign(cluster=[Path(file).stem for file in rows["file"]], fold="")
    return rows.drop(columns=["place", "pool"])


def _whole(at: str, table: str, root: Path) -> "pd.DataFrame":
    """An image set in class folders, named by WordNet ids of some classes or, `table` objectnet, by its own words."""
    if table == "numbers":  # ImageNetV2: sorted as text they would be in another order
        return by_class(root, at, [str(number) for number in range(1000)])
    known = tables()
    if table in ("r", "a"):
        return by_class(root, at, [known["wnids"][column] for column in known[table]])
    return by_class(root, at, list(known[table]))


@dataclass(frozen=True)
class Shift:
    """A shifted test set: its title, the split's source, folder, table of class folders, and number of images."""

    title: str
    source: str
    folder: str
    table: str
    images: int
    border: int = 0


SHIFTS = {
    "v2": Shift(
        "ImageNetV2 (matched frequency)", "imagenetv2", "imagenetv2-matched-frequency-format-val", "numbers", 10000
    ),
    "r": Shift("ImageNet-R", "imagenet-r", "imagenet-r", "r", 30000),
    "sketch": Shift("ImageNet-Sketch", "imagenet-sketch", "sketch", "wnids", 50889),
    "objectnet": Shift("ObjectNet", "objectnet", "objectnet-1.0/images", "objectnet", 18574),
    "a": Shift("ImageNet-A", "imagenet-a", "imagenet-a", "a", 7500),
    "objectnet_cut": Shift("ObjectNet (border cut)", "objectnet", "objectnet-1.0/images", "objectnet", 18574, border=2),
}
PAPERS = ("v2", "r", "sketch", "objectnet", "a")
VIDEOS = {"vid_robust": "ImageNet-Vid-Robust", "ytbb_robust": "YTBB-Robust"}
TEST_SETS = (*SHIFTS, *VIDEOS, "c")
OOD_VAL = ("c", "v2", "sketch")

SPLITS: dict[str, Prepared] = {
    "train": Prepared("imagenet", _train, images=1281167, stream=True),
    "val": Prepared("imagenet", _val, images=50000),
    **{
        name: Prepared(s.source, partial(_whole, s.folder, s.table), images=s.images, border=s.border)
        for name, s in SHIFTS.items()
    },
    "vid_robust": Prepared(
        "imagenet-videos", lambda root: vid_rows(tables()["wnids"], tables()["vid"], root), about=22179
    ),
    "ytbb_robust": Prepared(
        "imagenet-videos", lambda root: ytbb_rows(list(tables()["ytbb"]), root), about=57897 - 22179
    ),
    **{
        f"c-{name}": Prepared(f"imagenet-c-{group}", partial(_corrupted, name), images=50000)
        for group, names in CORRUPTIONS.items()
        for name in names
    },
    **{
        f"c-{name}-val": Prepared(f"imagenet-c-{group}", partial(_corrupted_val, name), images=1000)
        for group, names in CORRUPTIONS.items()
        for name in names
    },
}


def build(name: str, entry: BenchmarkTask) -> Task:
    """The task of a config entry.

    Raises UserError for an unknown data set, test set, validation set or corruption, and for a test set that chooses.
    """
    where = f"tasks.{name}"
    if entry.data != "imagenet":
        raise UserError(f"{where}.data: unknown data set {entry.data!r}{suggestion(entry.data, ['imagenet'])}")
    if entry.shift not in ("style", "corrupt"):
        raise UserError(f"{where}.shift: {entry.shift} is not known of imagenet; use style, or corrupt (ImageNet-C)")
    adapts = entry.shift == "corrupt"
    published = entry.selection == "as_published"
    ood_val = known_names(f"{where}.ood_val", entry.ood_val, OOD_VAL, () if adapts else ("c",))
    unseen = PAPERS if published else tuple(s for s in PAPERS if s not in ood_val)
    test_sets = known_names(f"{where}.test_sets", entry.test_sets, TEST_SETS, () if adapts else unseen)
    corruptions = known_names(f"{where}.corruptions", entry.corruptions, KNOWN, STANDARD)
    if entry.corruptions and not (adapts or "c" in (*ood_val, *test_sets)):
        raise UserError(f"{where}.corruptions: no corrupted images are asked for; add c to ood_val or test_sets")
    if not adapts and not test_sets:
        raise UserError(f"{where}.test_sets: empty; name one of {', '.join(TEST_SETS)}")
    if (twice := [s for s in ood_val if s in test_sets and s != "c"]) and not published:
        raise UserError(
            f"{where}: {twice[0]} both chooses (ood_val) and is reported (test_sets); leave it out of one, or say "
            "selection: as_published"
        )
    # Corrupted validation images are test images too: those leave id_test and the corrupted test sets.
    clean = "test" if "c" in ood_val and not published else ""
    sets = [
        _id_val(entry, published),
        EvalSet("id_test", "ImageNet (test)", "id_test", (Part("val", clean),)),
    ]
    if ood_val:
        parts = [Part(f"c-{c}-val", "") for c in corruptions] if "c" in ood_val else []
        parts += [Part(s, "") for s in ood_val if s != "c"]
        titles = ["ImageNet-C" if s == "c" else SHIFTS[s].title for s in ood_val]
        sets.append(EvalSet("ood_val", " and ".join(titles), "ood_val", tuple(parts)))
    for shift in test_sets:
        sets += _corrupted_sets(corruptions, clean) if shift == "c" else _shifted_sets(shift)
    known = tables()
    return Task(
        name=name,
        dataset="imagenet",
        title=f"ImageNet, {entry.shots} images a class" if entry.shots else "ImageNet",
        classes=_class_names(),
        prompt_names=tuple(known["names"]),
        templates=tuple(known["templates"]),
        cluster="image (in ImageNet-C the image that was corrupted, in videos an anchor with its frames)",
        train=(Part("train", "" if published and not entry.shots else "train"),),
        eval_sets=tuple(sets),
        licences=_licences(sets),
        select=selector(1000, entry.shots),
        targets=tuple(_target(c) for c in corruptions) if adapts else (),
        note=_note(entry, ood_val, test_sets, published),
        exact=True,
        grouped=False,
    )


def _class_names() -> tuple[str, ...]:
    """The names, those that two classes share with their WordNet ids."""
    names, wnids = tables()["names"], tables()["wnids"]
    return tuple(n if names.count(n) == 1 else f"{n} ({wnid})" for n, wnid in zip(names, wnids, strict=True))


def _id_val(entry: BenchmarkTask, published: bool) -> EvalSet:
    if published:
        return EvalSet("id_val", "ImageNet (test)", "id_val", (Part("val", ""),), note="the reported test set")
    # Few-shot tasks choose on no more images than they train on.
    take = (0, entry.shots) if entry.shots else None
    return EvalSet("id_val", "ImageNet (held out of train)", "id_val", (Part("train", "val", take),))


def _shifted_sets(name: str) -> list[EvalSet]:
    known = tables()
    if name in VIDEOS:
        means = known["vid"] if name == "vid_robust" else known["ytbb"].values()
        columns = tuple(map(tuple, means))
        return [
            EvalSet(name, f"{VIDEOS[name]} (pm-0)", "ood_test", (Part(name, ANCHOR),), columns=columns),
            EvalSet(
                f"{name}_pm10",
                f"{VIDEOS[name]} (pm-10)",
                "ood_test",
                (Part(name, ""),),
                note="an anchor counts where all its frames are right",
                columns=columns,
                metric="all_frames",
            ),
        ]
    shift = SHIFTS[name]
    columns = known[shift.table] if shift.table in ("r", "a", "objectnet") else ()
    groups = columns.values() if isinstance(columns, dict) else [[column] for column in columns]
    return [EvalSet(name, shift.title, "ood_test", (Part(name, ""),), columns=tuple(map(tuple, groups)))]


def _corrupted_sets(corruptions: Sequence[str], fold: str) -> list[EvalSet]:
    return [
        EvalSet(f"c_{c}", f"ImageNet-C {c.replace('_', ' ')}", "ood_test", (Part(f"c-{c}", fold),)) for c in corruptions
    ]


def _target(corruption: str) -> Target:
    title = f"ImageNet-C {corruption.replace('_', ' ')}, severity {SEVERITY}"
    return Target(corruption, title, f"c-{corruption}", validation=TARGET_VAL)


def _licences(sets: Sequence[EvalSet]) -> str:
    splits = dict.fromkeys(["train", *(part.split for s in sets for part in s.parts)])
    names = dict.fromkeys(SPLITS[split].source for split in splits)
    return "; ".join(f"{name}: {SOURCES[name].licence}" for name in names)


def _note(entry: BenchmarkTask, ood_val: Sequence[str], test_sets: Sequence[str], published: bool) -> str:
    parts = [
        "Test: ILSVRC 2012's validation images. Names and templates are OpenAI's, as open_clip ships them; missile and "
        "sunglasses are two classes each."
    ]
    if published:
        parts.append("id_val is the reported test set, as in the papers' code, and nothing is held out of train.")
    else:
        parts.append(f"id_val is {HELD_OUT:.0%} of each training class, drawn once for all seeds.")
    if entry.shots and published:
        parts.append("The images are drawn per seed from what is not held out; the papers' draws are not published.")
    elif entry.shots:
        parts.append(
            f"id_val has at most {entry.shots} of them a class. The training images are drawn per seed; the papers' "
            "draws are not published."
        )
    if "c" in ood_val:
        parts.append(
            f"ood_val: severity {SEVERITY}, one image a class and corruption, different images for the 15 standard "
            "corruptions (AutoFT's code meant that and read zoom_blur only). They are corrupted test images"
            + (", reported clean as well." if published else ", so id_test leaves their clean versions out.")
        )
    if entry.shift == "corrupt":
        parts.append(
            f"Targets: a pool of {POOL} images a class ({TARGET_VAL} to choose, at most {POOL - TARGET_VAL} to train), "
            "the same ones under every corruption; the other 35 are the test (10 in the papers' code)."
        )
    if twice := [s for s in ood_val if s in test_sets and s != "c"]:
        parts.append(f"{', '.join(twice)} chooses and is reported.")
    if "c" in ood_val and "c" in test_sets:
        images = "its images among them" if published else "on other images"
        parts.append(f"The corruptions of the test are those of ood_val, {images}.")
    if set(test_sets) & set(VIDEOS):
        parts.append(
            "Videos: the largest logit of the ImageNet classes that mean a label; any right label of a frame counts "
            "(in YTBB-Robust those of its anchor, of anchors and frames that annotators found good). The average under "
            "shift is over pm-0 and pm-10 alike; a video with several anchors is resampled as several."
        )
    if set(test_sets) & {"objectnet", "objectnet_cut"}:
        parts.append(
            "ObjectNet: 113 classes, the largest logit of their 125 ImageNet classes; with its red border of 2 pixels, "
            "which the code of WiSE-FT, FLYP and AutoFT means to cut and does not (objectnet_cut: without it)."
        )
    return " ".join(parts)
