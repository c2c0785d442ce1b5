"""Write all searches of the run as studies of one Optuna storage, for optuna-dashboard and Optuna's own plots."""

from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.job import job, paths
from surefoot.proposals import export_studies
from surefoot.trials import read_trials

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if "snakemake" in globals():
    with job(snakemake):
        searches = [read_trials([path]) for path in paths(snakemake.input.trials)]
        export_studies(searches, snakemake.params.spaces, Path(snakemake.output.study))
