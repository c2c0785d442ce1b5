"""Living-17 and Entity-30 (BREEDS, Santurkar et al. 2021): other subclasses of the same superclass, from ImageNet.

C superclasses, each of some source and as many target classes of ImageNet. No pandas at import: the Snakefile imports
this module.
"""

import json
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.files import UserError
from surefoot.mistakes import suggestion
from surefoot.seeds import unit
from surefoot.sources import Source
from surefoot.task_entries import BenchmarkTask
from surefoot.tasks import EvalSet, Part, Target, Task
from surefoot.tasks.benchmarks import Prepared, hold_out, selector
from surefoot.tasks.imagenet import tables as imagenet_tables
from surefoot.tasks.imagenet_files import by_class, test_images
from surefoot.tasks.imagenet_sources import IMAGENET

if TYPE_CHECKING:
    import pandas as pd

HELD_OUT = 0.05  # of each superclass of the source's training set, for id_val
TARGET_VAL, TARGET_TRAIN = 10, 50  # images a superclass: to choose, and at most to train (a replication has 50)
TITLES = {"living17": "Living-17", "entity30": "Entity-30"}
SUBCLASSES = {"living17": 2, "entity30": 4}  # of source and of target, for each superclass
PER_CLASS = 1281  # training images of a class of ImageNet, on average


@cache
def tables() -> dict[str, dict[str, dict[str, list[int]]]]:
    """Data set -> superclass -> source and target: classes of ImageNet, of BREEDS' random split.

    The split of the released helper depends on the state of a random generator; this is what it gives with seed 2.
    """
    return json.loads((Path(__file__).parent / "data" / "breeds.json").read_text(encoding="utf-8"))


def _rows(data: str, domain: str, at: str, root: Path) -> "pd.DataFrame":
    """Images of all superclasses of a domain, below train or val; `group` is the subclass."""
    wnids, members = imagenet_tables()["wnids"], [entry[domain] for entry in tables()[data].values()]
    label = {wnids[column]: place for place, columns in enumerate(members) for column in columns}
    rows = test_images(root, list(label)) if at == "val" else by_class(root, at, list(label))
    subclass = rows["label"].map(dict(enumerate(label)))
    return rows.assign(label=subclass.map(label).astype("int64"), group=subclass)


def _train(data: str, root: Path) -> "pd.DataFrame":
    return hold_out(_rows(data, "source", "train", root), HELD_OUT)


def _target(data: str, root: Path) -> "pd.DataFrame":
    """Fold 'val': a pool of training images, evenly over the subclasses; fold 'test': all validation images."""
    import pandas as pd

    pool = _rows(data, "target", "train", root)
    pool = pool.assign(key=[unit("pool", Path(file).stem) for file in pool["file"]])
    each = (TARGET_VAL + TARGET_TRAIN) // SUBCLASSES[data]
    pool = pool[pool.groupby("group")["key"].rank(method="first") <= each].drop(columns="key")
    test = _rows(data, "target", "val", root)
    return pd.concat([pool.assign(fold="val"), test.assign(fold="test")], ignore_index=True)


SOURCES: dict[str, Source] = {"imagenet": IMAGENET}
SPLITS: dict[str, Prepared] = {
    f"{data}-{name}": prepared
    for data, test, pool, classes in (("living17", 1700, 1020, 34), ("entity30", 6000, 1800, 120))
    for name, prepared in (
        ("train", Prepared("imagenet", partial(_train, data), about=classes * PER_CLASS, stream=True)),
        ("val", Prepared("imagenet", partial(_rows, data, "source", "val"), images=test)),
        ("target", Prepared("imagenet", partial(_target, data), images=test + pool)),
    )
}


def build(name: str, entry: BenchmarkTask) -> Task:
    """The task of a config entry: shift style tests the target's subclasses, shift subtype adapts to them.

    Raises UserError for an unknown data set and for choices that these data sets do not offer.
    """
    where, data = f"tasks.{name}", entry.data
    if data not in TITLES:
        raise UserError(f"{where}.data: unknown data set {data!r}{suggestion(data, TITLES)}")
    if entry.shift not in ("style", "subtype"):
        raise UserError(f"{where}.shift: {entry.shift} is not known of {data}; use style, or subtype (adaptation)")
    for key in ("test_sets", "ood_val", "corruptions"):
        if getattr(entry, key):
            raise UserError(f"{where}.{key}: {data} has one shifted test set and nothing to choose; leave the key out")
    adapts, published = entry.shift == "subtype", entry.selection == "as_published"
    test, split = Part(f"{data}-val", ""), f"{data}-train"
    chooses = EvalSet("id_val", "Source (held out of train)", "id_val", (Part(split, "val"),))
    if published:
        chooses = EvalSet("id_val", "Source (test)", "id_val", (test,), note="the reported test set")
    sets = [chooses, EvalSet("id_test", "Source (test)", "id_test", (test,))]
    if not adapts:
        sets.append(EvalSet("ood_test", "Target subclasses", "ood_test", (Part(f"{data}-target", "test"),)))
    names = tuple(tables()[data])
    target = Target(data, f"{TITLES[data]}, other subclasses", f"{data}-target", validation=TARGET_VAL)
    return Task(
        name=name,
        dataset="breeds",
        title=f"{TITLES[data]}, {len(names)} superclasses",
        classes=names,
        prompt_names=names,
        templates=tuple(imagenet_tables()["templates"]),
        cluster="image",
        train=(Part(split, "" if published and not entry.shots else "train"),),
        eval_sets=tuple(sets),
        licences=f"imagenet: {IMAGENET.licence}",
        select=selector(len(names), entry.shots),
        targets=(target,) if adapts else (),
        note=_note(data, published, adapts),
        exact=True,
    )


def _note(data: str, published: bool, adapts: bool) -> str:
    parts = (
        f"{SUBCLASSES[data]} source and as many target subclasses a superclass, BREEDS' random split (not verified of "
        "the Surgical Fine-Tuning paper). Test: ILSVRC 2012's validation images.",
        "id_val is the reported test set, and nothing is held out of train."
        if published
        else f"id_val is {HELD_OUT:.0%} of the source's training images.",
        f"Target: {TARGET_VAL} training images a superclass to choose and at most {TARGET_TRAIN} to train, evenly over "
        "the subclasses, all validation images as test; where the paper took its images from is not known."
        if adapts
        else "No paper has an ood_val here.",
        "Names of long WordNet lemmas are shortened; the templates are ImageNet's (the papers' networks need none). A "
        "model that was pre-trained on ImageNet or on the web has seen the target's subclasses.",
    )
    return " ".join(parts)
