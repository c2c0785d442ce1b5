"""The benchmarks can be read, and what they make up of the library's own types fits them."""

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from surefoot.budget import Size
from surefoot.method_entries import Training

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_a_benchmark_can_be_imported(name: str) -> None:
    assert callable(import_module(name).main)
    sys.modules.pop(name)


def test_projected_hours_are_those_of_the_page_at_its_speed() -> None:
    """Every kind of work at 50 TFLOP/s; with slower searches those that search take longer."""
    paper = import_module("paper_scale")
    kinds = ("training", "evaluation", "search", "adaptation")
    page = (FOLDER.parent / "docs/experiments.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")] for line in page.splitlines() if line.startswith("| [")]
    listed = {row[1].partition("]")[0].removeprefix("["): row[6] for row in rows}
    assert len(listed) > 15 and paper.projected(dict.fromkeys(kinds, 50e12)) == listed
    slower = paper.projected(dict.fromkeys(kinds, 50e12) | {"search": 25e12})
    assert {name for name, hours in slower.items() if hours != listed[name]} == {n for n in listed if "autoft" in n}


def test_speeds_count_the_flops_of_what_was_timed() -> None:
    paper, size = import_module("paper_scale"), Size(image_flops=10, text_flops=4, parameters=1, side=224)
    tune, inner = (
        Training(train=["image", "head"]),
        Training(train=["image", "text"], objective={"flyp": 1, "l2init": 1}),
    )
    found = paper.speeds(size, tune, inner, trained=7, searched=5, evaluated=3)
    assert found == {"training": 7 * 30, "evaluation": 3 * 10, "search": 5 * (30 + 12), "adaptation": 7 * 30}
    slower = paper.speeds(size, tune, inner, trained=7, searched=5, evaluated=3, decoding=2)
    assert slower == found | {"training": 2 * 30, "search": 2 * (30 + 12)}


def test_made_up_images_are_examples(tmp_path: Path) -> None:
    made = import_module("method_cost").random_examples(5, 3)
    assert made.images(np.arange(5)).shape == (5, 48, 48, 3) and len(made.also) == 5
    setting = import_module("alpha_sweep").jpeg_setting(tmp_path, images=2, short_side=32)
    examples = setting.data.examples((), 0)
    assert examples.images(np.arange(2)).shape[0] == 2 and list(examples.also) == ["", ""]
