"""Rows of the data sets of WILDS, from the tables that they come with. N rows.

No pandas at import: the Snakefile imports this module.
"""

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.files import UserError
from surefoot.tasks.benchmarks import COLUMNS, hold_out

if TYPE_CHECKING:
    import pandas as pd

POOL = 0.2  # part of the clusters of a shifted test set that adaptation may learn from
BIRDS, HAIR = ("landbird", "waterbird"), ("not blond", "blond")
# Official split names -> ours, for the data sets that come with sets of both distributions.
OFFICIAL = {"train": "train", "id_val": "id_val", "id_test": "id_test", "val": "ood_val", "test": "ood_test"}


@cache
def shipped(name: str) -> tuple[str, ...]:
    """Class names of a table in data/, in the order of the labels."""
    return tuple(json.loads((Path(__file__).parent / "data" / f"{name}.json").read_text(encoding="utf-8")))


def _table(path: Path, columns: Iterable[str], **how: object) -> "pd.DataFrame":
    """A CSV file. Raises UserError when it is missing, unreadable or lacks columns."""
    import pandas as pd

    try:
        rows = pd.read_csv(path, **how)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; extract the data set again, or mend data_root.wilds") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}; extract it again") from None
    if missing := [column for column in columns if column not in rows]:
        raise UserError(
            f"{path} lacks the column {missing[0]!r}; it has {', '.join(map(str, rows.columns))}. "
            "It is another version of the data set; get the one that docs/data.md names"
        )
    return rows


def _finished(rows: "pd.DataFrame", path: Path, classes: int, fold: str) -> "pd.DataFrame":
    """COLUMNS of a split, checked. Raises UserError for labels that no class has."""
    wrong = ~rows["label"].isin(range(classes))
    if wrong.any():
        line = int(rows.index[wrong][0]) + 2
        raise UserError(
            f"{path}, line {line}: label {rows['label'][wrong].iloc[0]} is not one of 0 to {classes - 1}; "
            "it is another version of the data set"
        )
    return rows.assign(label=rows["label"].astype("int64"), fold=fold)[list(COLUMNS)].reset_index(drop=True)


def iwildcam(split: str, root: Path) -> "pd.DataFrame":
    """Images of all official splits lie in one folder; near-duplicates are those of a sequence."""
    path = root / "metadata.csv"
    columns = ("split", "filename", "y", "seq_id", "location_remapped")
    rows = _table(path, columns, dtype={"seq_id": str, "filename": str})
    rows = rows[rows["split"].map(OFFICIAL.get) == split]
    rows = rows.assign(
        file="train/" + rows["filename"],  # the images of all splits lie there
        label=rows["y"],
        cluster=rows["seq_id"],
        group="location " + rows["location_remapped"].astype(str),
    )
    return _finished(rows, path, 182, "train" if split == "train" else "")


def fmow(split: str, root: Path) -> "pd.DataFrame":
    """Train, id_val and id_test are the official parts before 2013, ood_val is val of 2013 to 2015, ood_test, cut for
    adaptation, is test from 2016. Images are numbered by the line of the table, in which those of the sequestered part
    count too."""
    import pandas as pd

    path = root / "rgb_metadata.csv"
    rows = _table(path, ("split", "category", "country_code", "timestamp"), dtype={"lat": str, "lon": str})
    try:
        # A few time stamps have fractions of a second.
        years = pd.to_datetime(rows["timestamp"], format="ISO8601", utc=True).dt.year
    except ValueError as error:
        raise UserError(f"{path}: a time stamp cannot be read: {error}; extract the file again") from None
    part, first, behind = {
        "train": ("train", 0, 2013),
        "id_val": ("val", 0, 2013),
        "id_test": ("test", 0, 2013),
        "ood_val": ("val", 2013, 2016),
        "ood_test": ("test", 2016, 9999),
    }[split]
    countries = _table(root / "country_code_mapping.csv", ("alpha-3", "region"), dtype=str)
    regions = dict(zip(countries["alpha-3"], countries["region"].fillna(""), strict=True))
    labels = {name: number for number, name in enumerate(shipped("fmow_classes"))}
    rows = rows.assign(
        file=[f"images/rgb_img_{number}.png" for number in range(len(rows))],
        label=[labels.get(category, category) for category in rows["category"]],
        group=[regions.get(code, "") for code in rows["country_code"]],
    )
    rows["group"] = rows["group"].where(rows["group"] != "Other", "")
    placed = "lat" in rows and "lon" in rows
    rows["cluster"] = rows["lat"] + " " + rows["lon"] if placed else rows["file"]
    rows["cluster"] = rows["cluster"].fillna(rows["file"])
    rows = rows[(rows["split"] == part) & (years >= first) & (years < behind)]
    rows = _finished(rows, path, len(labels), "train" if split == "train" else "")
    return _pooled(rows, least=8) if split == "ood_test" else rows


