"""The family cifar on fabricated files in the real layout."""

import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from torchvision.datasets import CIFAR10

from surefoot.download import fetch
from surefoot.files import UserError
from surefoot.sources import Source
from surefoot.task_entries import BenchmarkTask
from surefoot.tasks import Part
from surefoot.tasks.cifar import CLASSES, SOURCES, SPLITS, _corrupted, build
from surefoot.tasks.transfer_sources import SOURCES as TRANSFER
from tests.fabricate.cifar import fabricate


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cifar")
    fabricate(folder, corruptions=("fog", "snow"))
    return folder


def task(**changes: Any) -> Any:
    return build("t", BenchmarkTask(family="cifar", data="cifar10", recipe="r", **changes))


def read(name: str, root: Path) -> tuple[Any, np.ndarray]:
    rows = SPLITS[name].index(root)
    return rows, np.stack(list(SPLITS[name].read(root, rows)))


def test_binary_files_are_read_as_torchvision_reads_the_others(root: Path, tmp_path: Path) -> None:
    class Unchecked(CIFAR10):
        train_list = tuple((f"data_batch_{number}", None) for number in range(1, 6))
        test_list = (("test_batch", None),)
        meta: ClassVar = {"filename": "batches.meta", "key": "label_names", "md5": None}

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(CLASSES)}))
    for path in (root / "cifar-10-batches-bin").iterdir():
        content = np.fromfile(path, np.uint8).reshape(-1, 3073)
        entry = {"data": content[:, 1:], "labels": content[:, 0].tolist()}
        (folder / path.stem).write_bytes(pickle.dumps(entry))
    for train, name in ((True, "cifar10-train"), (False, "cifar10-test")):
        theirs = Unchecked(tmp_path, train=train)
        rows, images = read(name, root)
        assert np.array_equal(images, theirs.data) and rows["label"].tolist() == theirs.targets
    assert tuple(theirs.classes) == CLASSES


def test_arrays_are_read_in_their_order(root: Path) -> None:
    rows, images = read("cifar10_1", root)
    assert np.array_equal(images, np.load(root / "cifar10.1_v6_data.npy"))
    assert np.array_equal(rows["label"], np.load(root / "cifar10.1_v6_labels.npy"))
    rows, images = read("cifar10_2", root)
    assert np.array_equal(images, np.load(root / "cifar102_test.npz")["images"])


def test_severity_five_is_the_last_block_and_shares_its_cut_with_the_clean_images(root: Path) -> None:
    rows, images = read("c-fog", root)
    assert np.array_equal(images, np.load(root / "CIFAR-10-C/fog.npy")[-60:])
    clean = SPLITS["cifar10-test"].index(root)
    assert (rows.groupby("label")["fold"].value_counts() > 0).all() and set(rows["fold"]) == {"val", "test"}
    assert len(clean) == len(rows) == 60


def test_in_the_real_sizes_corrupted_and_clean_images_are_cut_alike(tmp_path: Path) -> None:
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 1000))
    np.save(folder / "labels.npy", np.tile(labels, 5))
    np.save(folder / "fog.npy", np.zeros((50000, 1, 1, 3), np.uint8))
    content = np.zeros((10000, 3073), np.uint8)
    content[:, 0] = labels
    (tmp_path / "cifar-10-batches-bin").mkdir()
    content.tofile(tmp_path / "cifar-10-batches-bin/test_batch.bin")
    spoilt, clean = _corrupted("fog", tmp_path), SPLITS["cifar10-test"].index(tmp_path)
    assert spoilt["cluster"].tolist() == clean["cluster"].tolist() and spoilt["fold"].tolist() == clean["fold"].tolist()
    assert (clean[clean["fold"] == "val"].groupby("label").size() == 200).all()


def test_roles(root: Path) -> None:
    sets = {s.name: s for s in task().eval_sets}
    assert {name: s.role for name, s in sets.items()} == {
        "id_val": "id_val",
        "id_test": "id_test",
        "ood_val": "ood_val",
        "cifar10_1": "ood_test",
        "cifar10_2": "ood_test",
    }
    assert sets["id_test"].parts == (Part("cifar10-test", "test"),)
    assert {part.fold for part in sets["ood_val"].parts} == {"val"}
    published = {s.name: s for s in task(selection="as_published").eval_sets}
    assert published["id_val"].parts == published["id_test"].parts
    corrupted = task(test_sets=["c"], ood_val=["c"], corruptions=["fog"])
    assert {part.fold for s in corrupted.eval_sets if s.role == "ood_test" for part in s.parts} == {"test"}


