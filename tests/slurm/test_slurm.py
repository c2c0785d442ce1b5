"""The smoke experiment, made smaller (experiment.yaml), on a real Slurm with two pretend GPUs.

The tests build on each other in the order of this file: one run fails in part, is repaired, interrupted, and finished.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pandas as pd
import pytest

from tests.cluster import await_, end_all, finish, start, trains
from tests.workflow.conftest import SMOKE, copy_repository

HERE = Path(__file__).parent
GPUS = 2
WEIGHTS = "results/finetune/emoji-smoke/emoji-clip/ft/seed-{}/weights.safetensors"
PRINTED = ".snakemake/slurm_logs/rule_finetune/*_ft/*.log"
STATE = "results/.state/finetune/emoji-smoke/emoji-clip/ft/seed-0/ft seed 0.pt"
# There is no accounting here, so squeue is asked; and after 3 s and then 13 s more, about what a job takes here.
SLURM = ["--profile", "profiles/slurm", "--slurm-partition-config", "profiles/slurm/partitions.yaml"]
SLURM += ["--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "3"]
RUN = [*SLURM, *SMOKE, "experiment.yaml"]


def slurm(*command: str) -> str:
    """What a command of Slurm prints."""
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, timeout=30).stdout


def active() -> list[str]:
    """Ids of jobs that are pending, running or ending."""
    return slurm("squeue", "-h", "-t", "PD,R,CG", "-o", "%i").split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the repository on a cluster of one node, which ends with the tests."""
    base = tmp_path_factory.mktemp("slurm")
    given = ["install"] if os.environ.get("SUREFOOT_SLURM") == "install" else []
    environment = {**os.environ, "SLURM_TEST_GPUS": str(GPUS), "LC_ALL": "C"}
    command, pipes = [HERE / "up.sh", base / "slurm", *given], {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    try:
        up = subprocess.run(command, env=environment, text=True, **pipes)
        if up.returncode == 77:
            pytest.skip(up.stdout.strip().splitlines()[-1])
        assert up.returncode == 0, up.stdout
        copy = copy_repository(base / "repository")
        shutil.copy2(HERE / "experiment.yaml", copy)
        yield copy
    finally:
        end_all()
        subprocess.run([HERE / "down.sh", base / "slurm"], check=True, stderr=subprocess.DEVNULL)


def test_a_job_that_fails_is_reported_with_its_log_and_the_rest_goes_on(folder: Path) -> None:
    broken = "methods: {ft: {recipes: {smoke: {learning_rate: 1.0e+30, clip_norm: null}}}}"
    (folder / "broken.yaml").write_text(broken)
    zero_shot = "results/evaluate/emoji-smoke/emoji-clip/zeroshot/metrics.parquet"
    targets = [zero_shot, WEIGHTS.format(0), WEIGHTS.format(0).replace("/ft/", "/lp/")]  # three GPU jobs at a time
    done = start(folder, *targets, *RUN, "broken.yaml", "--retries", "0")
    said = finish(done, folder)
    assert done.returncode == 1, said
    assert "Error in rule finetune" in said
    log = "results/logs/finetune/emoji-smoke/emoji-clip/ft/seeds.log"
    assert log in said and "the loss is nan" in (folder / log).read_text()
    kept = re.search(r"log: (\S+rule_finetune\S+\.log)", said[said.index("Error in rule finetune") :])
    kept = kept or re.search(r"(\S+slurm_logs/rule_finetune/\S+?\.log)", said[said.index("Error in rule finetune") :])
    assert kept and "surefoot: ft seed 0: the loss is nan" in Path(kept[1]).read_text(), "Slurm's own log of the job"
    assert not (folder / WEIGHTS.format(0)).exists()
    assert (folder / zero_shot).is_file() and (folder / targets[2]).is_file(), "the rest went on"
    assert active() == []


def test_an_interrupted_run_leaves_no_job_behind(folder: Path) -> None:
    shutil.rmtree(folder / "results/.state", ignore_errors=True)
    before, running = time.time_ns(), start(folder, *RUN)
    await_("a job in training", lambda: trains(folder, PRINTED, before))
    os.killpg(running.pid, signal.SIGINT)  # Ctrl-C
    finish(running, folder, 60)
    await_("the cancelled job to be gone", lambda: not active(), 30)
    states = slurm("squeue", "-h", "--states=all", "-o", "%T").split()
    assert "CANCELLED" in states
    assert (folder / STATE).is_file(), "the cancelled job saved its state"
    assert not (folder / WEIGHTS.format(0)).exists()


def test_a_rerun_goes_on_survives_the_end_of_its_time_and_finishes(folder: Path) -> None:
    before, running = time.time_ns(), start(folder, *RUN)
    await_("training to go on", lambda: trains(folder, PRINTED, before))
    for job in slurm("squeue", "-h", "-t", "R", "-o", "%i").split():
        slurm("scancel", "--signal=TERM", job)  # what Slurm does to a job whose time is up
    said = finish(running, folder)
    assert running.returncode == 0, said
    assert "Trying to restart job" in said, "the profile's retries started it again"
    assert (folder / "results/report.html").is_file()
    main = pd.read_csv(folder / "results/tables/main.csv")
    assert set(main["label"]) >= {"Zero-shot", "LP", "FT"}
    meter = pd.read_json(folder / WEIGHTS.format(0).replace("weights.safetensors", "meter.json"), typ="series")
    assert meter["resumed"]
    assert not list((folder / "results/.state").rglob("*.pt")), "states of finished jobs are left over"
    assert active() == []


def test_gpu_jobs_never_outnumber_gpus_and_fill_them(folder: Path) -> None:
    """From Slurm's records: +1 where a job with a GPU starts, -1 where it ends (ends first where both are equal)."""
    changes, waited = [], 0
    for line in slurm("scontrol", "-o", "show", "jobs").splitlines():
        record = dict(item.split("=", 1) for item in line.split() if "=" in item)
        asks = "gres:gpu:1" in record.get("TresPerJob", "")
        assert asks == (record["Partition"] == "gpu"), f"job in the wrong partition: {line}"
        if asks and record["StartTime"] != "Unknown":
            begin, end, sent = (datetime.fromisoformat(record[k]) for k in ("StartTime", "EndTime", "SubmitTime"))
            changes += [(begin, 1), (end, -1)] if begin != end else []
            waited += (begin - sent).total_seconds() >= 3
    now, most = 0, 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    assert most == GPUS, "as many GPU jobs at a time as there are GPUs, and no more"
    assert waited, "no job had to wait for a GPU, so the test shows nothing"
