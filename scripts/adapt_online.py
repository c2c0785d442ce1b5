"""Adapt source models online to unlabelled streams of a task's targets with one method."""

from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.clip import load_state
from surefoot.data import Data, split_folders
from surefoot.files import write_parquet
from surefoot.job import job, paths
from surefoot.online import adapt_online
from surefoot.resume import Resumable, fingerprint, state_folder
from surefoot.surgical import Sources
from surefoot.tasks import load_task

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if "snakemake" in globals():
    with job(snakemake.log[0]):
        given, out = snakemake.params, snakemake.output
        model, head, weights = Path(snakemake.input.model), Path(snakemake.input.head), paths(snakemake.input.sources)
        data = Data(load_task(given.task), split_folders(snakemake.input.splits))
        how = (given.method, given.rates, given.copies)
        mark = fingerprint(given.task, how, given.code, data.digests, model, head, *weights)
        progress = Resumable(state_folder(Path(out.trials).parent), mark)
        sources = Sources(model, load_state(head), data, given.method)
        by_seed = dict(zip(given.seeds, weights, strict=True))
        found = adapt_online(sources, by_seed, given.rates, given.copies, progress)
        for table, path in zip(found, (Path(out.trials), Path(out.predictions)), strict=True):
            write_parquet(path, table)
        progress.discard()
