"""What the families of published data sets share: prepared splits described as data, and the selection of rows.

A family is a module of this package with SOURCES (name -> Source), SPLITS (name -> Prepared) and
`build(name, entry) -> Task`. N rows. No torch, numpy or pandas at import: the Snakefile imports this module.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surefoot.files import UserError
from surefoot.mistakes import suggestion
from surefoot.seeds import unit
from surefoot.tasks import Part, Selection

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("file", "label", "cluster", "group", "fold")


@dataclass(frozen=True)
class Prepared:
    """How one prepared split is made from a source.

    Attributes:
        source: name of the Source whose folder `index` and `read` are given.
        index: folder -> one row per image with COLUMNS: `file` (relative to the folder), `label` (int), `cluster` (what
            intervals resample: near-duplicates share one; the file where there are none), `group` (what the worst group
            is taken over; '' is left out of it), `fold` ('train' and 'val' where the split is cut by `hold_out`,
            'anchor' and 'frame' of videos, else ''); `also` (where images have several right labels, the others, as
            text between blanks); further columns.
        images: number of rows in the real data set; 0 where no source says it.
        read: (folder, some of the rows) -> their images, uint8 [h, w, 3] or PIL, in order, where they do not lie in
            image files of their own.
        stream: the images stay files and are decoded in training (large training sets).
        border: pixels cut off every side first.
        about: roughly how many rows, where `images` is 0: estimates take it, nothing is checked by it.
    """

    source: str
    index: Callable[[Path], "pd.DataFrame"]
    images: int = 0
    read: Callable[[Path, "pd.DataFrame"], Iterator[Any]] | None = None
    stream: bool = False
    border: int = 0
    about: int = 0


def hold_out(rows: "pd.DataFrame", share: float = 0.1, least: int = 1) -> "pd.DataFrame":
    """Cut a validation set off a training set: the column `fold` becomes 'val' for a share of each class, else 'train'.

    Whole clusters are drawn, in an order fixed by their names; at least `least` clusters of a class with two or more.
    A cluster with images of several classes goes with all of them, and never takes the last one of a class. The draw is
    the same for every seed.
    """
    pairs = rows[["label", "cluster"]].drop_duplicates()
    classes: dict[str, list[int]] = {}
    for label, name in zip(pairs["label"], pairs["cluster"], strict=True):
        classes.setdefault(name, []).append(label)
    left = pairs["label"].value_counts().to_dict()
    chosen: set[str] = set()
    for _, members in pairs.groupby("label", sort=True):
        names = sorted(members["cluster"], key=lambda name: unit("hold-out", name))
        missing = min(max(least, math.floor(share * len(names))), len(names) - 1) - len(chosen.intersection(names))
        for name in names:
            if missing > 0 and name not in chosen and all(left[label] > 1 for label in classes[name]):
                chosen.add(name)
                missing -= 1
                for label in classes[name]:
                    left[label] -= 1
    return rows.assign(fold=["val" if name in chosen else "train" for name in rows["cluster"]])


def selector(
    classes: int, shots: int | None = None, flip: bool = False
) -> Callable[[Part, "pd.DataFrame", int], Selection]:
    """The `select` of a task on published data: see `select`."""
    return partial(select, classes, shots, flip)


def select(classes: int, shots: int | None, flip: bool, part: Part, rows: "pd.DataFrame", seed: int) -> Selection:
    """Rows of one part of a prepared split.

    Args:
        classes: C; rows with a label outside 0..C-1 are left out.
        shots: with fold 'train' only so many images of each class, in an order drawn per seed, so that smaller sets lie
            within larger ones; None: all.
        flip: a target's label y becomes C - 1 - y.
        part: `fold` '' takes every row, else those of the fold; `take` slices each class in an order fixed by names.
        seed: of the run; folds do not depend on it.
    """
    table = rows.assign(index=range(len(rows)))
    table = table[(table["label"] >= 0) & (table["label"] < classes)]
    if part.fold:
        table = table[table["fold"] == part.fold]
    if shots and part.fold == "train":
        table = _slice(table, 0, shots, lambda name: unit("shots", seed, name))
    if part.take:
        table = _slice(table, *part.take, lambda name: unit("take", name))
    labels = table["label"].to_numpy("int64")
    return Selection(
        rows=table["index"].to_numpy(),
        labels=classes - 1 - labels if flip and part.target else labels,
        clusters=table["cluster"].to_numpy(str),
        groups=table["group"].to_numpy(str),
        also=table["also"].to_numpy(str) if "also" in table else None,
    )


def _slice(table: "pd.DataFrame", first: int, behind: int, key: Callable[[str], float]) -> "pd.DataFrame":
    """Images first..behind-1 of each class in the order of a key of their file (and row, if a file holds several)."""
    names = table["file"].astype(str) + (table["row"].map(" {}".format) if "row" in table else "")
    order = table.assign(key=names.map(key)).sort_values(["label", "key"], kind="stable")
    place = order.groupby("label").cumcount()
    return order[(place >= first) & (place < behind)].sort_values("index")


def known_names(
    where: str, given: Sequence[str] | None, known: Sequence[str], default: Sequence[str]
) -> tuple[str, ...]:
    """What an entry names, or the default. Raises UserError for an unknown name and for one that stands twice."""
    for value in given or ():
        if value not in known:
            raise UserError(f"{where}: unknown name {value!r}{suggestion(value, known)}")
    if given and len(set(given)) < len(given):
        raise UserError(f"{where}: an entry stands twice in {', '.join(given)}")
    return tuple(default if given is None else given)
