"""Data sets of WILDS: iWildCam, FMoW, Camelyon17, Waterbirds and CelebA, with their official splits.

Their tables are read here; the package of the same name, whose data sets load torch and fail under current pandas, is
what tests compare with. N rows.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from surefoot import config
from surefoot.files import UserError
from surefoot.roles import Role
from surefoot.sources import File, Source
from surefoot.tasks import EvalSet, Part, Target, Task
from surefoot.tasks.benchmarks import COLUMNS, Prepared, hold_out, selector

if TYPE_CHECKING:
    import pandas as pd

BUNDLES = "https://worksheets.codalab.org/rest/bundles/{}/contents/blob/"
# Official split names -> ours, for the data sets that come with sets of both distributions.
OFFICIAL = {"train": "train", "id_val": "id_val", "id_test": "id_test", "val": "ood_val", "test": "ood_test"}


class Words(str):
    """A class name in prompts: `{}` is the raw name, `{:s}` its words behind an article, as in two prompts of FMoW."""

    def __format__(self, spec: str) -> str:
        if spec != "s":
            return str(self)
        words = self.replace("_", " ")
        return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


@cache
def _shipped(name: str) -> tuple[str, ...]:
    return tuple(json.loads((Path(__file__).parent / "data" / f"{name}.json").read_text(encoding="utf-8")))


# Tables --------------------------------------------------------------------------------------------------------------


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


def _iwildcam(split: str, root: Path) -> "pd.DataFrame":
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


def _fmow(split: str, root: Path) -> "pd.DataFrame":
    """Train, id_val and id_test are the official parts before 2013, ood_val is val of 2013 to 2015, ood_test is test
    from 2016. Images are numbered by the line of the table, in which those of the sequestered part count too."""
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
    labels = {name: number for number, name in enumerate(_shipped("fmow_classes"))}
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
    return _finished(rows, path, len(labels), "train" if split == "train" else "")


def _camelyon17(split: str, root: Path) -> "pd.DataFrame":
    """ood_val is all of centre 1, ood_test all of centre 2; the table cuts the other centres into train and id_val."""
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
    # No published set tests hospitals that were trained on: a part of id_val does.
    return _halves(rows) if split == "id_val" else rows.assign(fold="train" if split == "train" else "")


def _waterbirds(split: str, root: Path) -> "pd.DataFrame":
    path = root / "metadata.csv"
    rows = _table(path, ("img_filename", "y", "split", "place"), dtype={"img_filename": str})
    birds, places = DATA["waterbirds"].classes, ("land", "water")
    rows = rows[rows["split"] == 0 if split == "train" else rows["split"].isin((1, 2))]
    if not rows["place"].isin((0, 1)).all():
        raise UserError(f"{path}: the column place holds other values than 0 (land) and 1 (water); extract it again")
    fold = rows["split"].map({1: "val", 2: "test"})
    rows = rows.assign(file=rows["img_filename"], label=rows["y"], cluster=rows["img_filename"])
    known = rows["label"].where(rows["label"].isin((0, 1)), 0)
    rows["group"] = [f"{birds[y]} on {places[p]}" for y, p in zip(known, rows["place"], strict=True)]
    rows = _finished(rows, path, 2, "")
    return _three_parts(rows) if split == "train" else rows.assign(fold=fold.to_numpy())


def _celeba(split: str, root: Path) -> "pd.DataFrame":
    """From the tables of WILDS (.csv), or those of the data set's makers (.txt)."""
    rows, path = _celeba_tables(root)
    rows = rows[rows["partition"] == 0 if split == "train" else rows["partition"].isin((1, 2))]
    fold = rows["partition"].map({1: "val", 2: "test"})
    hair, sex = rows["Blond_Hair"] == 1, rows["Male"] == 1
    names = DATA["celeba"].classes
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


def _halves(rows: "pd.DataFrame") -> "pd.DataFrame":
    """Half of the images of each class 'val', half 'test'."""
    cut = hold_out(rows.assign(cluster=rows["file"]), share=0.5)
    return rows.assign(fold=cut["fold"].map({"val": "val", "train": "test"}))


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
        target: title of the images that models can be adapted to; empty: there are none.
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
    target: str = ""
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
        classes=_shipped("iwildcam_classes"),
        words=_shipped("iwildcam_classes"),
        templates=("a photo of {}.", "{} in the wild."),
        index=_iwildcam,
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
        classes=_shipped("fmow_classes"),
        words=tuple(map(Words, _shipped("fmow_classes"))),
        templates=(
            *(f"{view} photo of a {{}}." for view in VIEWS),
            *(f"{view} photo of {{:s}}." for view in VIEWS),
            *(f"{view} photo of a {{}} in {region}." for region in REGIONS for view in VIEWS),
            "a photo of a {}.",
            "{}.",
        ),
        index=_fmow,
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
    ),
    "camelyon17": Data(
        title="Camelyon17 (WILDS 1.0), tumours in patches of lymph nodes, shifted to another hospital",
        classes=("normal", "tumor"),
        words=("lymph node", "lymph node containing metastatic tumor tissue"),
        templates=("this is a photo of {}",),
        index=_camelyon17,
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
    ),
    "waterbirds": Data(
        title="Waterbirds, whose background agrees with the bird in training and not in the shifted sets",
        classes=("landbird", "waterbird"),
        words=("landbird", "waterbird"),
        templates=("a photo of a {}.",),
        index=_waterbirds,
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
        target="official validation and test sets",
    ),
    "celeba": Data(
        title="CelebA, blond hair, which in training seldom is a man's",
        classes=("not blond", "blond"),
        words=("not blond", "blond"),
        templates=("a photo of a person whose hair is {}.",),
        index=_celeba,
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
        target="official validation and test sets",
    ),
}

