"""Where jobs compute, with pretend GPUs."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from surefoot import device
from surefoot.files import UserError
from surefoot.fingerprint import ROOT

# A job that claims one of some GPUs, says which, and keeps it until its input ends.
JOB = """
import sys
from pathlib import Path
from surefoot.device import claim
print(claim(sys.argv[2].split(","), int(sys.argv[3]), Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def start(tmp_path: Path):
    """Starts processes that claim a GPU; those that are left are killed in the end."""
    started = []

    def run(gpus: str = "a,b", slots: int = 1) -> subprocess.Popen:
        command = [sys.executable, "-c", JOB, str(tmp_path / "claims"), gpus, str(slots)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, cwd=ROOT, text=True, **pipes))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


def got(process: subprocess.Popen) -> int:
    """Which GPU a process says it has."""
    return int(process.stdout.readline())


def complaint(process: subprocess.Popen) -> str:
    """What a process tells the user while it waits."""
    return next(line for line in process.stderr if line.startswith("surefoot: "))


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Makes torch see some GPUs, told apart by their uuids, as far as picking one goes; gives those that were set."""
    chosen = []

    def see(*uuids: str) -> list:
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setattr(device.tempfile, "tempdir", None)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(uuids))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(uuids))
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda n: SimpleNamespace(uuid=uuids[n]))
        monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
        return chosen

    device.pick_device.cache_clear()
    yield see
    device.pick_device.cache_clear()


@pytest.mark.fault(
    "memory and GPUs",
    "more jobs than GPUs at a time on a node, and one is killed",
    "each job has a GPU of its own, the others wait and say for whom; a killed job frees its GPU",
)
def test_two_jobs_get_different_gpus_and_a_third_waits_for_the_first_to_end(start) -> None:
    first, second = start(), start()
    assert {got(first), got(second)} == {0, 1}
    third = start()
    told = complaint(third)
    assert "all 2 GPUs that this job may use are taken by other jobs of yours" in told
    assert str(first.pid) in told and str(second.pid) in told and "--resources gpu=2" in told
    assert third.poll() is None
    first.send_signal(signal.SIGKILL)
    assert got(third) in (0, 1)
    assert second.poll() is None, "the third job may only have the GPU of the first"
    fourth = start()
    assert str(first.pid) not in complaint(fourth)


def test_small_jobs_share_when_told_so_and_spread_first(start) -> None:
    jobs = [start(slots=2) for _ in range(2)]
    assert {got(job) for job in jobs} == {0, 1}
    more = [start(slots=2) for _ in range(2)]
    assert {got(job) for job in more} == {0, 1}
    assert "--resources gpu=4" in complaint(start(slots=2))


def test_jobs_that_see_different_gpus_do_not_wait_for_each_other(start) -> None:
    # Slurm with confined devices shows each job its own GPU as number 0.
    assert got(start("a")) == got(start("b")) == 0


def test_a_child_that_runs_another_program_does_not_keep_the_gpu(tmp_path: Path, start) -> None:
    keeper = JOB + "\nimport subprocess; print(subprocess.Popen(['sleep', '60']).pid, flush=True); sys.exit()"
    command = [sys.executable, "-c", keeper, str(tmp_path / "claims"), "a", "1"]
    done = subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    lines = [done.stdout.readline() for _ in range(2)]
    done.wait()
    try:
        assert lines[0] == "0\n"
        assert got(start("a")) == 0
    finally:
        os.kill(int(lines[1]), signal.SIGKILL)
        done.stdout.close()


def test_a_process_asks_once(pretend, tmp_path: Path) -> None:
    chosen = pretend("GPU-1", "GPU-2")
    assert device.pick_device() == device.pick_device() == torch.device("cuda", 0)
    assert chosen == [torch.device("cuda", 0)]
    held = list(tmp_path.glob("surefoot-gpus-*/*.lock"))
    assert [path.name for path in held] == ["GPU-1.0.lock"] and held[0].read_text() == str(os.getpid())


def test_the_gpu_of_another_process_is_left_alone(pretend, start, tmp_path: Path) -> None:
    (tmp_path / f"surefoot-gpus-{os.getuid()}").symlink_to(tmp_path / "claims")
    assert got(start("GPU-1,GPU-2")) == 0
    pretend("GPU-1", "GPU-2")
    assert device.pick_device() == torch.device("cuda", 1)


def test_without_a_gpu_one_thread(pretend, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    torch.set_num_threads(2)
    assert device.pick_device() == torch.device("cpu")
    assert torch.get_num_threads() == 1 and not caplog.records


@pytest.mark.fault(
    "memory and GPUs",
    "a GPU is given but torch cannot use it",
    "the log says so; the job computes on the CPU",
)
def test_a_gpu_that_was_given_but_cannot_be_used_is_told(
    pretend, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert device.pick_device() == torch.device("cpu")
    assert "CUDA_VISIBLE_DEVICES is 3, but torch finds no usable GPU" in caplog.text


@pytest.mark.parametrize("text", ["0", "-1", "two", ""])
def test_a_wrong_number_of_jobs_is_named(pretend, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    pretend("GPU-1")
    monkeypatch.setenv(device.PER_GPU, text)
    with pytest.raises(UserError, match=device.PER_GPU):
        device.pick_device()


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "claims").write_text("a file")
    with pytest.raises(UserError, match="claims"):
        device.claim(["a"], folder=tmp_path / "claims")


def test_waiting_ends_soon_after_a_gpu_is_free(start) -> None:
    first = start("a")
    got(first)
    second = start("a")
    complaint(second)
    begin = time.monotonic()
    first.kill()
    assert got(second) == 0
    assert time.monotonic() - begin < 5 * device.ASK_SECONDS
