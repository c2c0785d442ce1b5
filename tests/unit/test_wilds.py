"""Data sets of WILDS: rows, splits, groups and metrics are those of the wilds package; what a mistake reads like."""

import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from surefoot import metrics
from surefoot.download import fetch
from surefoot.files import UserError
from surefoot.tasks import Part, load_task
from surefoot.tasks.benchmarks import COLUMNS
from surefoot.tasks.wilds import DATA, SOURCES, SPLITS, Words
from tests.fabricate.wilds import camelyon17, celeba, fabricate, fmow, waterbirds

OFFICIAL = {"train": "train", "id_val": "id_val", "id_test": "id_test", "val": "ood_val", "test": "ood_test"}
NAMES = {"celeba": "celebA"}  # in the package, where it differs


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wilds")
    fabricate(folder, images_per_class=1)
    return folder


@pytest.fixture(scope="module")
def package() -> Iterator[Any]:
    """`get_dataset` of the wilds package, mended: it wants torch_scatter for one mean, and older pandas for FMoW."""

    def scatter(src: torch.Tensor, index: torch.Tensor, dim_size: int, reduce: str, **_: Any) -> torch.Tensor:
        return src.new_zeros(dim_size).scatter_reduce(0, index, src, reduce=reduce, include_self=False)

    stub, limit = ModuleType("torch_scatter"), Image.MAX_IMAGE_PIXELS
    stub.scatter = scatter
    with (
        mock.patch.dict(sys.modules, {"torch_scatter": stub}),
        mock.patch.object(pd, "to_datetime", partial(pd.to_datetime, format="ISO8601")),
    ):
        import wilds

        yield partial(wilds.get_dataset, download=False)
    Image.MAX_IMAGE_PIXELS = limit  # FMoW's module lifts Pillow's guard


def folder_of(root: Path, data: str) -> Path:
    return next(root / name for name in SOURCES[data].folders if (root / name).is_dir())


def index(root: Path, split: str) -> pd.DataFrame:
    how = SPLITS[split]
    return how.index(folder_of(root, how.source))


def theirs(dataset: Any, split: str) -> pd.DataFrame:
    """File, label and metadata of every row of an official split, from the package."""
    places = np.flatnonzero(dataset.split_array == dataset.split_dict[split])
    rows = pd.DataFrame(dataset.metadata_array[places].numpy(), columns=dataset.metadata_fields)
    files = []
    with mock.patch("PIL.Image.open", side_effect=lambda path: files.append(Path(path)) or mock.MagicMock()):
        for place in places:
            dataset.get_input(place)
    rows["file"] = [str(file.relative_to(dataset.data_dir)) for file in files]
    return rows.assign(label=dataset.y_array[places].numpy())


def test_the_sources_hold_what_their_folders_need(root: Path) -> None:
    for source in SOURCES.values():
        folder = folder_of(root, source.name)
        assert all((folder / need).exists() for need in source.needs), source.name


@pytest.mark.parametrize("split", SPLITS)
def test_images_exist_and_rows_are_complete(root: Path, split: str) -> None:
    rows = index(root, split)
    assert list(rows.columns) == list(COLUMNS) and len(rows) and not rows.isna().any().any()
    assert all((folder_of(root, SPLITS[split].source) / file).is_file() for file in rows["file"])
    assert rows["file"].is_unique and rows["label"].dtype == "int64"


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
@pytest.mark.parametrize("data", ["iwildcam", "fmow", "camelyon17"])
@pytest.mark.parametrize("split", OFFICIAL)
def test_official_splits_are_those_of_the_package(root: Path, package: Any, data: str, split: str) -> None:
    dataset = package(data, root_dir=str(root))
    if data == "camelyon17" and split == "id_test":
        assert split not in dataset.split_dict
        return
    ours, expected = index(root, f"{data}-{OFFICIAL[split]}"), theirs(dataset, split)
    assert ours["file"].tolist() == expected["file"].tolist() and ours["label"].tolist() == expected["label"].tolist()
    field = {"iwildcam": "location", "fmow": "region", "camelyon17": "slide"}[data]
    if data == "fmow":
        regions = [dataset.metadata_map["region"][number] for number in expected[field]]
        assert ours["group"].tolist() == ["" if region == "Other" else region for region in regions]
        assert (ours["group"] == "").any()
    else:
        assert ours["group"].tolist() == [f"{field} {number}" for number in expected[field]]
    if data == "iwildcam":
        sequences = pd.factorize(expected["sequence"])[0]
        assert pd.factorize(ours["cluster"])[0].tolist() == sequences.tolist()


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
@pytest.mark.parametrize("data", ["waterbirds", "celeba"])
def test_splits_with_groups_are_those_of_the_package(root: Path, package: Any, data: str) -> None:
    dataset = package(NAMES.get(data, data), root_dir=str(root))
    shifted, train = index(root, f"{data}-shifted"), index(root, f"{data}-train")
    ours = {fold: rows.reset_index(drop=True) for fold, rows in shifted.groupby("fold")} | {"train": train}
    second = {"waterbirds": "background", "celeba": "male"}[data]
    for fold, rows in ours.items():
        expected = theirs(dataset, fold)
        assert rows["file"].tolist() == expected["file"].tolist()
        assert rows["label"].tolist() == expected["label"].tolist()
        pairs = pd.DataFrame({"ours": rows["group"], "y": expected["label"], "other": expected[second]})
        assert len(pairs.drop_duplicates()) == len(pairs["ours"].unique()) == 4
    shares = train.groupby("label")["fold"].value_counts(normalize=True)
    for label in (0, 1):
        assert [shares[label, fold] for fold in ("val", "test")] == pytest.approx([0.1, 0.09], abs=0.03)


