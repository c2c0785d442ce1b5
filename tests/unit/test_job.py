"""How a script ends when its process gets TERM."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflow.conftest import ROOT

# What a script does around its call, with a log of its own; the second TERM arrives while the first one ends the job.
ENDED_TWICE = """
import os, signal
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from surefoot.job import job
from surefoot.resume import Resumable, Saves

files = dict(input=[], output=["results/out"], log=["results/logs/job.log"])
rule = SimpleNamespace(rule="finetune", wildcards={}, params={}, **files)
with job(rule):
    try:
        with Saves(Resumable(Path("results/.state/out"), "job"), "state.pt") if SAVES else nullcontext() as saves:
            os.kill(os.getpid(), signal.SIGTERM)
            saves.after_step(lambda: {"step": 1})
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        print("cleaned up", flush=True)
"""


@pytest.mark.parametrize("saves", [True, False])
def test_a_second_term_does_not_disturb_the_end_after_the_first(tmp_path: Path, saves: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDED_TWICE.replace("SAVES", str(saves))],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 143, done.stderr
    assert done.stdout.strip() == "cleaned up"
    assert "run the same command again to go on" in done.stderr
    assert len(list(tmp_path.rglob("state.pt"))) == saves
    assert "interrupted" in (tmp_path / "results/logs/job.log").read_text()
