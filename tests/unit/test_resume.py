"""State of unfinished work."""

import errno
import os
import signal
from pathlib import Path

import pytest
import torch

from surefoot import resume
from surefoot.files import UserError
from surefoot.resume import Resumable, Saves, fingerprint
from surefoot.train import NotFinite


def test_the_same_job_finds_its_state(tmp_path: Path) -> None:
    Resumable(tmp_path / "s", "job").save("a.pt", {"step": 3, "w": torch.ones(2)})
    state = Resumable(tmp_path / "s", "job").load("a.pt")
    assert state is not None and state["step"] == 3 and torch.equal(state["w"], torch.ones(2))


def test_another_job_starts_empty_and_so_does_the_first_after_it(tmp_path: Path) -> None:
    Resumable(tmp_path / "s", "job").save("a.pt", {"step": 3})
    assert Resumable(tmp_path / "s", "other job").load("a.pt") is None
    assert Resumable(tmp_path / "s", "job").load("a.pt") is None


def test_a_folder_without_a_mark_is_not_trusted(tmp_path: Path) -> None:
    Resumable(tmp_path / "s", "job").save("a.pt", {"step": 3})
    (tmp_path / "s/fingerprint").unlink()
    assert Resumable(tmp_path / "s", "job").load("a.pt") is None


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_cut_off_state_counts_as_none(tmp_path: Path, share: float) -> None:
    progress = Resumable(tmp_path / "s", "job")
    progress.save("a.pt", {"w": torch.ones(1000)})
    content = (tmp_path / "s/a.pt").read_bytes()
    (tmp_path / "s/a.pt").write_bytes(content[: int(share * len(content))])
    assert progress.load("a.pt") is None


@pytest.mark.fault("damaged file", "a bit of a saved state flips", "the state counts as none; that part starts again")
def test_a_flipped_bit_of_a_state_is_seen(tmp_path: Path) -> None:
    progress = Resumable(tmp_path / "s", "job")
    progress.save("a.pt", {"w": torch.ones(100)})
    content = (tmp_path / "s/a.pt").read_bytes()
    seen_by_torch = 0
    for position in range(0, len(content), 7):
        flipped = bytearray(content)
        flipped[position] ^= 1
        (tmp_path / "s/a.pt").write_bytes(flipped)
        assert progress.load("a.pt") is None
        try:
            torch.load(tmp_path / "s/a.pt", weights_only=True)
        except Exception:
            seen_by_torch += 1
    assert seen_by_torch < len(range(0, len(content), 7)), "torch sees them all by itself: the digest is not needed"


def test_names_are_apart_and_the_last_save_counts(tmp_path: Path) -> None:
    progress = Resumable(tmp_path / "s", "job")
    for step in range(3):
        progress.save("a.pt", {"step": step})
    progress.save("b.pt", {"step": 10})
    assert progress.load("a.pt") == {"step": 2} and progress.load("b.pt") == {"step": 10}
    assert progress.load("c.pt") is None


def test_discard_leaves_nothing(tmp_path: Path) -> None:
    progress = Resumable(tmp_path / "s", "job")
    progress.save("a.pt", {})
    progress.discard()
    assert list(tmp_path.iterdir()) == []
    progress.discard()


def test_a_read_only_folder_is_told_to_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match="Read-only file system"):
        Resumable(tmp_path / "s", "job")


def test_fingerprint_reads_the_content_of_paths(tmp_path: Path) -> None:
    file, folder = tmp_path / "file", tmp_path / "folder"
    folder.mkdir()
    file.write_text("1")
    (folder / "inner").write_text("1")
    first = fingerprint({"a": 1, "b": 2}, file, folder)
    assert fingerprint({"b": 2, "a": 1}, file, folder) == first
    assert fingerprint({"a": 1, "b": 3}, file, folder) != first
    file.write_text("2")
    second = fingerprint({"a": 1, "b": 2}, file, folder)
    (folder / "inner").write_text("2")
    assert len({first, second, fingerprint({"a": 1, "b": 2}, file, folder)}) == 3


def test_a_loop_saves_when_time_has_passed_and_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    progress, now, states = Resumable(tmp_path / "s", "job"), [0.0], []
    monkeypatch.setattr(resume.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(Resumable, "save", lambda self, name, state: states.append(state["step"]))
    with Saves(progress, "a.pt") as saves:
        for step in range(1, 51):
            now[0] += 1
            saves.after_step(lambda step=step: {"step": step}, last=step == 50)
    assert states == [21, 42, 50]


def test_a_state_that_is_slow_to_write_is_written_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    progress, now, saved_at = Resumable(tmp_path / "s", "job"), [0.0], []

    def slow(self: Resumable, name: str, state: dict) -> None:
        saved_at.append(now[0])
        now[0] += 10

    monkeypatch.setattr(resume.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(Resumable, "save", slow)
    with Saves(progress, "a.pt") as saves:
        for _ in range(1000):
            now[0] += 1
            saves.after_step(dict)
    spent = 10 * len(saved_at)
    assert len(saved_at) > 3 and spent / now[0] <= 0.05 + 10 / now[0]


def test_term_between_two_steps_is_not_lost(tmp_path: Path, keeps_term: None) -> None:
    progress = Resumable(tmp_path / "s", "job")
    with pytest.raises(SystemExit), Saves(progress, "a.pt") as saves:
        saves.after_step(lambda: {"step": 1}, last=True)
        os.kill(os.getpid(), signal.SIGTERM)
    assert progress.load("a.pt") == {"step": 1}
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN  # the process is ending, and nothing disturbs that


def test_after_term_no_error_of_one_run_lets_the_next_begin(tmp_path: Path, keeps_term: None) -> None:
    """Adaptation goes on with the next rate after one whose loss is not finite."""
    with pytest.raises(SystemExit) as stop, Saves(Resumable(tmp_path / "s", "job"), "a.pt"):
        os.kill(os.getpid(), signal.SIGTERM)
        raise NotFinite("the loss is nan")
    assert stop.value.code == 143


def test_what_saves_nothing_leaves_term_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Saves(None, "a.pt") as saves:
        assert signal.getsignal(signal.SIGTERM) == before
        saves.after_step(lambda: pytest.fail("there is nowhere to save"), last=True)
