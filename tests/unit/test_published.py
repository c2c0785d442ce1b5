"""Published numbers: the files keep their schema, and the page shows them."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from surefoot import docs
from surefoot.config import parse_config
from surefoot.files import UserError
from surefoot.published import (
    COLUMNS,
    FOLDER,
    VERIFICATIONS,
    Published,
    load_published,
    published_files,
    published_markdown,
)
from surefoot.spaces import METRIC_NAMES
from tests.published import ROOT, ROW, raw_config, written


@pytest.fixture(scope="module")
def numbers() -> list[Published]:
    return load_published(published_files())


# ---- the files ----


def test_every_collected_number_is_there() -> None:
    """939 rows were collected; 91 of them stood in two collections with the same value."""
    counts = {path.stem: len(load_published([path])) for path in published_files()}
    assert counts == {"wise-ft-and-baselines": 604 - 91, "lipsum-ft": 220, "surgical-ft": 99, "autoft": 16}
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"| `{name}.csv` | {count} |" in text for name, count in counts.items())


def test_the_readme_describes_every_column_and_counts_how_well_they_are_verified(numbers: list[Published]) -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [
        line.split("`")[1] for line in text.split("## Columns")[1].split("## How")[0].splitlines() if "| `" in line
    ] == [*COLUMNS]
    counts = Counter(row.verification for row in numbers)
    assert all(f"| `{name}` | {counts[name]} |" in text for name in VERIFICATIONS) and set(counts) == {*VERIFICATIONS}


def test_what_is_comparable_has_names_of_this_project(numbers: list[Published]) -> None:
    config = parse_config(raw_config())
    rows = [row for row in numbers if row.comparable != "no"]
    assert {row.method for row in rows} <= {*config.methods, *config.spaces}
    towers = {"RN50", "resnet-50", "resnet-26"}
    assert {row.model for row in rows} <= {"ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336", *towers}
    assert {row.metric for row in rows} <= {*METRIC_NAMES}
    sets = {part for row in rows for part in row.eval_set.removeprefix("mean:").split("+")}
    others = {"painting", "clipart", "infograph", "target_test", "target_stream"}
    assert sets == {"id_test", "ood_test", "v2", "r", "a", "sketch", "objectnet", *others}
    tasks = {"imagenet", "imagenet-c", "imagenet-lipsum", "domainnet", "iwildcam", "fmow", "camelyon17", "cifar10"}
    tasks |= {"cifar10-c", "living17-target", "entity30-target"}
    assert {row.task for row in rows} == {*tasks, "cars", "caltech101", "flowers102", "pcam", "sst2"}


def test_another_recipe_or_protocol_is_only_roughly_comparable(numbers: list[Published]) -> None:
    """TRACER states a recipe that no entry here has; Lipsum-FT's logs are of images that were resized otherwise."""
    other = [row for row in numbers if re.search("one recipe for all|resized in advance", row.note)]
    assert len(other) >= 80 and {row.comparable for row in other} <= {"roughly", "no"}


def test_a_trained_model_is_fully_comparable_only_where_its_recipe_is_known_and_here(numbers: list[Published]) -> None:
    """WiSE-FT published that of ViT-B/32 and B/16; FLYP that of ImageNet, whose WILDS runs are shorter than ours."""
    found = {(r.task, r.model, r.method) for r in numbers if r.comparable == "yes" and r.method != "zeroshot"}
    fine_tuned = {("imagenet", model, "ft") for model in ("ViT-B-32", "ViT-B-16")}
    assert found == fine_tuned | {("imagenet", model, "flyp") for model in ("ViT-B-16", "ViT-L-14")}


def test_values_are_possible(numbers: list[Published]) -> None:
    for row in numbers:
        if row.comparable != "no":
            assert 0 <= row.value <= (10 if row.metric == "nll" else 100), row
        if row.method == "zeroshot":
            assert row.alpha == 0 and row.n_seeds is None, row
        if row.ensemble == "none" and row.method != "zeroshot":
            assert row.alpha == 1, row
    assert all(row.value is not None or re.match(r"value: [\d.]+ to [\d.]+;", row.note) for row in numbers)


@pytest.mark.parametrize(
    ("paper", "method", "alpha", "eval_set", "value"),
    [
        ("WiSE-FT (arXiv 2109.01903)", "zeroshot", 0, "id_test", 68.33),
        ("WiSE-FT (arXiv 2109.01903)", "ft", 0.5, "id_test", 81.79),
        ("WiSE-FT (arXiv 2109.01903)", "ft", 1, "mean:a+objectnet+r+sketch+v2", 53.69),
        ("TPGM (arXiv 2303.10720)", "ft", 0.5, "mean:a+id_test+r+sketch+v2", 68.97),
        ("TRACER (arXiv 2605.29380)", "car-ft", 1, "mean:a+r+sketch+v2", 62.98),
        ("FLYP (arXiv 2212.00638)", "flyp", 1, "objectnet", 54.7),
    ],
)
def test_numbers_of_the_fact_sheets_are_found(
    numbers: list[Published], paper: str, method: str, alpha: float, eval_set: str, value: float
) -> None:
    asked = (paper, "imagenet", "ViT-B-16", method, alpha, eval_set)
    found = [r.value for r in numbers if (r.paper, r.task, r.model, r.method, r.alpha, r.eval_set) == asked]
    assert found == [value]


