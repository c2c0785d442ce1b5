"""Take an objective that was learned on another task."""

from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.job import job
from surefoot.learned import read_objective, take_objective

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if "snakemake" in globals():
    with job(snakemake):
        found = read_objective(Path(snakemake.input.objective))
        take_objective(Path(snakemake.output.objective), found, snakemake.wildcards.task, snakemake.wildcards.space)
