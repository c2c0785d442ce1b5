"""Adapt source models online to unlabelled streams of a task's targets with one method."""

from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.clip import load_state
from surefoot.data import Data, split_folders
from surefoot.files import write_parquet
from surefoot.job import job, paths
from surefoot.online import adapt_online
from surefoot.surgical import Sources
from surefoot.tasks import load_task

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if "snakemake" in globals():
    with job(snakemake.log[0]):
        given, out = snakemake.params, snakemake.output
        data = Data(load_task(given.task), split_folders(snakemake.input.splits))
        sources = Sources(Path(snakemake.input.model), load_state(Path(snakemake.input.head)), data, given.method)
        weights = dict(zip(given.seeds, paths(snakemake.input.sources), strict=True))
        found = adapt_online(sources, weights, given.rates, given.copies)
        for table, path in zip(found, (Path(out.trials), Path(out.predictions)), strict=True):
            write_parquet(path, table)
