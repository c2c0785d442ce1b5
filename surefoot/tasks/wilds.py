"""Data sets of WILDS: iWildCam, FMoW, Camelyon17, Waterbirds and CelebA, with their official splits.

Their tables are read here; the package of the same name, whose data sets load torch and fail under current pandas, is
what tests compare with. N rows.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.files import UserError
from surefoot.mistakes import suggestion
from surefoot.roles import Role
from surefoot.task_entries import BenchmarkTask
from surefoot.tasks import EvalSet, Part, Target, Task, wilds_rows
from surefoot.tasks.benchmarks import Prepared, selector
from surefoot.tasks.wilds_rows import shipped
from surefoot.tasks.wilds_sources import SOURCES

if TYPE_CHECKING:
    import pandas as pd


class Words(str):
    """A class name in prompts: `{}` is the raw name, `{:s}` its words behind an article, as in two prompts of FMoW."""

    def __format__(self, spec: str) -> str:
        if spec != "s":
            return str(self)
        words = self.replace("_", " ")
        return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


# The data sets -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Data:
    """A data set: what its card says, and how its eval sets are made.

    Attributes:
        words: of the classes in prompts.
        index: (split, folder) -> its rows.
        sizes: prepared split -> images.
        shown: role -> title of its eval set.
        parts: role -> prepared split and fold of its eval set.
        adapts: shift of the task that adapts models to images of the shifted test set; empty: there is none.
        target: title and split of these images.
        pool: where its labelled images come from.
        choosing: how many of them a class choose in adaptations.
    """

    title: str
    classes: tuple[str, ...]
    words: tuple[str, ...]
    templates: tuple[str, ...]
    index: Callable[[str, Path], "pd.DataFrame"]
    sizes: dict[str, int]
    cluster: str
    note: str
    shown: dict[Role, str]
    parts: dict[Role, tuple[str, str]] = field(
        default_factory=lambda: {role: (role, "") for role in ("id_val", "ood_val", "id_test", "ood_test")}
    )
    adapts: str = ""
    target: tuple[str, str] = ("official validation and test sets", "shifted")
    pool: str = "the official validation set, and tested on the official test set"
    choosing: int = 100
    may_lack_classes: bool = False


CUT: dict[Role, tuple[str, str]] = {
    "id_val": ("train", "val"),
    "ood_val": ("shifted", "val"),
    "id_test": ("train", "test"),
    "ood_test": ("shifted", "test"),
}
REGIONS = ("asia", "africa", "the americas", "europe", "oceania")
VIEWS = ("satellite", "aerial")

DATA = {
    "iwildcam": Data(
        title="iWildCam (WILDS 2.0), animals in photographs of camera traps, shifted to other traps",
        classes=shipped("iwildcam_classes"),
        words=shipped("iwildcam_classes"),
        templates=("a photo of {}.", "{} in the wild."),
        index=wilds_rows.iwildcam,
        shown={
            "id_val": "the same traps (validation)",
            "ood_val": "other traps (validation)",
            "id_test": "the same traps (test)",
            "ood_test": "other traps (test)",
        },
        sizes={"train": 129809, "id_val": 7314, "ood_val": 14961, "id_test": 8154, "ood_test": 42791},
        cluster="sequence (images of one trap within seconds)",
        note="WILDS reports macro_f1 over the classes present in a set, so compare with metric: macro_f1. Class names "
        "are the English ones of WiSE-FT, lower case; four of them stand for two classes each (lowland paca, "
        "jaguarundi, unknown bird, central american red brocket), which a zero-shot head cannot tell apart. "
        "Templates are WiSE-FT's. Groups are locations. AutoFT's released code writes the captions of its "
        "contrastive term with Latin names. That the training set has images of every class is not verified.",
        may_lack_classes=True,
    ),
    "fmow": Data(
        title="FMoW (WILDS 1.1), land use in satellite images before 2013, shifted to 2016 and later",
        classes=shipped("fmow_classes"),
        words=tuple(map(Words, shipped("fmow_classes"))),
        templates=(
            *(f"{view} photo of a {{}}." for view in VIEWS),
            *(f"{view} photo of {{:s}}." for view in VIEWS),
            *(f"{view} photo of a {{}} in {region}." for region in REGIONS for view in VIEWS),
            "a photo of a {}.",
            "{}.",
        ),
        index=wilds_rows.fmow,
        shown={
            "id_val": "before 2013 (validation)",
            "ood_val": "2013 to 2015 (validation)",
            "id_test": "before 2013 (test)",
            "ood_test": "2016 and later (test)",
        },
        sizes={"train": 76863, "id_val": 11483, "ood_val": 19915, "id_test": 11327, "ood_test": 22108},
        cluster="place, where the table gives coordinates, else the image",
        note="WILDS reports the accuracy of the worst region, so compare with metric: worst_group; images of region "
        "Other count in the average only. Class names are those of WILDS with underscores and templates are WiSE-"
        "FT's; only its two prompts with a proper article write blanks. The sizes of train, id_val, id_test and "
        "ood_val are from a second source.",
        adapts="natural",
        target=("2016 and later", "ood_test"),
        pool="a fifth of the places (at least eight) of each class of ood_test, and tested on the other places",
        choosing=4,  # some classes have few places
    ),
    "camelyon17": Data(
        title="Camelyon17 (WILDS 1.0), tumours in patches of lymph nodes, shifted to another hospital",
        classes=("normal", "tumor"),
        words=("lymph node", "lymph node containing metastatic tumor tissue"),
        templates=("this is a photo of {}",),
        index=wilds_rows.camelyon17,
        shown={
            "id_val": "the same hospitals (validation)",
            "ood_val": "a fourth hospital (validation)",
            "id_test": "the same hospitals (test)",
            "ood_test": "a fifth hospital (test)",
        },
        sizes={"train": 302436, "id_val": 33560, "ood_val": 34904, "ood_test": 85054},
        cluster="slide",
        note="WILDS reports the average accuracy on ood_test (top1). It has no test set of the hospitals trained on: "
        "id_val and id_test are halves of its id_val. Groups are slides. Prompts are those of PatchCamelyon; what"
        " Surgical Fine-Tuning's CLIP experiment used is not known. The sizes are from second sources.",
        parts={
            "id_val": ("id_val", "val"),
            "ood_val": ("ood_val", ""),
            "id_test": ("id_val", "test"),
            "ood_test": ("ood_test", ""),
        },
        adapts="natural",
        target=("a fifth hospital", "ood_test"),
        pool="a fifth of the slides of ood_test, and tested on the other slides",
    ),
    "waterbirds": Data(
        title="Waterbirds, whose background agrees with the bird in training and not in the shifted sets",
        classes=wilds_rows.BIRDS,
        words=wilds_rows.BIRDS,
        templates=("a photo of a {}.",),
        index=wilds_rows.waterbirds,
        shown={
            "id_val": "backgrounds as in train (validation)",
            "ood_val": "any background (validation)",
            "id_test": "backgrounds as in train (test)",
            "ood_test": "any background (test)",
        },
        sizes={"train": 4795, "shifted": 6993},
        cluster="image",
        note="The shifted sets are the official validation (1,199) and test sets (5,794), in which both backgrounds "
        "are equally frequent within a class; groups are bird x background. Nothing official tests the "
        "distribution of training: id_val and id_test are cut off the training set, a tenth of each class at a "
        "time. The template is ours.",
        parts=CUT,
        adapts="spurious",
        choosing=50,  # of few waterbirds
    ),
    "celeba": Data(
        title="CelebA, blond hair, which in training seldom is a man's",
        classes=wilds_rows.HAIR,
        words=wilds_rows.HAIR,
        templates=("a photo of a person whose hair is {}.",),
        index=wilds_rows.celeba,
        shown={
            "id_val": "held out of train (validation)",
            "ood_val": "official validation set",
            "id_test": "held out of train (test)",
            "ood_test": "official test set",
        },
        sizes={"train": 162770, "shifted": 39829},
        cluster="image (several of one person are not told apart)",
        note="ood_val and ood_test are the official validation (19,867) and test sets (19,962), to be read with "
        "metric: worst_group; as sets they are not shifted, their worst group is. Groups are blond x male. id_val"
        " and id_test are cut off the training set, a tenth of each class at a time. Names and template are ours.",
        parts=CUT,
        adapts="spurious",
    ),
}

# Training sets that are too large to prepare, or that crops should see whole (waterbirds).
STREAMED = ("iwildcam", "fmow", "camelyon17", "celeba", "waterbirds")
SPLITS: dict[str, Prepared] = {
    f"{name}-{split}": Prepared(
        source=name, index=partial(data.index, split), images=size, stream=split == "train" and name in STREAMED
    )
    for name, data in DATA.items()
    for split, size in data.sizes.items()
}


def build(name: str, entry: BenchmarkTask) -> Task:
    """The task of a config entry. Raises UserError for what the data set does not have."""
    where = f"tasks.{name}"
    if entry.data not in DATA:
        raise UserError(f"{where}.data: unknown data set {entry.data!r}{suggestion(entry.data, DATA)}")
    data = DATA[entry.data]
    for key, given in (("test_sets", entry.test_sets), ("ood_val", entry.ood_val)):
        known = ("ood_test",) if key == "test_sets" else ("ood_val",)
        if wrong := [value for value in given or () if value not in known]:
            raise UserError(f"{where}.{key}: unknown set {wrong[0]!r}; {entry.data} has {', '.join(known)}")
    if entry.test_sets == []:
        raise UserError(f"{where}.test_sets: name ood_test, or leave the key out")
    if entry.corruptions:
        raise UserError(f"{where}.corruptions: {entry.data} has none; remove the key")
    if entry.selection == "as_published":
        raise UserError(
            f"{where}.selection: {entry.data} has validation sets of its own, which the papers used too; remove the key"
        )
    adapted = entry.shift == data.adapts
    if entry.shift != "style" and not adapted:
        also = f" or {data.adapts}" if data.adapts else ""
        raise UserError(f"{where}.shift: {entry.data} can be of shift style{also}")
    roles = [role for role in data.parts if role in ("id_val", "id_test") or not adapted]
    if entry.ood_val == [] and "ood_val" in roles:
        roles.remove("ood_val")
    note = data.note
    if adapted:
        note += (
            f" As a target: models are adapted to images of {data.pool}. Which images and how many Surgical "
            "Fine-Tuning gave, and by which metric it compared, is not known."
        )
    title, split = data.target
    return Task(
        name=name,
        dataset="wilds",
        title=data.title,
        classes=data.classes,
        prompt_names=data.words,
        templates=data.templates,
        cluster=data.cluster,
        train=(Part(f"{entry.data}-train", "train"),),
        eval_sets=tuple(
            EvalSet(role, data.shown[role], role, (Part(f"{entry.data}-{data.parts[role][0]}", data.parts[role][1]),))
            for role in roles
        ),
        licences=SOURCES[entry.data].licence,
        select=selector(len(data.classes), entry.shots),
        targets=(Target("shifted", title, f"{entry.data}-{split}", data.choosing),) if adapted else (),
        note=note,
        exact=True,
        may_lack_classes=data.may_lack_classes,
    )
