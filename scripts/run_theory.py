"""Tune two-layer networks under shifts, for the figure of the theory of surgical fine-tuning."""

from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.job import job
from surefoot.theory import run_theory

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if "snakemake" in globals():
    with job(snakemake):
        run_theory(Path(snakemake.output.table))
