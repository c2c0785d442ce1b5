"""Settings and fixtures that all tests share."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from surefoot.clip import Classifier, Preprocess, State, zero_shot_classifier
from surefoot.data import Data
from surefoot.references import References
from surefoot.zeroshot import zero_shot_head
from tests.download.server import host  # noqa: F401
from tests.fault_table import (  # noqa: F401
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_runtest_logreport,
    said,
)
from tests.terms import SMALL
from tests.tiny import Bench, tiny_data, write_tiny_model

torch.set_num_threads(1)


@pytest.fixture
def keeps_term() -> Iterator[Any]:
    """The handler of TERM, put back after a test in which a job ends within this process."""
    before = signal.getsignal(signal.SIGTERM)
    yield before
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny CLIP with random weights."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """A tiny task with its prepared splits."""
    return tiny_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def head(model: Path, data: Data) -> State:
    """Zero-shot head of the tiny model for the tiny task."""
    return zero_shot_head(model, data.task.prompt_names, data.task.templates)


@pytest.fixture(scope="session")
def preprocess(model: Path) -> Preprocess:
    """Input transform of the tiny model."""
    return Preprocess.of(model)


@pytest.fixture
def classifier(model: Path, head: State) -> Classifier:
    """The tiny zero-shot classifier, new for every test."""
    return zero_shot_classifier(model, head)


@pytest.fixture
def bench(model: Path, head: State, data: Data, tmp_path: Path) -> Bench:
    """Makes training runs of the tiny model on the tiny task."""
    return Bench(model, head, data, tmp_path / "runs")


@pytest.fixture
def known(bench: Bench) -> References:
    """References with few random texts."""
    return bench.references(SMALL)
