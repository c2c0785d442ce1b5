"""Living-17 and Entity-30: the frozen split, labels, targets whose pool and test are disjoint, mistakes."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from torch.utils.data import Subset
from torchvision.datasets import ImageFolder

from surefoot.files import UserError
from surefoot.task_entries import BenchmarkTask
from surefoot.tasks import Part, Task
from surefoot.tasks import imagenet as imagenet_family
from surefoot.tasks.breeds import SPLITS, SUBCLASSES, build, tables
from tests.fabricate.imagenet import fabricate, flatten

IMAGES = 3


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The classes of both data sets, and one that neither has."""
    where = tmp_path_factory.mktemp("data")
    used = {c for data in tables().values() for entry in data.values() for c in entry["source"] + entry["target"]}
    wnids = imagenet_family.tables()["wnids"]
    fabricate(where, IMAGES, wnids=[wnids[c] for c in sorted(used | {1})], shifts=(), corruptions=())
    return where / "imagenet"


def task(data: str = "living17", **changes: Any) -> Task:
    return build("b", BenchmarkTask(family="breeds", data=data, recipe="clip", **changes))


@pytest.mark.parametrize(("data", "count"), [("living17", 17), ("entity30", 30)])
def test_the_frozen_split_has_disjoint_subclasses(data: str, count: int) -> None:
    entries = tables()[data].values()
    assert len(entries) == count
    assert all(len(e["source"]) == len(e["target"]) == SUBCLASSES[data] for e in entries)
    every = [c for e in entries for c in e["source"] + e["target"]]
    assert len(set(every)) == len(every)


def test_superclasses_of_living17_have_the_right_animals() -> None:
    """The superclass stands in the names of some of its ImageNet classes."""
    names = imagenet_family.tables()["names"]
    for superclass in ("turtle", "snake", "spider", "grouse", "crab", "wolf", "fox", "bear", "beetle", "monkey"):
        entry = tables()["living17"][superclass]
        words = " ".join(names[c].lower() for c in entry["source"] + entry["target"])
        assert superclass in words, superclass


@pytest.mark.parametrize("data", ["living17", "entity30"])
def test_labels_are_the_superclasses_of_the_folders(root: Path, data: str) -> None:
    """Against torchvision's ImageFolder with the superclass as target_transform."""
    folder = ImageFolder(root / "val")
    wnids = imagenet_family.tables()["wnids"]
    label = {wnids[c]: k for k, e in enumerate(tables()[data].values()) for c in e["source"]}
    folder.target_transform = lambda index: label[folder.classes[index]]
    inside = Subset(folder, [i for i, (_, t) in enumerate(folder.samples) if folder.classes[t] in label])
    expected = {Path(folder.samples[i][0]).relative_to(root).as_posix(): folder[i][1] for i in inside.indices}
    rows = SPLITS[f"{data}-val"].index(root)
    assert dict(zip(rows["file"], rows["label"], strict=True)) == expected
    assert len(rows) == IMAGES * len(label)


def test_sizes_of_the_real_data() -> None:
    """50 validation images a class; the pool is 60 a superclass."""
    assert SPLITS["living17-val"].images == 50 * 2 * 17 and SPLITS["entity30-val"].images == 50 * 4 * 30
    assert SPLITS["living17-target"].images == 1700 + 60 * 17 and SPLITS["entity30-target"].images == 6000 + 60 * 30


@pytest.mark.parametrize("data", ["living17", "entity30"])
def test_pool_and_test_of_a_target_are_disjoint_and_of_target_classes(root: Path, data: str) -> None:
    built = task(data, shift="subtype", source="s")
    rows = SPLITS[f"{data}-target"].index(root)
    wnids = imagenet_family.tables()["wnids"]
    allowed = {wnids[c] for e in tables()[data].values() for c in e["target"]}
    assert set(rows["group"]) == allowed
    parts = built.targets[0].parts(2)
    chosen = {role: built.select(part, rows, 0).rows for role, (part,) in parts.items()}
    assert len(np.concatenate(list(chosen.values()))) == len(set(np.concatenate(list(chosen.values()))))
    assert set(rows.iloc[chosen["target_test"]]["file"].str.split("/").str[0]) == {"val"}
    pool = np.concatenate([chosen["target_val"], chosen["target_train"]])
    assert set(rows.iloc[pool]["file"].str.split("/").str[0]) == {"train"}
    assert len(chosen["target_test"]) == IMAGES * len(allowed)