def test_printed_means_agree_with_their_parts(numbers: list[Published]) -> None:
    """A mean that a source prints beside all of its parts: a slip in copying would show. Each is rounded by itself."""
    where = ("paper", "table", "task", "model", "method", "ensemble", "alpha", "metric")
    values = {(*(getattr(r, name) for name in where), r.eval_set): r.value for r in numbers}
    off = []
    for (*key, name), value in values.items():
        parts = [values.get((*key, part)) for part in name.removeprefix("mean:").split("+")]
        if name.startswith("mean:") and None not in parts:
            off.append(abs(value - sum(parts) / len(parts)))
    assert len(off) > 30 and max(off) < 0.11


def test_sources_are_public_and_named(numbers: list[Published]) -> None:
    assert not [row for row in numbers if re.search(r"by me|/work|\.md:", row.source)]


# ---- reading them ----


def test_a_number_is_read_as_written(tmp_path: Path) -> None:
    row = ROW._replace(std=0.1, spread="std", n_seeds=3, note="a, b")
    assert load_published([written(tmp_path, row)]) == [row]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verification": "sure"}, "row 2: verification is 'sure', not one of verified, digitised"),
        ({"comparable": ""}, "comparable is ''"),
        ({"value": "4 to 6"}, "value is '4 to 6', not a number"),
        ({"value": None}, "value is empty"),
        ({"task": ""}, "task is empty"),
        ({"alpha": 1.5}, "alpha is not between 0 and 1"),
        ({"alpha": 0.5}, "ensemble none needs alpha 0 or 1"),
        ({"ensemble": "soup"}, "only none and wise are comparable"),
        ({"std": 0.1}, "a std and its spread go together"),
        ({"comparable": "roughly"}, "note must say why"),
        ({"eval_set": "mean:v2+a"}, "the parts of a mean must be in order"),
        ({"source": ""}, "source is empty"),
    ],
)
def test_a_broken_number_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        load_published([written(tmp_path, ROW._replace(**changes))])
    assert "numbers.csv, row 2" in str(caught.value)


def test_a_number_that_stands_twice_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"row 3: the same number as in .*row 2"):
        load_published([written(tmp_path, ROW, ROW._replace(value=81.0))])


def test_other_columns_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"numbers\.csv: the columns must be paper,table"):
        load_published([written(tmp_path, ROW, columns=COLUMNS[:-1])])


def test_a_missing_cell_is_named(tmp_path: Path) -> None:
    path = tmp_path / "numbers.csv"
    path.write_text(",".join(COLUMNS) + "\nA paper,Table 1\n")
    with pytest.raises(UserError, match="row 2: not 18 cells"):
        load_published([path])


def test_numbers_of_adaptations_are_of_targets_not_of_sources(numbers: list[Published]) -> None:
    """An arm of Surgical Fine-Tuning is tested on its target's images; `none` before any adaptation too."""
    rows = [row for row in numbers if row.method.startswith(("tune-", "auto-", "gradual-")) and row.comparable != "no"]
    assert {row.eval_set for row in rows} == {"target_test", "target_stream"}
    streams = {(row.task, row.model, row.method): row.value for row in rows if row.eval_set == "target_stream"}
    values = {"tune-none": 67.8, "tune-all": 69.7, "tune-first": 75.4, "tune-head": 67.8}
    assert streams == {("cifar10-c", "resnet-26", arm): value for arm, value in values.items()}
    living = {row.method: row.value for row in rows if row.task == "living17-target"}
    assert living == {"tune-none": 73.2, "tune-all": 78.2, "auto-rgn": 77.1}


# ---- the page ----


def test_the_page_is_up_to_date() -> None:
    assert (ROOT / "docs" / "published.md").read_text(encoding="utf-8") == docs.published_page(), docs.REMAKE


def test_a_table_of_the_page() -> None:
    rows = [
        ROW._replace(method="zeroshot", alpha=0.0, value=68.0),
        ROW._replace(value=81.25, std=0.1, spread="std", verification="digitised"),
        ROW._replace(value=70.0, eval_set="mean:r+v2", verification="not verified"),
        ROW._replace(ensemble="wise", alpha=None, value=82.0, comparable="roughly", note="alpha not known"),
    ]
    assert published_markdown(rows) == (
        "## A paper\n\n"
        "**Table 1, imagenet, ViT-B-16, top1** (verified; digitised; not verified)\n\n"
        "| method | alpha | id_test | mean of r, v2 |\n| --- | --- | --- | --- |\n"
        "| zeroshot |  | 68.00 |  |\n"
        "| ft |  | ~81.25 ± 0.1 | ?70.00 |\n"
        "| ft | not known | 82.00* |  |\n"
    )


def test_every_number_is_on_the_page(numbers: list[Published]) -> None:
    lines = [line for line in docs.published_page().splitlines() if line.startswith("| ") and "---" not in line]
    cells = sum(len(list(filter(None, map(str.strip, line.strip("|").split("|")[2:])))) for line in lines)
    heads = [line for line in lines if line.startswith("| method | alpha |")]
    assert cells - sum(len(line.strip("|").split("|")) - 2 for line in heads) == len(numbers)
