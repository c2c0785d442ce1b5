"""Digests of code: what reruns a job and what does not."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from surefoot import fingerprint
from surefoot.fingerprint import code_digest, keep_parsed

SCRIPTS = sorted(path.stem for path in (fingerprint.ROOT / "scripts").glob("*.py"))


@pytest.fixture
def digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """code_digest of a copy of the library in tmp_path, free of what it has read before."""
    for folder in ("surefoot", "scripts"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(fingerprint.ROOT / folder, tmp_path / folder, ignore=ignored)
    monkeypatch.setattr(fingerprint, "ROOT", tmp_path)

    monkeypatch.setattr(fingerprint, "_used", {})

    def fresh(script: str) -> str:
        forget()
        return code_digest(script)

    yield fresh
    forget()


def forget() -> None:
    """As a new process knows nothing."""
    fingerprint._used.clear()
    fingerprint._parsed.cache_clear()
    fingerprint._kept.cache_clear()


def edit(path: Path, old: str, new: str) -> None:
    """Replace a text that must be there."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_comments_docstrings_and_layout_do_not_count(digest: Callable[[str], str], tmp_path: Path) -> None:
    before, path = digest("finetune"), tmp_path / "surefoot/interpolate.py"
    metrics = tmp_path / "surefoot/train.py"
    edit(metrics, '"""The training loop."""', '"""Another sentence."""\n\n# a comment\n\n')
    edit(metrics, "def make_optimizer(", "# a comment\n\n\ndef make_optimizer(")
    edit(metrics, '"""The recipe\'s optimizer with', '"""Any optimizer with')
    edit(path, '"""Weight-space arithmetic."""', "")
    assert digest("finetune") == before


@pytest.mark.parametrize(
    "module", ["train.py", "objective.py", "text.py", "tpgm.py", "seeds.py", "tasks/emoji_names.py"]
)
def test_a_module_that_is_imported_directly_or_not_counts(
    digest: Callable[[str], str], tmp_path: Path, module: str
) -> None:
    before = digest("finetune")
    with (tmp_path / "surefoot" / module).open("a") as file:
        file.write("\nADDED = 1\n")
    assert digest("finetune") != before


@pytest.mark.parametrize("module", ["config.py", "method_entries.py", "flow.py", "tables.py", "tasks/emoji_art.py"])
def test_a_module_that_training_does_not_use_does_not_count(
    digest: Callable[[str], str], tmp_path: Path, module: str
) -> None:
    before = digest("finetune")
    with (tmp_path / "surefoot" / module).open("a") as file:
        file.write("\nADDED = 1\n")
    assert digest("finetune") == before


def test_the_script_itself_counts(digest: Callable[[str], str], tmp_path: Path) -> None:
    before = digest("finetune")
    edit(tmp_path / "scripts/finetune.py", "state.discard()", "pass")
    assert digest("finetune") != before


@pytest.mark.parametrize("module", ["figures.py", "tables.py", "pretrain.py", "report.py", "evaluate.py"])
def test_an_unrelated_module_does_not_count(digest: Callable[[str], str], tmp_path: Path, module: str) -> None:
    before = digest("finetune")
    with (tmp_path / "surefoot" / module).open("a") as file:
        file.write("\nADDED = 1\n")
    assert digest("finetune") == before


def test_a_constant_in_a_function_counts(digest: Callable[[str], str], tmp_path: Path) -> None:
    before = digest("evaluate")
    edit(tmp_path / "surefoot/metrics.py", "bins: int = 15", "bins: int = 16")
    assert digest("evaluate") != before


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_has_a_digest(script: str) -> None:
    assert len(code_digest(script)) == 16 and code_digest(script) == code_digest(script)


def test_digests_of_scripts_differ() -> None:
    assert len({code_digest(script) for script in SCRIPTS}) == len(SCRIPTS) > 5


def test_an_unknown_script_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        code_digest("nonsense")


def test_class_names_in_tables_count(digest: Callable[[str], str], tmp_path: Path) -> None:
    heads, figures = digest("make_zero_shot_head"), digest("draw_figures")
    edit(tmp_path / "surefoot/tasks/data/imagenet.json", "tench", "tensch")
    assert digest("make_zero_shot_head") != heads
    assert digest("draw_figures") == figures


def test_what_an_earlier_run_kept_is_not_parsed_again(
    digest: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digest("finetune")
    keep_parsed()
    with monkeypatch.context() as patch:
        patch.setattr(fingerprint.ast, "parse", lambda text: pytest.fail("parsed again"))
        assert digest("finetune") == before
    edit(tmp_path / "surefoot/train.py", "def make_optimizer(", "ADDED = 1\n\n\ndef make_optimizer(")
    assert digest("finetune") != before


def test_without_what_was_kept_modules_are_parsed(digest: Callable[[str], str], tmp_path: Path) -> None:
    before, kept = digest("finetune"), tmp_path / fingerprint.KNOWN
    kept.parent.mkdir()
    for broken in ("{", "[]", "null"):
        kept.write_text(broken)
        assert digest("finetune") == before
    kept.unlink()
    kept.parent.rmdir()
    kept.parent.write_text("so that the folder cannot be made")
    keep_parsed()
    assert digest("finetune") == before
