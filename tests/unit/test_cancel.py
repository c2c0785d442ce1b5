"""Which jobs of a cluster Ctrl-C ends."""

from collections.abc import Callable
from threading import Lock

import pytest

from surefoot.cancel import cancel_all


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