@pytest.mark.parametrize(("data", "apart"), [("fmow", "cluster"), ("camelyon17", "group")])
def test_an_adaptation_is_tested_at_places_that_it_did_not_learn_from(data: str, apart: str, tmp_path: Path) -> None:
    {"fmow": fmow, "camelyon17": camelyon17}[data](tmp_path, 6, np.random.default_rng(0))
    cut = index(tmp_path, f"{data}-ood_test")
    assert set(cut["fold"]) == {"val", "test"}
    pool, tested = (cut[cut["fold"] == fold] for fold in ("val", "test"))
    assert not set(pool[apart]) & set(tested[apart])
    assert set(pool["label"]) == set(tested["label"]) == set(cut["label"])


def test_targets_say_which_images_choose() -> None:
    target = load_task({"name": "t", "family": "wilds", "data": "fmow", "shift": "natural", "source": "s"}).targets[0]
    assert target.parts(5)["target_val"] == (Part("fmow-ood_test", "val", (0, 4), target=True),)
    assert target.parts(5)["target_train"] == (Part("fmow-ood_test", "val", (4, 9), target=True),)


def test_groups_read_as_what_they_are(root: Path) -> None:
    birds = index(root, "waterbirds-shifted")
    table = pd.read_csv(folder_of(root, "waterbirds") / "metadata.csv").set_index("img_filename")
    assert set(birds["group"]) == {f"{b} on {p}" for b in ("landbird", "waterbird") for p in ("land", "water")}
    wet = birds["group"].str.endswith("on water")
    assert (table["place"][birds["file"]].to_numpy() == wet.to_numpy()).all()
    faces = index(root, "celeba-shifted")
    assert (faces["group"].str.startswith("blond") == (faces["label"] == 1)).all()


def test_tables_of_own_copies_are_checked(root: Path, tmp_path: Path) -> None:
    """Digests of CelebA's makers are known, those of the tables of WILDS are not."""
    assert fetch(SOURCES["celeba"], tmp_path / "raw", root)["how"] == "own copy"
    (tmp_path / "celeba/img_align_celeba").mkdir(parents=True)
    (tmp_path / "celeba/list_eval_partition.txt").write_text("000001.jpg 0\n")
    with pytest.raises(UserError, match=r"list_eval_partition\.txt has md5 .*, not d32c9cbf5e040fd4025c592c306e6668"):
        fetch(SOURCES["celeba"], tmp_path / "raw", tmp_path)


