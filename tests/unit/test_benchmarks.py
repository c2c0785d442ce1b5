"""The benchmarks can be read, and what they make up of the library's own types fits them."""

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_a_benchmark_can_be_imported(name: str) -> None:
    assert callable(import_module(name).main)
    sys.modules.pop(name)


def test_made_up_images_are_examples(tmp_path: Path) -> None:
    made = import_module("method_cost").random_examples(5, 3)
    assert made.images(np.arange(5)).shape == (5, 48, 48, 3) and len(made.also) == 5
    setting = import_module("alpha_sweep").jpeg_setting(tmp_path, images=2, short_side=32)
    examples = setting.data.examples((), 0)
    assert examples.images(np.arange(2)).shape[0] == 2 and list(examples.also) == ["", ""]
