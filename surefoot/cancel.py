"""Ctrl-C ends every job of a cluster, and TERM ends a job at any moment."""

import _thread
import time
from contextlib import suppress
from typing import Any

import psutil


def cancel_all(executor: type) -> None:
    """Make a class of Snakemake's remote executors cancel all jobs that it submitted and that have not ended.

    Snakemake takes jobs off its list while it asks a batch system for their states, and cancels what is on the list, so
    Ctrl-C at that moment would leave all of them running. And what waits in a queue of submissions, as with Slurm, is
    submitted while the executor shuts down.
    """
    if hasattr(executor, "_cancels_all"):
        return
    submitted, succeeded, failed = (
        getattr(executor, f"report_job_{event}") for event in ("submission", "success", "error")
    )

    def jobs(self: Any) -> dict[Any, Any]:
        return self.__dict__.setdefault("_submitted_jobs", {})

    def report_job_submission(self: Any, job_info: Any, *arguments: Any, **named: Any) -> None:
        jobs(self)[job_info.job] = job_info
        submitted(self, job_info, *arguments, **named)

    def report_job_success(self: Any, job_info: Any) -> None:
        jobs(self).pop(job_info.job, None)
        succeeded(self, job_info)

    def report_job_error(self: Any, job_info: Any, *arguments: Any, **named: Any) -> None:
        jobs(self).pop(job_info.job, None)
        failed(self, job_info, *arguments, **named)

    def cancel(self: Any) -> None:
        early = dict(jobs(self))
        self.cancel_jobs(list(early.values()))
        self.shutdown()
        if late := [job_info for job, job_info in list(jobs(self).items()) if job not in early]:
            self.cancel_jobs(late)

    executor.report_job_submission = report_job_submission
    executor.report_job_success = report_job_success
    executor.report_job_error = report_job_error
    executor.cancel = cancel
    executor._cancels_all = True


def survive_term(scheduler: type, seconds: float = 1) -> None:
    """Make Snakemake's scheduler end after TERM at whatever moment it arrives, with what it runs in a job of a cluster.

    Its own handler takes a lock that the interrupted code may hold, and then waits for itself. A script that is being
    started while the processes of a job get TERM has missed it, so what runs the scripts of a job tells them again. (In
    a job of Slurm that is the Snakemake behind srun; srun itself answers TERM by killing.)

    Args:
        seconds: Time between two tellings of a job's scripts.
    """
    if hasattr(scheduler, "_survives_term"):
        return
    note = scheduler.exit_gracefully

    def tell_scripts() -> None:
        while True:
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):  # it has ended, or is somebody else's
                    process.terminate()
            time.sleep(seconds)

    def exit_gracefully(self: Any, *_: Any) -> None:
        # threading.Thread starts with locks of its own, which may be held too.
        _thread.start_new_thread(note, (self,))
        if self.workflow.remote_exec and self.workflow.local_exec and not hasattr(self, "_tells_scripts"):
            self._tells_scripts = True
            _thread.start_new_thread(tell_scripts, ())

    scheduler.exit_gracefully = exit_gracefully
    scheduler._survives_term = True
