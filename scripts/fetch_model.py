"""Fetch a CLIP model into a folder of its own."""

from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.job import job
from surefoot.models import fetch_model
from surefoot.run_entries import Model

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if "snakemake" in globals():
    with job(snakemake):
        fetch_model(Model.model_validate(snakemake.params.source), Path(snakemake.output.model))