def test_the_pool_takes_the_same_number_of_every_subclass(monkeypatch: pytest.MonkeyPatch) -> None:
    """With classes as large as the real ones the pool is cut; small fabricated ones never are."""
    wnids = imagenet_family.tables()["wnids"]

    def many(root: Path, at: str, folders: list[str]) -> pd.DataFrame:
        count = 80 if at == "train" else 50
        found = [(f"{at}/{w}/{w}_{n}.JPEG", k) for k, w in enumerate(folders) for n in range(count)]
        rows = pd.DataFrame(found, columns=["file", "label"])
        return rows.assign(cluster=rows["file"], group="all", fold="")

    monkeypatch.setattr("surefoot.tasks.breeds.by_class", many)
    monkeypatch.setattr("surefoot.tasks.breeds.test_images", lambda root, folders: many(root, "val", folders))
    rows = SPLITS["entity30-target"].index(Path("nowhere"))
    assert len(rows) == SPLITS["entity30-target"].images
    pool = rows[rows["fold"] == "val"]
    assert set(pool.groupby("group").size()) == {15} and pool["group"].nunique() == 120
    assert pool.loc[pool["group"] == wnids[53], "label"].unique() == [0]
    parts = task("entity30", shift="subtype", source="s").targets[0].parts(50)
    select = task("entity30").select
    assert len(select(parts["target_train"][0], rows, 0).rows) == 50 * 30
    assert len(select(parts["target_val"][0], rows, 0).rows) == 10 * 30


def test_roles() -> None:
    built = task()
    assert [(s.name, s.role) for s in built.eval_sets] == [
        ("id_val", "id_val"),
        ("id_test", "id_test"),
        ("ood_test", "ood_test"),
    ]
    assert built.eval_sets[2].parts == (Part("living17-target", "test"),)
    assert built.train == (Part("living17-train", "train"),) and set(built.splits) <= set(SPLITS)
    adapts = task(shift="subtype", source="s")
    assert [s.name for s in adapts.eval_sets] == ["id_val", "id_test"] and adapts.classes == built.classes
    published = task(selection="as_published")
    assert published.eval_sets[0].parts == published.eval_sets[1].parts
    assert published.train == (Part("living17-train", ""),) and "reported test set" in published.note


def test_training_images_are_held_out(root: Path) -> None:
    rows, built = SPLITS["living17-train"].index(root), task()
    train, val = (set(built.select(Part("living17-train", fold), rows, 0).rows) for fold in ("train", "val"))
    assert train and val and not train & val and len(train | val) == len(rows) == 34 * IMAGES


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "living-17"}, r"tasks.b.data: unknown data set 'living-17'; did you mean 'living17'"),
        ({"shift": "corrupt"}, "tasks.b.shift: corrupt is not known of living17"),
        ({"test_sets": ["v2"]}, "tasks.b.test_sets: living17 has one shifted test set"),
        ({"ood_val": ["c"]}, "tasks.b.ood_val"),
    ],
)
def test_mistakes_in_an_entry(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        task(**{"data": "living17", **changes})


def test_images_that_lie_together_are_found_by_the_development_kit(root: Path, tmp_path: Path) -> None:
    flatten(root, tmp_path)
    apart, together = SPLITS["living17-val"].index(root), SPLITS["living17-val"].index(tmp_path)
    assert [Path(file).name for file in together["file"]] == [Path(file).name for file in apart["file"]]
    assert list(together["label"]) == list(apart["label"]) and list(together["group"]) == list(apart["group"])


def test_a_missing_class_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    with pytest.raises(UserError, match="34 of 34 class folders are missing, such as n0"):
        SPLITS["living17-val"].index(tmp_path)
