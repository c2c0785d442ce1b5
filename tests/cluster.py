"""What the tests of clusters share: runs with the executor plugins, in copies of the repository."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workflow.conftest import ROOT

started: list[subprocess.Popen[str]] = []
CLUSTER = ROOT / ".venv-cluster/bin/snakemake"


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the cluster environment's Snakemake in a copy; its output, both streams together, goes to run.log there."""
    if not CLUSTER.is_file():
        pytest.fail(f"{CLUSTER} is missing: run `make cluster` (make test does)")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    with (folder / "run.log").open("w") as log:
        running = subprocess.Popen(
            [CLUSTER, *arguments],
            cwd=folder,
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # background jobs ignore it
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )
    started.append(running)
    return running


def end_all() -> None:
    """End the runs that a failed test left: with Ctrl-C, so that their jobs end too."""
    while started:
        running = started.pop()
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGINT)
            running.wait(timeout=60)


def finish(running: subprocess.Popen[str], folder: Path, seconds: int = 300) -> str:
    """Wait for the end of a run and return what it said."""
    try:
        running.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, signal.SIGKILL)
        pytest.fail(f"the run did not end in {seconds} s:\n{(folder / 'run.log').read_text(errors='replace')[-6000:]}")
    return (folder / "run.log").read_text(errors="replace")


def await_(what: str, holds: Callable[[], bool], seconds: float = 90) -> None:
    """Wait until something holds; the test fails when it does not."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            pytest.fail(f"waited {seconds} s in vain for {what}")
        time.sleep(0.1)


def trains(folder: Path, pattern: str, since: int) -> bool:
    """Whether what a job printed, newer than a time in ns, has the progress bar of the training of seed 0."""
    for path in folder.glob(pattern):
        try:
            if path.stat().st_mtime_ns > since and b"ft seed 0:" in path.read_bytes():  # maybe half of a character
                return True
        except FileNotFoundError:  # removed meanwhile: the job ended well
            continue
    return False
