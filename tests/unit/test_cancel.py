"""Which jobs of a cluster Ctrl-C ends, and how TERM ends one."""

import subprocess
import sys
from collections.abc import Callable
from threading import Lock

import pytest

from surefoot.cancel import cancel_all
from tests.workflow.conftest import ROOT


class Job:
    """What Snakemake knows of a submitted job."""

    def __init__(self, name: str) -> None:
        self.job = self.external_jobid = name


class Executor:
    """What of Snakemake's remote executors matters here: it forgets the jobs that it asks for."""

    def __init__(self) -> None:
        self.lock, self.active_jobs, self.cancelled, self.ended = Lock(), [], [], []
        self.while_shutting_down: Callable[[], None] = lambda: None

    def report_job_submission(self, job_info: Job, register_job: bool = True) -> None:
        self.active_jobs.append(job_info)

    def report_job_success(self, job_info: Job) -> None:
        self.ended.append(job_info.job)

    def report_job_error(self, job_info: Job, msg: str | None = None) -> None:
        self.ended.append(job_info.job)

    def cancel(self) -> None:
        self.cancel_jobs(list(self.active_jobs))
        self.shutdown()

    def cancel_jobs(self, jobs: list[Job]) -> None:
        self.cancelled += [job.external_jobid for job in jobs]

    def shutdown(self) -> None:
        self.while_shutting_down()


@pytest.fixture
def executor() -> Executor:
    own = type("Own", (Executor,), {})
    cancel_all(own)
    cancel_all(own)  # a Snakefile that is read twice changes nothing
    return own()


def test_jobs_that_are_asked_for_are_cancelled_and_ended_ones_are_not(executor: Executor) -> None:
    jobs = {name: Job(name) for name in ("runs", "asked for", "done", "failed")}
    for job in jobs.values():
        executor.report_job_submission(job, register_job=False)
    executor.active_jobs.clear()  # while their states are asked for
    executor.report_job_success(jobs["done"])
    executor.report_job_error(jobs["failed"], msg="it failed")
    executor.cancel()
    assert executor.cancelled == ["runs", "asked for"] and executor.ended == ["done", "failed"]


def test_jobs_that_a_queue_submits_meanwhile_are_cancelled_too(executor: Executor) -> None:
    executor.report_job_submission(Job("early"))
    executor.while_shutting_down = lambda: executor.report_job_submission(Job("late"))
    executor.cancel()
    assert executor.cancelled == ["early", "late"]


def test_a_job_that_is_started_again_is_cancelled(executor: Executor) -> None:
    executor.report_job_submission(Job("retried"))
    executor.report_job_error(Job("retried"))
    executor.report_job_submission(Job("retried"))
    executor.cancel()
    assert executor.cancelled == ["retried"]


# The signal arrives while the thread that handles it holds the lock, which Snakemake's own handler waits for.
TERM_WITHIN = """
import signal, time
from threading import Lock, Semaphore
from types import SimpleNamespace
from snakemake.scheduling.job_scheduler import JobScheduler
from surefoot.cancel import survive_term

if SURVIVES:
    survive_term(JobScheduler)
    survive_term(JobScheduler)
scheduler = object.__new__(JobScheduler)
scheduler._lock, scheduler._open_jobs, scheduler._user_kill = Lock(), Semaphore(0), None
scheduler.workflow = SimpleNamespace(remote_exec=False)
signal.signal(signal.SIGTERM, scheduler.exit_gracefully)
print("starts", flush=True)
with scheduler._lock:
    signal.raise_signal(signal.SIGTERM)
    time.sleep(0.1)
    print(scheduler._user_kill, flush=True)
print(scheduler._open_jobs.acquire(timeout=10), scheduler._user_kill)
"""


def test_term_is_noted_also_while_snakemake_holds_its_lock() -> None:
    script = TERM_WITHIN.replace("SURVIVES", "True")
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, text=True, capture_output=True, timeout=60)
    assert done.stdout.split() == ["starts", "None", "True", "graceful"], done.stderr


def test_snakemakes_own_handler_still_waits_for_itself() -> None:
    """When this fails, Snakemake has mended it, and survive_term need not replace it any more."""
    script = TERM_WITHIN.replace("SURVIVES", "False")
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, text=True, stdout=subprocess.PIPE) as hangs:
        try:
            assert hangs.stdout.readline() == "starts\n"
            with pytest.raises(subprocess.TimeoutExpired):
                hangs.wait(timeout=3)
        finally:
            hangs.kill()


STARTS_LATE = """
import signal, subprocess
from types import SimpleNamespace
from surefoot.cancel import survive_term

class Scheduler:
    workflow = SimpleNamespace(remote_exec=REMOTE, local_exec=LOCAL)

    def exit_gracefully(self):
        pass

survive_term(Scheduler, seconds=0.1)
signal.signal(signal.SIGTERM, Scheduler().exit_gracefully)
signal.raise_signal(signal.SIGTERM)
started = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
try:
    print(started.wait(timeout=TIMEOUT))
except subprocess.TimeoutExpired:
    print("runs on")
finally:
    started.kill()
"""


@pytest.mark.parametrize(
    ("remote", "local", "timeout", "end"),
    [
        (True, True, 30, "-15"),
        (True, False, 1, "runs on"),  # a job of Slurm, around srun, which kills at once
        (False, True, 1, "runs on"),
        (False, False, 1, "runs on"),
    ],
)
def test_only_what_runs_the_scripts_of_a_clusters_job_tells_them_after_term(
    remote: bool, local: bool, timeout: int, end: str
) -> None:
    """Of a run on this machine TERM lets the scripts finish, as Snakemake's users know it."""
    script = STARTS_LATE
    for name, value in {"REMOTE": remote, "LOCAL": local, "TIMEOUT": timeout}.items():
        script = script.replace(name, str(value))
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, text=True, capture_output=True, timeout=60)
    assert done.stdout.strip() == end, done.stderr