def test_celeba_reads_the_tables_of_its_makers_too(root: Path, tmp_path: Path) -> None:
    from torchvision.datasets import CelebA

    celeba(tmp_path, 1, np.random.default_rng(0), makers=True)
    with mock.patch.object(CelebA, "_check_integrity", return_value=True):
        for name in ("identity_CelebA.txt", "list_bbox_celeba.txt", "list_landmarks_align_celeba.txt"):
            lines = (tmp_path / "celeba/list_attr_celeba.txt").read_text()
            (tmp_path / "celeba" / name).write_text(
                lines.split("\n", 2)[2].replace("-1", "1") if "identity" in name else lines
            )
        tv = CelebA(str(tmp_path), split="valid", target_type="attr")
    rows = SPLITS["celeba-shifted"].index(tmp_path / "celeba")
    rows = rows[rows["fold"] == "val"]
    assert [Path(file).name for file in rows["file"]] == list(tv.filename)
    assert rows["label"].tolist() == tv.attr[:, tv.attr_names.index("Blond_Hair")].tolist()
    male = rows["group"].str.endswith(", male").astype(int)
    assert male.tolist() == tv.attr[:, tv.attr_names.index("Male")].tolist()
    assert index(root, "celeba-train").equals(SPLITS["celeba-train"].index(tmp_path / "celeba"))


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
@pytest.mark.parametrize(
    ("data", "split", "key", "ours"),
    [
        ("iwildcam", "ood_test", "F1-macro_all", lambda p, y, g: metrics.macro_f1(p, y)),
        ("iwildcam", "ood_test", "acc_avg", lambda p, y, g: metrics.top1(p, y)),
        ("fmow", "ood_test", "acc_worst_region", metrics.worst_group),
        ("fmow", "id_test", "acc_avg", lambda p, y, g: metrics.top1(p, y)),
        ("camelyon17", "ood_test", "acc_avg", lambda p, y, g: metrics.top1(p, y)),
        ("camelyon17", "ood_test", "acc_wg", metrics.worst_group),
        ("waterbirds", "shifted", "acc_wg", metrics.worst_group),
        ("celeba", "shifted", "acc_wg", metrics.worst_group),
    ],
)
def test_metrics_are_those_of_the_package(root: Path, package: Any, data: str, split: str, key: str, ours: Any) -> None:
    """On random predictions that are right a third of the time, some of them of classes that the set lacks."""
    dataset, rows = package(NAMES.get(data, data), root_dir=str(root)), index(root, f"{data}-{split}")
    rows = rows[rows["fold"] == "test"] if split == "shifted" else rows
    places = np.flatnonzero(
        dataset.split_array == dataset.split_dict[{v: k for k, v in OFFICIAL.items()}.get(split, "test")]
    )
    rng = np.random.default_rng(0)
    if data == "iwildcam":  # a set that lacks classes
        keep = (rows["label"] % 3 > 0).to_numpy()
        rows, places = rows[keep], places[keep]
    labels = rows["label"].to_numpy()
    for _ in range(5):
        wild = rng.integers(0, len(DATA[data].classes), len(labels))
        predicted = np.where(rng.random(len(labels)) < 0.3, labels, wild)
        found, _ = dataset.eval(
            torch.as_tensor(predicted), dataset.y_array[places], dataset.metadata_array[places], None
        )
        value = ours(predicted, labels, rows["group"].to_numpy(str))
        # The package counts in single precision; the nearest single to ours is its number.
        assert np.float32(value / 100) == pytest.approx(np.float32(found[key]), rel=2e-7)


def test_class_names_are_those_of_the_package_and_of_wise_ft() -> None:
    from wilds.datasets.fmow_dataset import categories

    assert DATA["fmow"].classes == tuple(categories)
    animals = DATA["iwildcam"].classes
    assert (
        len(animals) == 182
        and len(set(animals)) == 178
        and animals[0] == "empty"
        and animals[52] == "günther's dik-dik"
    )
    assert animals[82] == animals[178] == "unknown bird" and animals[181] == "central american red brocket"


def test_prompts_of_fmow_are_wise_fts() -> None:
    prompts = [template.format(Words("airport_hangar")) for template in DATA["fmow"].templates]
    assert len(prompts) == 16
    assert prompts[:4] == [
        "satellite photo of a airport_hangar.",
        "aerial photo of a airport_hangar.",
        "satellite photo of an airport hangar.",
        "aerial photo of an airport hangar.",
    ]
    assert prompts[8:10] == [
        "satellite photo of a airport_hangar in the americas.",
        "aerial photo of a airport_hangar in the americas.",
    ]
    assert prompts[14:] == ["a photo of a airport_hangar.", "airport_hangar."]
    assert f"{Words('dam'):s}" == "a dam"


