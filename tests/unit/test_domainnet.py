"""DomainNet: rows are those of the official lists and of the wilds package; what a mistake reads like."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from surefoot.files import UserError
from surefoot.tasks import Task, load_task
from surefoot.tasks.benchmarks import COLUMNS
from surefoot.tasks.domainnet import DOMAINS, SOURCES, SPLITS, classes
from tests.fabricate.domainnet import fabricate


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("domainnet")
    fabricate(folder)
    return folder


def task(**changes: Any) -> Task:
    return load_task({"name": "t", "family": "domainnet", "data": "real", **changes})


def index(root: Path, split: str) -> pd.DataFrame:
    return SPLITS[split].index(root / "domainnet")


def test_the_sources_hold_what_their_folders_need(root: Path) -> None:
    for source in SOURCES.values():
        assert all((root / source.folders[0] / need).exists() for need in source.needs)


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
@pytest.mark.parametrize("domain", DOMAINS)
def test_rows_are_those_of_the_package(root: Path, domain: str) -> None:
    import wilds

    other = "sketch" if domain == "real" else "real"
    dataset = wilds.get_dataset(
        "domainnet", root_dir=str(root), download=False, source_domain=domain, target_domain=other
    )
    for split, theirs in (("train", "train"), ("test", "id_test")):
        places = np.flatnonzero(dataset.split_array == dataset.split_dict[theirs])
        expected = dict(zip(dataset._input_image_paths[places], dataset.y_array[places].tolist(), strict=True))
        rows = index(root, f"{domain}-{split}")
        assert list(rows.columns) == list(COLUMNS)
        assert dict(zip(rows["file"], rows["label"], strict=True)) == expected and len(rows) == len(expected)
        assert all((root / "domainnet" / file).is_file() for file in rows["file"])
        lines = (root / "domainnet" / f"{domain}_{split}.txt").read_text().splitlines()
        assert [f"{file} {label}" for file, label in zip(rows["file"], rows["label"], strict=True)] == lines


def test_class_names_are_those_of_the_package() -> None:
    from wilds.datasets.domainnet_dataset import DOMAIN_NET_CATEGORIES

    assert classes() == tuple(DOMAIN_NET_CATEGORIES)
    assert classes().index("t-shirt") == 327, "the class that Dassl misses in painting_train"
    assert sum("_" in name for name in classes()) == 51


def test_roles_are_lipsum_fts(root: Path) -> None:
    lipsum = task()
    sets = {s.name: (s.role, s.parts[0].split) for s in lipsum.eval_sets}
    assert sets == {
        "id_val": ("id_val", "real-train"),
        "id_test": ("id_test", "real-test"),
        **{d: ("ood_test", f"{d}-test") for d in ("painting", "clipart", "infograph", "sketch")},
    }
    rows = index(root, "real-train")
    train, held_out = (lipsum.select(part, rows, 0).rows for part in (*lipsum.train, *lipsum.parts_of("id_val")))
    assert len(train) == len(held_out) == 345 and not set(train) & set(held_out), "one of two images of each class"
    assert lipsum.templates[0].format(lipsum.prompt_names[0]).endswith("aircraft_carrier.")
    assert len(lipsum.templates) == 80


def test_as_published_chooses_on_the_test_set_and_trains_on_everything(root: Path) -> None:
    published = task(selection="as_published")
    assert published.parts_of("id_val") == published.parts_of("id_test") and "reported test set" in published.note
    rows = index(root, "real-train")
    assert len(published.select(published.train[0], rows, 0).rows) == len(rows)
    few = task(selection="as_published", shots=1)
    assert np.bincount(few.select(few.train[0], rows, 0).labels).tolist() == [1] * 345


def test_any_domain_can_be_trained_on_and_any_other_choose() -> None:
    sketch = task(data="sketch", test_sets=["quickdraw", "real"], ood_val=["clipart", "real"])
    assert [s.name for s in sketch.eval_sets] == ["id_val", "id_test", "ood_val", "quickdraw", "real"]
    assert [(p.split, p.fold) for p in sketch.parts_of("ood_val")] == [("clipart-train", "val"), ("real-train", "val")]
    assert "in other images: real" in sketch.note
    assert task(data="painting").may_lack_classes and not sketch.may_lack_classes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "sketches"}, "tasks.t.data: unknown domain 'sketches'; did you mean 'sketch'?"),
        ({"test_sets": ["real"]}, "tasks.t.test_sets: real is trained on"),
        ({"test_sets": []}, "tasks.t.test_sets: empty"),
        ({"ood_val": ["paintin"]}, "tasks.t.ood_val: unknown domain 'paintin'; did you mean 'painting'?"),
        ({"test_sets": ["sketch", "sketch"]}, "tasks.t.test_sets: a domain stands twice"),
        ({"corruptions": ["snow"]}, "tasks.t.corruptions: DomainNet has none"),
        ({"shift": "flip"}, "tasks.t.shift: flip is not known"),
    ],
)
def test_mistakes_of_an_entry_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        task(**changes)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "line",
    ["real/zebra/a.jpg 342", "clipart/zebra/a.jpg 343", "real/zebbra/a.jpg 343", "real/zebra/a.jpg", "zebra/a.jpg 343"],
)
def test_mistakes_on_disk_are_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(UserError, match=r"real_test\.txt.*get it from http"):
        SPLITS["real-test"].index(tmp_path)
    (tmp_path / "real_test.txt").write_text(f"real/zebra/b.jpg 343\n{line}\n")
    with pytest.raises(UserError, match=r"real_test\.txt, line 2: .* is not real/CLASS/FILE"):
        SPLITS["real-test"].index(tmp_path)