STREAMED = ("iwildcam", "fmow", "camelyon17", "celeba")  # training sets that are too large to prepare
SPLITS: dict[str, Prepared] = {
    f"{name}-{split}": Prepared(
        source=name, index=partial(data.index, split), images=size, stream=split == "train" and name in STREAMED
    )
    for name, data in DATA.items()
    for split, size in data.sizes.items()
}

SOURCES = {
    source.name: source
    for source in (
        Source(
            name="iwildcam",
            files=(
                File(
                    "iwildcam_v2.0.tar.gz",
                    urls=(
                        "https://huggingface.co/datasets/emmilly/iwildcam-wilds-v2/resolve/main/iwildcam_v2.0.tar.gz",
                        BUNDLES.format("0x6313da2b204647e79a14b468131fcd64"),
                    ),
                    sha256="05c872f46eee44315f79bc90f4098c69ae3799a2b95116db02292ea1b4e370d2",
                    size=11_957_415_473,
                ),
            ),
            needs=("metadata.csv", "train"),
            folders=("iwildcam_v2.0",),
            licence="Community Data License Agreement, permissive, version 1.0",
        ),
        Source(
            name="fmow",
            files=(File("fmow_v1.1.tar.gz", urls=(BUNDLES.format("0xaec91eb7c9d548ebb15e1b5e60f966ab"),)),),
            needs=("rgb_metadata.csv", "country_code_mapping.csv", "images"),
            folders=("fmow_v1.1",),
            licence="Functional Map of the World Challenge Public License",
            by_hand="If the official host fails, get fmow_v1.1 (54 GB compressed) from the makers of WILDS "
            "(https://wilds.stanford.edu) and put the folder fmow_v1.1 below data_root.wilds.",
        ),
        Source(
            name="camelyon17",
            files=(File("camelyon17_v1.0.tar.gz", urls=(BUNDLES.format("0xe45e15f39fb54e9d9e919556af67aabe"),)),),
            needs=("metadata.csv", "patches"),
            folders=("camelyon17_v1.0",),
            licence="CC0 1.0",
            by_hand="If the official host fails, get camelyon17_v1.0 (11 GB compressed) from the makers of WILDS "
            "(https://wilds.stanford.edu) and put the folder camelyon17_v1.0 below data_root.wilds.",
        ),
        Source(
            name="waterbirds",
            files=(
                File(
                    "waterbird_complete95_forest2water2.tar.gz",
                    urls=("https://nlp.stanford.edu/data/dro/waterbird_complete95_forest2water2.tar.gz",),
                    strip=1,
                ),
            ),
            needs=("metadata.csv",),
            folders=("waterbirds_v1.0", "waterbird_complete95_forest2water2"),
            licence="non-commercial research and education (images of CUB-200-2011 and Places)",
        ),
        Source(
            name="celeba",
            files=(File("celebA_v1.0.tar.gz", urls=(BUNDLES.format("0xfe55077f5cd541f985ebf9ec50473293"),)),),
            needs=("img_align_celeba",),
            folders=("celebA_v1.0", "celeba"),
            licence="non-commercial research only",
            by_hand="If the official host of WILDS fails, get img_align_celeba.zip, list_attr_celeba.txt and "
            "list_eval_partition.txt from the makers (https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html) and put them, "
            "the archive extracted, into celeba/ below data_root.wilds.",
        ),
    )
}


def build(name: str, entry: config.BenchmarkTask) -> Task:
    """The task of a config entry. Raises UserError for what the data set does not have."""
    where = f"tasks.{name}"
    if entry.data not in DATA:
        raise UserError(f"{where}.data: unknown data set {entry.data!r}{config.suggestion(entry.data, DATA)}")
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
    adapted = entry.shift == "subtype" and bool(data.target)
    if entry.shift != "style" and not adapted:
        raise UserError(f"{where}.shift: {entry.data} can be of shift style{' or subtype' if data.target else ''}")
    roles = [role for role in data.parts if role in ("id_val", "id_test") or not adapted]
    if entry.ood_val == [] and "ood_val" in roles:
        roles.remove("ood_val")
    note = data.note
    if adapted:
        note += (
            " As a target: models are adapted to images of the official validation set and tested on the official test "
            "set. How many images Surgical Fine-Tuning gave, and by which metric it compared, is not known."
        )
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
        targets=(Target("shifted", data.target, f"{entry.data}-shifted"),) if adapted else (),
        note=note,
        exact=True,
        may_lack_classes=data.may_lack_classes,
    )
