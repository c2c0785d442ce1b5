"""Files that are either whole or absent, and their digests."""

import errno
import glob
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd  # the Snakefile imports this module and must not wait for it

UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT)


class UserError(Exception):
    """A mistake or a broken file that the user can mend; the message names it and says what to do next."""


class BadValues(UserError):
    """Values that were tried have no meaning or end in NaN: they are to blame, not files, hardware or the config."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` when the block ends well, delete it otherwise.

    Raises UserError when the folder cannot be written or the disk is full.
    """
    partial, handled = path.with_name(f".{path.name}.{_writer(os.getpid())}.part"), sys.exception()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except Exception as error:
        if not isinstance(error, UserError) and (reason := _unwritable(error, handled)):
            raise UserError(f"cannot write {path}: {reason}; free space or mend permissions, then rerun") from error
        raise
    finally:
        partial.unlink(missing_ok=True)
    _remove_left_behind(path)


def _writer(pid: int | str) -> str:
    """A process of this machine in the name of a temporary file; folders are shared with other machines."""
    return f"{os.uname().nodename.partition('.')[0]}-{pid}"


def _remove_left_behind(path: Path) -> None:
    """Remove what writers of a file left that were killed with -9 on this machine; of others it cannot be known."""
    start, end = f".{path.name}.{_writer('')}", ".part"
    for partial in path.parent.glob(f"{glob.escape(start)}*{end}"):
        pid = partial.name.removeprefix(start).removesuffix(end)
        if not Path("/proc", pid).exists():
            with suppress(OSError):
                partial.unlink()


def _unwritable(error: BaseException | None, handled: BaseException | None) -> BaseException | None:
    """The error that says why a file cannot be written, if that is why; `handled` is from before and says nothing.

    Other libraries' writers say it in their own kinds of errors with the system's words, or (torch.save) fail anew when
    they close the file.
    """
    while error not in (None, handled):
        if getattr(error, "errno", None) in UNWRITABLE or any(os.strerror(e) in str(error) for e in UNWRITABLE):
            return error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def write_json(path: Path, content: Any) -> None:
    """Write JSON with sorted keys, atomically."""
    with atomic(path) as partial:
        partial.write_text(json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def write_parquet(path: Path, table: "pd.DataFrame") -> None:
    """Write a table as Parquet without its index, atomically."""
    with atomic(path) as partial:
        table.to_parquet(partial, index=False)


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises UserError when it is missing or cut off."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; rerun snakemake to make it") from None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); delete it and rerun") from None


def files_of(paths: Iterable[Path]) -> Iterator[Path]:
    """Files, with those in folders one by one; without hidden ones, which are notes of this library or of Snakemake."""
    for path in paths:
        if path.is_dir():
            yield from files_of(sorted(entry for entry in path.iterdir() if not entry.name.startswith(".")))
        else:
            yield path


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


LARGE = 2**28  # bytes above which a file is not read again only to check its digest


def digest_of(path: Path) -> str:
    """SHA-256 of a file, read once by a process; of a large file, read again only when its size or time changed.

    The digest of a large file is kept in a hidden file beside it.
    """
    status = path.stat()
    return _digest_of(path, status.st_ino, status.st_size, status.st_mtime_ns)


@cache
def _digest_of(path: Path, inode: int, size: int, time: int) -> str:
    if size < LARGE:
        return sha256(path)
    note = path.with_name(f".{path.name}.digest")
    words = note.read_text().split() if note.is_file() else []
    if words[1:] == [str(size), str(time)]:
        return words[0]
    digest = sha256(path)
    try:
        with atomic(note) as partial:
            partial.write_text(f"{digest} {size} {time}")
    except UserError:  # a folder that cannot be written can still be read
        pass
    return digest
