"""Files that are either whole or absent, and their digests."""

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd  # the Snakefile imports this module and must not wait for it

UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT)


class UserError(Exception):
    """A mistake or a broken file that the user can mend; the message names it and says what to do next."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` when the block ends well, delete it otherwise.

    Raises UserError when the folder cannot be written or the disk is full.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except Exception as error:
        # Other libraries' writers say it in their own kinds of errors, with the system's words.
        if getattr(error, "errno", None) in UNWRITABLE or any(os.strerror(e) in str(error) for e in UNWRITABLE):
            raise UserError(f"cannot write {path}: {error}; free space or mend permissions, then rerun") from error
        raise
    finally:
        partial.unlink(missing_ok=True)


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


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


LARGE = 2**28  # bytes above which a file is not read again only to check its digest


def is_intact(path: Path, digest: str | None) -> bool:
    """Whether a file has a digest. A large file that was checked is checked again when its size or time changed."""
    status = path.stat()
    if status.st_size < LARGE:
        return sha256(path) == digest
    checked = path.with_name(f".{path.name}.checked")
    stamp = f"{digest} {status.st_size} {status.st_mtime_ns}"
    if checked.is_file() and checked.read_text() == stamp:
        return True
    if sha256(path) != digest:
        return False
    try:
        with atomic(checked) as partial:
            partial.write_text(stamp)
    except UserError:  # a folder that cannot be written can still be read
        pass
    return True
