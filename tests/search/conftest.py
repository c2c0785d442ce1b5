"""An arena of the tiny task, and a folder of its own for every test."""

from pathlib import Path

import pytest

from surefoot.clip import State, save_state
from surefoot.data import Data
from surefoot.search import Arena
from tests.search.searching import Enter, Entry, entry


@pytest.fixture(scope="session")
def head_file(head: State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zero-shot head as a file."""
    save_state(tmp_path_factory.mktemp("head") / "head.safetensors", head)
    return next(tmp_path_factory.getbasetemp().glob("head*/head.safetensors"))


@pytest.fixture
def enter(model: Path, head_file: Path, data: Data) -> Enter:
    """Opens an arena, as a job does."""

    def arena(
        space: Entry | None = None,
        seed: int = 0,
        data: Data = data,
        base: Path | None = None,
        model: Path = model,
        head: Path | None = None,
    ) -> Arena:
        return Arena(model, head or head_file, data, space or entry(), base, seed)

    return arena


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths of jobs are relative."""
    monkeypatch.chdir(tmp_path)
