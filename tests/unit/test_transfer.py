"""Data sets of transfer learning: rows are those of torchvision's loaders; what a mistake reads like."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat
from torchvision import datasets

from surefoot.config import parse_config
from surefoot.files import UserError
from surefoot.flow import Plan
from surefoot.images import load_rgb
from surefoot.tasks import Task, load_task
from surefoot.tasks.benchmarks import COLUMNS
from surefoot.tasks.transfer import DATA, POOL, SOURCES, SPLITS, tables
from tests.fabricate.transfer import KNOWN, fabricate
from tests.tiny import raw_config


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("transfer")
    fabricate(folder)
    return folder


def task(data: str, **changes: Any) -> Task:
    return load_task({"name": "t", "family": "transfer", "data": data, **changes})


def listed(root: Path, split: str) -> dict[str, int]:
    rows = SPLITS[split].index(root)
    assert list(rows.columns) == list(COLUMNS) and not rows["file"].duplicated().any()
    assert all((root / file).is_file() for file in rows["file"])
    return dict(zip(rows["file"], rows["label"], strict=True))


def relative(root: Path, files: list, labels: list) -> dict[str, int]:
    return {str(Path(file).relative_to(root)): int(label) for file, label in zip(files, labels, strict=True)}


def test_the_sources_hold_what_they_need(root: Path) -> None:
    for name in KNOWN:
        source = SOURCES[name]
        assert any(all((root / place / need).exists() for need in source.needs) for place in source.folders), name


@pytest.mark.parametrize(("split", "theirs"), [("train", "train"), ("val", "val"), ("test", "test")])
def test_sst2_is_torchvisions(root: Path, split: str, theirs: str) -> None:
    dataset = datasets.RenderedSST2(root, split=theirs)
    files, labels = zip(*dataset._samples, strict=True)
    assert listed(root, f"sst2-{split}") == relative(root, files, labels)
    assert tables()["sst2"]["classes"] == dataset.classes


def test_caltech101_is_torchvisions_cut_in_three(root: Path) -> None:
    dataset = datasets.Caltech101(root)
    assert dataset.categories == tables()["caltech101"]["classes"]
    at = Path("caltech101/101_ObjectCategories")
    places = zip(dataset.y, dataset.index, strict=True)
    files = [str(at / dataset.categories[y] / f"image_{number:04d}.jpg") for y, number in places]
    train, test = (SPLITS[f"caltech101-{split}"].index(root) for split in ("train", "test"))
    both = pd.concat([train, test])
    assert dict(zip(both["file"], both["label"], strict=True)) == dict(zip(files, dataset.y, strict=True))
    assert len(both) == len(files), "no image in both"
    counts = [train[train["fold"] == "train"], train[train["fold"] == "val"], test]
    assert [len(rows) // 101 for rows in counts] == [3, 1, 1] and set(test["fold"]) == {""}


@pytest.mark.parametrize("split", ["train", "test"])
def test_cars_are_torchvisions(root: Path, split: str) -> None:
    dataset = datasets.StanfordCars(root, split=split)
    files, labels = zip(*dataset._samples, strict=True)
    assert listed(root, f"cars-{split}") == relative(root, files, labels)
    assert dataset.classes == tables()["cars"]["classes"]


def test_cars_as_on_kaggle(root: Path, tmp_path: Path) -> None:
    fabricate(tmp_path, images_per_class=1, data=("cars",))
    top = tmp_path / "stanford_cars" / "cars_test"
    top.rename(top.with_name("moved"))
    top.mkdir()
    top.with_name("moved").rename(top / "cars_test")
    assert len(listed(tmp_path, "cars-test")) == 196


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_flowers_are_torchvisions(root: Path, split: str) -> None:
    class Unchecked(datasets.Flowers102):
        _file_dict: ClassVar = {name: (file, None) for name, (file, _) in datasets.Flowers102._file_dict.items()}

    dataset = Unchecked(root, split=split)
    assert listed(root, f"flowers102-{split}") == relative(root, dataset._image_files, dataset._labels)
    differ = [(a, b) for a, b in zip(dataset.classes, tables()["flowers102"]["classes"], strict=True) if a != b]
    assert differ == [
        ("globe-flower", "globe flower"),
        ("pink-yellow dahlia?", "pink and yellow dahlia"),
        ("ball moss", "air plant"),
    ]


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_textures_are_torchvisions(root: Path, tmp_path: Path, split: str) -> None:
    (tmp_path / "dtd").mkdir()
    (tmp_path / "dtd" / "dtd").symlink_to(root / "dtd")
    dataset = datasets.DTD(tmp_path, split=split)
    files = [file.relative_to(tmp_path / "dtd") for file in dataset._image_files]
    expected = dict(zip(map(str, files), dataset._labels, strict=True))
    assert listed(root, f"dtd-{split}") == expected and dataset.classes == tables()["dtd"]["classes"]


@pytest.mark.parametrize("split", ["train", "test"])
def test_food_is_torchvisions(root: Path, split: str) -> None:
    dataset = datasets.Food101(root, split=split)
    assert listed(root, f"food101-{split}") == relative(root, dataset._image_files, dataset._labels)
    assert dataset.classes == tables()["food101"]["classes"]


def test_scenes_have_torchvisions_labels(root: Path) -> None:
    dataset = datasets.SUN397(root)
    everything = relative(root, dataset._image_files, dataset._labels)
    train, test = listed(root, "sun397-train"), listed(root, "sun397-test")
    assert train | test == everything and not set(train) & set(test)


def test_cifar100_has_the_fine_labels(root: Path) -> None:
    content = np.fromfile(root / "cifar-100-binary/test.bin", np.uint8).reshape(-1, 3074)
    rows = SPLITS["cifar100-test"].index(root)
    assert rows["label"].tolist() == content[:, 1].tolist() and rows["label"].max() == 99
    later = rows.iloc[40:43]
    images = np.stack(list(SPLITS["cifar100-test"].read(root, later)))
    assert images.shape == (3, 32, 32, 3)
    assert np.array_equal(images[1, 5, 7], content[41, 2:].reshape(3, 32, 32)[:, 5, 7])


def test_patches_are_torchvisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fabricate(tmp_path, images_per_class=6, data=("pcam",))
    for split, theirs in (("train", "train"), ("val", "val"), ("test", "test")):
        dataset = datasets.PCAM(tmp_path, split=theirs)
        rows = SPLITS[f"pcam-{split}"].index(tmp_path)
        images = list(SPLITS[f"pcam-{split}"].read(tmp_path, rows))
        assert rows["label"].tolist() == [dataset[k][1] for k in range(len(dataset))]
        assert all(np.array_equal(image, dataset[k][0]) for k, image in enumerate(images))
    monkeypatch.setattr("surefoot.tasks.transfer.POOL", 2)
    few = SPLITS["pcam-train_few"].index(tmp_path)
    assert few.groupby("label").size().tolist() == [2, 2] and set(few["fold"]) == {"train"}
    (tmp_path / "pcam" / "camelyonpatch_level_2_split_test_x.h5").write_bytes(b"cut off")
    with pytest.raises(UserError, match=r"test_x\.h5 cannot be read"):
        SPLITS["pcam-test"].index(tmp_path)


@pytest.mark.parametrize("data", KNOWN)
def test_roles(root: Path, data: str) -> None:
    known = task(data)
    assert {s.name: s.role for s in known.eval_sets} == {"id_val": "id_val", "id_test": "id_test"}
    assert set(known.splits) <= set(SPLITS)
    rows = {split: SPLITS[split].index(root) for split in known.splits}
    (train,) = known.train
    (val,) = known.parts_of("id_val")
    chosen, held_out = (known.select(part, rows[part.split], 0) for part in (train, val))
    assert set(chosen.labels) == set(range(len(known.classes)))
    assert not set(chosen.clusters) & set(held_out.clusters) and len(held_out.labels)
    assert all("{}" in template for template in known.templates)


def test_images_of_every_mode_can_be_read(root: Path) -> None:
    for data in ("sst2", "caltech101", "dtd"):
        for file in SPLITS[f"{data}-test"].index(root)["file"][:3]:
            assert load_rgb(root / file).mode == "RGB"


def test_few_images(root: Path) -> None:
    few = task("dtd", shots=1)
    rows = SPLITS["dtd-train"].index(root)
    draws = [set(few.select(few.train[0], rows, seed).rows) for seed in (0, 1)]
    assert [len(draw) for draw in draws] == [47, 47] and draws[0] != draws[1]
    assert few.parts_of("id_val")[0].take == (0, 1)
    assert task("pcam", shots=4).train[0].split == "pcam-train_few" and task("pcam").train[0].split == "pcam-train"


@pytest.mark.parametrize(
    ("data", "changes", "message"),
    [
        ("dtdd", {}, "tasks.t.data: unknown data set 'dtdd'; did you mean 'dtd'"),
        ("dtd", {"test_sets": ["v2"]}, "tasks.t.test_sets: dtd has one test set"),
        ("dtd", {"ood_val": ["v2"]}, "tasks.t.ood_val"),
        ("dtd", {"shift": "flip"}, "tasks.t.shift"),
        ("dtd", {"selection": "as_published"}, "tasks.t.selection"),
        ("pcam", {"shots": POOL + 1}, "tasks.t.shots: 1025 is more than the 1024"),
    ],
)
def test_mistakes_are_named(data: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        task(data, **changes)
    assert message in str(error.value)


@pytest.mark.parametrize("split", [split for split in SPLITS if not split.startswith("pcam")])
def test_an_empty_folder_is_named(tmp_path: Path, split: str) -> None:
    with pytest.raises(UserError, match=r"missing|cannot be read|there is no folder"):
        SPLITS[split].index(tmp_path)


def test_wrong_files_are_named(tmp_path: Path) -> None:
    fabricate(tmp_path, images_per_class=1, data=("dtd", "cars", "cifar100"))
    (tmp_path / "dtd/labels/test1.txt").write_text("bandedd/bandedd_0001.jpg\n")
    with pytest.raises(UserError, match=r"test1\.txt: unknown class 'bandedd'; did you mean 'banded'"):
        SPLITS["dtd-test"].index(tmp_path)
    (tmp_path / "stanford_cars/cars_test_annos_withlabels.mat").write_bytes(b"no matrix")
    with pytest.raises(UserError, match=r"cars_test_annos_withlabels\.mat cannot be read"):
        SPLITS["cars-test"].index(tmp_path)
    without = {"annotations": np.zeros(1, [("fname", "O"), ("bbox_x1", "i4")])}  # as the test's first table has it
    savemat(tmp_path / "stanford_cars/cars_test_annos_withlabels.mat", without)
    with pytest.raises(UserError, match=r"the file with labels, which is in pytorch/vision#7545"):
        SPLITS["cars-test"].index(tmp_path)
    (tmp_path / "cifar-100-binary/test.bin").write_bytes(bytes(3073))
    with pytest.raises(UserError, match="3073 bytes, no multiple of 3074"):
        SPLITS["cifar100-test"].index(tmp_path)
    (tmp_path / "cifar-100-binary/test.bin").write_bytes(bytes([0, 100]) + bytes(3072))
    with pytest.raises(UserError, match="outside 0 to 99"):
        SPLITS["cifar100-test"].index(tmp_path)


def test_figures_of_runs_without_a_shifted_test_set() -> None:
    """The trade-off is drawn where some task has a shifted test set."""
    raw = raw_config()
    raw["tasks"]["dtd"] = {"family": "transfer", "data": "dtd", "recipe": "clip"}
    raw["image_size"]["transfer"] = 48
    shifted = raw["run"]["tasks"]
    raw["surgical"]["tasks"] = []
    for tasks, drawn in ((["dtd"], False), ([*shifted, "dtd"], True)):
        raw["run"]["tasks"] = tasks
        figures = Plan(parse_config(raw)).figures
        assert ("frontier" in figures) == drawn and "alpha" in figures


def test_every_data_set_has_prepared_splits() -> None:
    assert {split.partition("-")[0] for split in SPLITS} == set(DATA) == set(tables())
    assert {how.source for how in SPLITS.values()} == set(SOURCES)
