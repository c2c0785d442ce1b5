"""Verify that every file below results/ is what the job that made it wrote."""

from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.job import job
from surefoot.provenance import audit, tell

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if "snakemake" in globals():
    with job(snakemake):
        tell(audit(Path("results")))
