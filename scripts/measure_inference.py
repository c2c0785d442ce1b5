"""Measure what inference costs with one model, a merged model and an ensemble of outputs."""

from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.data import Data, split_folders
from surefoot.files import write_json
from surefoot.inference import measure_inference
from surefoot.job import job, paths
from surefoot.tasks import load_task

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if "snakemake" in globals():
    with job(snakemake):
        given = snakemake.params
        cost = measure_inference(
            model=Path(snakemake.input.model),
            head=Path(snakemake.input.head),
            end=paths(snakemake.input.ends)[0],
            data=Data(load_task(given.task), split_folders(snakemake.input.splits)),
            seed=given.seeds[0],
            batch=given.batch,
            alpha=given.alpha,
        )
        write_json(Path(snakemake.output.meter), cost)
