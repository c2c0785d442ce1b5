"""Ctrl-C ends every job of a cluster."""

from typing import Any


def cancel_all(executor: type) -> None:
    """Make a class of Snakemake's remote executors cancel all jobs that it submitted and that have not ended.

    Snakemake takes jobs off its list while it asks a batch system for their states, and cancels what is on the list.
    So Ctrl-C at that moment, or a question that fails, would leave all jobs running.
    """
    if hasattr(executor, "_cancels_all"):
        return
    submitted, succeeded, failed, cancel = (
        getattr(executor, name)
        for name in ("report_job_submission", "report_job_success", "report_job_error", "cancel")
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

    def cancel_submitted(self: Any) -> None:
        with self.lock:
            self.active_jobs = list(jobs(self).values())
        cancel(self)

    executor.report_job_submission = report_job_submission
    executor.report_job_success = report_job_success
    executor.report_job_error = report_job_error
    executor.cancel = cancel_submitted
    executor._cancels_all = True