def test_targets_are_disjoint_from_their_tests_and_flipped(root: Path) -> None:
    flip = task(shift="flip")
    rows = SPLITS["cifar10-test"].index(root)
    (target,) = flip.targets
    parts = target.parts(1)
    val, test = (flip.select(parts[role][0], rows, 0) for role in ("target_val", "target_test"))
    assert not set(val.rows) & set(test.rows) and len(val.rows) and len(test.rows)
    assert (test.labels == 9 - rows["label"].to_numpy()[test.rows]).all()
    source = flip.select(flip.eval_sets[1].parts[0], rows, 0)
    assert (source.labels == rows["label"].to_numpy()[source.rows]).all()
    assert [t.split for t in task(shift="corrupt", corruptions=["fog"]).targets] == ["c-fog"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_sets": ["cifar10_3"]}, "tasks.t.test_sets: unknown name 'cifar10_3'; did you mean 'cifar10_"),
        ({"corruptions": ["fogg"]}, "tasks.t.corruptions: unknown name 'fogg'; did you mean 'fog'"),
        ({"ood_val": ["cifar10_1"], "test_sets": ["cifar10_1"]}, "cifar10_1 both chooses"),
        ({"shift": "subtype"}, "subtype is not known of CIFAR-10"),
        ({"test_sets": []}, "tasks.t.test_sets: empty"),
    ],
)
def test_mistakes_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        task(**changes)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("source", "pickled", "archive"),
    [
        (SOURCES["cifar10"], "cifar-10-batches-py", "cifar-10-binary.tar.gz"),
        (TRANSFER["cifar100"], "cifar-100-python", "cifar-100-binary.tar.gz"),
    ],
)
@pytest.mark.parametrize("at", [".", "sub"])
def test_a_pickled_copy_is_told_and_not_downloaded_over(
    source: Source, pickled: str, archive: str, at: str, tmp_path: Path
) -> None:
    """As torchvision leaves it; the binary version is wanted, and what to do is said before anything is fetched."""
    place = tmp_path / "own" / at.replace("sub", source.folders[1])
    (place / pickled).mkdir(parents=True)
    with pytest.raises(UserError, match=rf"{pickled} is the pickled version.*Unpack {archive} \(https://www.cs.tor"):
        fetch(source, tmp_path / "raw", tmp_path / "own")
    assert not (tmp_path / "raw/archives").exists()
    for need in source.needs:
        (place / need).parent.mkdir(exist_ok=True)
        (place / need).write_bytes(b"")
    assert fetch(source, tmp_path / "raw", tmp_path / "own")["how"] == "own copy"


def test_wrong_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data_batch_1\.bin is missing: get the binary version \(cifar-10-binary"):
        SPLITS["cifar10-train"].index(tmp_path)
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(UserError, match="the Python version is pickled"):
        SPLITS["cifar10-train"].index(tmp_path)
    (tmp_path / "cifar-10-batches-bin").mkdir()
    (tmp_path / "cifar-10-batches-bin/test_batch.bin").write_bytes(bytes(3000))
    with pytest.raises(UserError, match="3000 bytes, no multiple of 3073"):
        SPLITS["cifar10-test"].index(tmp_path)
    np.save(tmp_path / "cifar10.1_v6_labels.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(UserError, match=r"cifar10\.1_v6_labels\.npy cannot be read"):
        SPLITS["cifar10_1"].index(tmp_path)
    np.save(tmp_path / "cifar10.1_v6_labels.npy", np.array([0, 12]))
    with pytest.raises(UserError, match="a label is outside 0 to 9"):
        SPLITS["cifar10_1"].index(tmp_path)


def test_every_file_has_a_published_digest() -> None:
    for file in (file for source in SOURCES.values() for file in source.files):
        assert file.sha256 or file.md5 or file.git_blob, file.name
    assert "which ones the papers used is not verified" in task().note
