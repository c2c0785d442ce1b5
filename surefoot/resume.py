"""State of unfinished work, kept outside a job's outputs (which Snakemake deletes when a job fails)."""

import hashlib
import json
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Self

from surefoot.files import atomic, digest_of, files_of, sha256

SAVE_SECONDS = 20
LARGEST_SHARE = 0.05  # of the time may be spent on saving: the state of a large model takes seconds to write
TERMINATED = 143  # exit status of a process that TERM ended


def fingerprint(*parts: Any) -> str:
    """Digest of everything that decides a job's result; a path stands for its content (a folder for its files')."""

    def content(part: Any) -> Any:
        if isinstance(part, Path):
            return [digest_of(path) for path in files_of([part])]
        return part

    return hashlib.sha256(json.dumps([content(part) for part in parts], sort_keys=True).encode()).hexdigest()


def state_folder(output: Path) -> Path:
    """Where the state of an unfinished output below results/ is kept."""
    return Path(output.parts[0], ".state", *output.parts[1:])


def cases_folder(output: Path) -> Path:
    """Where the finished cases of an output below results/ are kept, for other experiments that share them."""
    return Path(output.parts[0], ".cases", *output.parts[1:])


class Resumable:
    """A folder of named states that belongs to one fingerprint of a job.

    A folder left by a job with another fingerprint (other config, code or data) is emptied first. `resumed` says
    whether there is a state to go on from.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder = folder
        mark = folder / "fingerprint"
        same = mark.is_file() and mark.read_text() == fingerprint
        self.resumed = any(folder.glob("*.pt"))
        if self.resumed and not same:
            shutil.rmtree(folder)
            self.resumed = False
        if not same:
            with atomic(mark) as partial:
                partial.write_text(fingerprint)

    def load(self, name: str) -> dict[str, Any] | None:
        """The state saved last under a name, or None. A damaged state counts as none."""
        import torch  # not above: jobs that only name folders need not wait for it

        path = self.folder / name
        try:
            if not _is_whole(path):
                return None
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception:  # a kill can leave any kind of damage; starting this part again is always right
            return None

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Replace the state of a name, atomically.

        torch.load takes a changed bit for a weight, so the file ends with its digest, behind what zip readers look at.
        """
        import torch

        with atomic(self.folder / name) as partial:
            with partial.open("wb") as file:
                torch.save(state, file)
            digest = bytes.fromhex(sha256(partial))
            with partial.open("ab") as file:
                file.write(digest)

    def forget(self, name: str) -> None:
        """Drop the state of a name: something larger that holds its result is saved."""
        (self.folder / name).unlink(missing_ok=True)

    def discard(self) -> None:
        """Forget everything: the job's outputs are written."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _is_whole(path: Path) -> bool:
    """Whether a saved state ends with the digest of what is before it."""
    digest, left = hashlib.sha256(), path.stat().st_size - hashlib.sha256().digest_size
    with path.open("rb") as file:
        while left > 0 and (chunk := file.read(min(left, 2**20))):
            digest.update(chunk)
            left -= len(chunk)
        return file.read() == digest.digest()


def leave(*_: Any) -> None:
    """End the process after TERM; a further one, which batch systems and Snakemake's jobs send, does not disturb that.

    Raises SystemExit.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(TERMINATED)


class Saves:
    """Saves the state of a loop now and then, and at once when TERM arrives; then the process ends.

    Batch systems send TERM before they kill a job whose time is up. Inside the block it waits for the end of a step,
    where the state is whole. Without `progress` nothing is saved, and TERM does what it did before.
    """

    def __init__(self, progress: Resumable | None, name: str) -> None:
        self.progress, self.name = progress, name
        self.asked, self.saved, self.cost = False, time.monotonic(), 0.0

    def __enter__(self) -> Self:
        if self.progress:
            self.before = signal.signal(signal.SIGTERM, self._ask)
        return self

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.progress:
            signal.signal(signal.SIGTERM, signal.SIG_IGN if self.asked else self.before)
            if self.asked and (kind is None or issubclass(kind, Exception)):  # nobody may go on with the next run
                leave()

    def after_step(self, state: Callable[[], dict[str, Any]], last: bool = False) -> None:
        """Save if it is time, if the loop is at its end, or if the process must go; then raises SystemExit."""
        if not self.progress:
            return
        due = time.monotonic() - self.saved > max(SAVE_SECONDS, self.cost / LARGEST_SHARE)
        if due or last or self.asked:
            begin = time.monotonic()
            self.progress.save(self.name, state())
            self.saved = time.monotonic()
            self.cost = self.saved - begin
        if self.asked:
            sys.exit(TERMINATED)
