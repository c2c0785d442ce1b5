"""Files that are whole or absent."""

import errno
import os
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import SafetensorError

from surefoot.clip import save_state
from surefoot.files import UserError, _writer, atomic, read_json, sha256, write_json
from surefoot.resume import Resumable
from surefoot.splits import write_split


def test_the_file_appears_only_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with atomic(path) as partial:
        partial.write_text("x")
        assert not path.exists()
    assert path.read_text() == "x"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyboardInterrupt(), SystemExit(143), OSError(errno.EIO, "x")])
def test_a_failed_block_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(BaseException), atomic(path) as partial:  # noqa: B017
        partial.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_an_interruption_is_not_taken_for_a_write_error(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic(tmp_path / "x"):
        raise KeyboardInterrupt


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_a_folder_that_cannot_be_written_is_told_to_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(code, os.strerror(code))

    for step in ("write_text", "replace", "mkdir"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, step, refuse)
            with pytest.raises(
                UserError, match=rf"cannot write .*a\.json: .*{os.strerror(code)}.*; free space or mend"
            ):
                write_json(tmp_path / "a.json", {})
        assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_to_the_user_by_every_writer(tmp_path: Path) -> None:
    """The temporary name leads to a device that is always full."""
    progress = Resumable(tmp_path, "job")
    for name, write in {
        "state.pt": lambda: progress.save("state.pt", {"a": torch.zeros(1)}),
        "large.pt": lambda: progress.save("large.pt", {"a": torch.zeros(10**6)}),  # fails twice: torch closes the file
        "a.json": lambda: write_json(tmp_path / "a.json", {}),
        "images.npy": lambda: write_split(tmp_path, np.zeros((1, 2, 2, 3), np.uint8), pd.DataFrame({"a": [1]}), {}),
    }.items():
        (tmp_path / f".{name}.{_writer(os.getpid())}.part").symlink_to("/dev/full")
        with pytest.raises(UserError, match=rf"cannot write .*{name}.*No space left"):
            write()
    assert [p.name for p in tmp_path.iterdir()] == ["fingerprint"]


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_the_errors_of_safetensors_are_understood(tmp_path: Path, code: int) -> None:
    """They are no OSError: only their words tell."""
    with pytest.raises(UserError, match="cannot write"), atomic(tmp_path / "w.safetensors"):
        raise SafetensorError(f"Error while serializing: I/O error: {os.strerror(code)} (os error {code})")


def test_an_error_from_before_is_not_taken_for_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no number"):
        try:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except PermissionError:
            with atomic(tmp_path / "x"):
                raise ValueError("no number")  # noqa: B904  (what comes from before is the point)
    with pytest.raises(ValueError, match="no text"), atomic(tmp_path / "x"):
        try:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except PermissionError:
            raise ValueError("no text") from None


def test_an_error_of_another_kind_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no drawing"), atomic(tmp_path / "x"):
        raise FileNotFoundError("no drawing")


def test_weights_survive_a_failed_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.safetensors"
    save_state(path, {"a": torch.zeros(3)})
    before = sha256(path)
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(UserError, match="No space left"):
        save_state(path, {"a": torch.ones(3)})
    assert sha256(path) == before and [p.name for p in tmp_path.iterdir()] == [path.name]


def test_json_round_trip_is_independent_of_key_order(tmp_path: Path) -> None:
    one, other = tmp_path / "1.json", tmp_path / "2.json"
    write_json(one, {"b": [1, None], "a": "ü"})
    write_json(other, {"a": "ü", "b": [1, None]})
    assert read_json(one) == {"a": "ü", "b": [1, None]}
    assert one.read_bytes() == other.read_bytes()


def test_missing_and_damaged_json_are_told_to_the_user(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json is missing"):
        read_json(tmp_path / "none.json")
    (tmp_path / "cut.json").write_text('{"a": ')
    with pytest.raises(UserError, match=r"cut\.json is damaged"):
        read_json(tmp_path / "cut.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"binary\.json is damaged"):
        read_json(tmp_path / "binary.json")


def test_sha256_is_the_standard_one(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    left = tmp_path / f".a.json.{_writer(ended.pid)}.part"
    kept = [
        tmp_path / f".b.json.{_writer(ended.pid)}.part",
        tmp_path / f".a.json.{_writer(os.getppid())}.part",
        tmp_path / f".a.json.elsewhere-{ended.pid}.part",
    ]
    for path in (left, *kept):
        path.write_text("half")
    write_json(tmp_path / "a.json", {})
    assert set(tmp_path.iterdir()) == {tmp_path / "a.json", *kept}
