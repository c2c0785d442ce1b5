"""Ctrl-C ends every job of a cluster."""

from typing import Any


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