@pytest.mark.parametrize("data", DATA)
def test_roles_of_a_task(root: Path, data: str) -> None:
    task = load_task({"name": "t", "family": "wilds", "data": data})
    assert [s.role for s in task.eval_sets] == ["id_val", "ood_val", "id_test", "ood_test"]
    assert len(task.prompt_names) == len(task.classes) and json.dumps(task.prompt_names)
    chosen = {}
    for role, parts in [("train", task.train), *((s.role, s.parts) for s in task.eval_sets)]:
        (part,) = parts
        rows = index(root, part.split)
        picked = task.select(part, rows, 0)
        assert len(picked.rows), role
        assert np.array_equal(picked.labels, rows["label"].to_numpy()[picked.rows])
        chosen[role] = {(part.split, row) for row in picked.rows}
    sizes = sum(map(len, chosen.values()))
    assert sizes == len(set().union(*chosen.values())), "no image has two roles"
    assert sizes == sum(len(index(root, split)) for split in task.splits), "no image is lost"
    few = load_task({"name": "t", "family": "wilds", "data": data, "shots": 1, "ood_val": []})
    train = index(root, few.train[0].split)
    assert np.bincount(few.select(few.train[0], train, 0).labels).tolist() == [1] * len(few.classes)
    assert "ood_val" not in [s.role for s in few.eval_sets]


def test_waterbirds_as_a_target(tmp_path: Path) -> None:
    waterbirds(tmp_path, 2, np.random.default_rng(0))
    task = load_task({"name": "t", "family": "wilds", "data": "waterbirds", "shift": "spurious"})
    assert [s.role for s in task.eval_sets] == ["id_val", "id_test"]
    rows = index(tmp_path, "waterbirds-shifted")
    chosen = {role: task.select(parts[0], rows, 0).rows for role, parts in task.targets[0].parts(shots=5).items()}
    assert {role: set(rows["fold"].iloc[found]) for role, found in chosen.items()} == {
        "target_train": {"val"},
        "target_val": {"val"},
        "target_test": {"test"},
    }
    assert np.bincount(rows["label"].iloc[chosen["target_train"]]).tolist() == [5, 5]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "iwildcan"}, "tasks.t.data: unknown data set 'iwildcan'; did you mean 'iwildcam'?"),
        ({"test_sets": ["test"]}, "tasks.t.test_sets: unknown set 'test'; fmow has ood_test"),
        ({"ood_val": ["val"]}, "tasks.t.ood_val: unknown set 'val'; fmow has ood_val"),
        ({"corruptions": ["snow"]}, "tasks.t.corruptions: fmow has none"),
        ({"selection": "as_published"}, "tasks.t.selection: fmow has validation sets of its own"),
        ({"data": "iwildcam", "shift": "subtype"}, "tasks.t.shift: iwildcam can be of shift style"),
    ],
)
def test_mistakes_of_an_entry_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        load_task({"name": "t", "family": "wilds", "data": "fmow", **changes})
    assert message in str(error.value)


def test_mistakes_on_disk_are_named(tmp_path: Path) -> None:
    how = SPLITS["iwildcam-train"]
    with pytest.raises(UserError, match=r"metadata\.csv is missing; extract"):
        how.index(tmp_path)
    rows = pd.DataFrame({"split": "train", "filename": ["a.jpg", "b.jpg"], "y": [0, 182], "seq_id": "s"})
    rows.to_csv(tmp_path / "metadata.csv")
    with pytest.raises(UserError, match="lacks the column 'location_remapped'"):
        how.index(tmp_path)
    rows.assign(location_remapped=1).to_csv(tmp_path / "metadata.csv")
    with pytest.raises(UserError, match=r"metadata\.csv, line 3: label 182 is not one of 0 to 181"):
        how.index(tmp_path)
    table = {"split": ["train"], "category": ["villa"], "country_code": ["DEU"], "timestamp": ["2010-01-01T00:00:00Z"]}
    pd.DataFrame(table).to_csv(tmp_path / "rgb_metadata.csv")
    pd.DataFrame({"alpha-3": ["DEU"], "region": ["Europe"]}).to_csv(tmp_path / "country_code_mapping.csv")
    with pytest.raises(UserError, match="label villa is not one of 0 to 61"):
        SPLITS["fmow-train"].index(tmp_path)
    pd.DataFrame(table | {"timestamp": ["spring"]}).to_csv(tmp_path / "rgb_metadata.csv")
    with pytest.raises(UserError, match="a time stamp cannot be read"):
        SPLITS["fmow-train"].index(tmp_path)