def camelyon17(split: str, root: Path) -> "pd.DataFrame":
    """ood_val is all of centre 1, ood_test, cut for adaptation, all of centre 2; the table cuts the other centres into
    train and id_val."""
    path = root / "metadata.csv"
    columns = ("patient", "node", "x_coord", "y_coord", "tumor", "slide", "center", "split")
    rows = _table(path, columns, dtype={"patient": str})
    other = ~rows["center"].isin((1, 2))
    rows = rows[
        {
            "train": other & (rows["split"] == 0),
            "id_val": other & (rows["split"] == 1),
            "ood_val": rows["center"] == 1,
            "ood_test": rows["center"] == 2,
        }[split]
    ]
    names = [f"patient_{p}_node_{n}" for p, n in zip(rows["patient"], rows["node"], strict=True)]
    places = zip(names, rows["x_coord"], rows["y_coord"], strict=True)
    slides = "slide " + rows["slide"].astype(str)
    rows = rows.assign(
        file=[f"patches/{name}/patch_{name}_x_{x}_y_{y}.png" for name, x, y in places],
        label=rows["tumor"],
        cluster=slides,
        group=slides,
    )
    rows = _finished(rows, path, 2, "")
    if split == "ood_test":
        return _pooled(rows)
    # No published set tests hospitals that were trained on: a part of id_val does.
    return _halves(rows) if split == "id_val" else rows.assign(fold="train" if split == "train" else "")


def waterbirds(split: str, root: Path) -> "pd.DataFrame":
    """Official train, or official val and test together as folds 'val' and 'test'."""
    path = root / "metadata.csv"
    rows = _table(path, ("img_filename", "y", "split", "place"), dtype={"img_filename": str})
    birds, places = BIRDS, ("land", "water")
    rows = rows[rows["split"] == 0 if split == "train" else rows["split"].isin((1, 2))]
    if not rows["place"].isin((0, 1)).all():
        raise UserError(f"{path}: the column place holds other values than 0 (land) and 1 (water); extract it again")
    fold = rows["split"].map({1: "val", 2: "test"})
    rows = rows.assign(file=rows["img_filename"], label=rows["y"], cluster=rows["img_filename"])
    known = rows["label"].where(rows["label"].isin((0, 1)), 0)
    rows["group"] = [f"{birds[y]} on {places[p]}" for y, p in zip(known, rows["place"], strict=True)]
    rows = _finished(rows, path, 2, "")
    return _three_parts(rows) if split == "train" else rows.assign(fold=fold.to_numpy())


def celeba(split: str, root: Path) -> "pd.DataFrame":
    """From the tables of WILDS (.csv), or those of the data set's makers (.txt)."""
    rows, path = _celeba_tables(root)
    rows = rows[rows["partition"] == 0 if split == "train" else rows["partition"].isin((1, 2))]
    fold = rows["partition"].map({1: "val", 2: "test"})
    hair, sex = rows["Blond_Hair"] == 1, rows["Male"] == 1
    names = HAIR
    rows = rows.assign(
        file="img_align_celeba/" + rows["image_id"],
        label=hair.astype(int),
        cluster=rows["image_id"],
        group=[f"{names[y]}, {'male' if m else 'not male'}" for y, m in zip(hair, sex, strict=True)],
    )
    rows = _finished(rows, path, 2, "")
    return _three_parts(rows) if split == "train" else rows.assign(fold=fold.to_numpy())


def _celeba_tables(root: Path) -> tuple["pd.DataFrame", Path]:
    attributes, wanted = root / "list_attr_celeba.csv", ("image_id", "Blond_Hair", "Male")
    if attributes.is_file():
        rows = _table(attributes, wanted)
        parts = _table(root / "list_eval_partition.csv", ("image_id", "partition"))
    else:
        attributes = root / "list_attr_celeba.txt"
        # A line with the number of images, one with the names of the attributes, then the rows under one more column.
        rows = _table(attributes, ("Blond_Hair", "Male"), sep=r"\s+", skiprows=1)
        rows = rows.rename_axis("image_id").reset_index()
        parts = _table(root / "list_eval_partition.txt", (), sep=r"\s+", header=None, names=["image_id", "partition"])
    if len(rows) != len(parts) or (rows["image_id"] != parts["image_id"]).any():
        raise UserError(f"{attributes} and the list of partitions beside it name other images; extract both again")
    return rows.assign(partition=parts["partition"]), attributes


def _three_parts(rows: "pd.DataFrame") -> "pd.DataFrame":
    """A tenth of each class 'val', a tenth of the rest 'test', the rest 'train'."""
    rows = hold_out(rows)
    again = hold_out(rows[rows["fold"] == "train"])
    rows.loc[again.index[again["fold"] == "val"], "fold"] = "test"
    return rows


def _pooled(rows: "pd.DataFrame", least: int = 1) -> "pd.DataFrame":
    """A fifth of the clusters of each class, at least `least`, 'val': labelled for adaptation; the others 'test'."""
    cut = hold_out(rows, POOL, least)
    return rows.assign(fold=cut["fold"].map({"val": "val", "train": "test"}))


def _halves(rows: "pd.DataFrame") -> "pd.DataFrame":
    """Half of the images of each class 'val', half 'test'."""
    cut = hold_out(rows.assign(cluster=rows["file"]), share=0.5)
    return rows.assign(fold=cut["fold"].map({"val": "val", "train": "test"}))
