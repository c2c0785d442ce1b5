"""Adapt source models online to unlabelled streams of a task's targets with one method."""

from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.clip import load_state
from surefoot.data import Data, split_folders
from surefoot.files import write_parquet
from surefoot.job import job, paths
from surefoot.online import adapt_online
from surefoot.resume import cases_folder
from surefoot.surgical import Sources, case_states
from surefoot.tasks import load_task

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if "snakemake" in globals():
    with job(snakemake):
        given, out = snakemake.params, snakemake.output
        model, head, weights = Path(snakemake.input.model), Path(snakemake.input.head), paths(snakemake.input.sources)
        data = Data(load_task(given.task), split_folders(snakemake.input.splits))
        by_seed, how = dict(zip(given.seeds, weights, strict=True)), (given.method, given.rates, given.copies)
        folder = cases_folder(Path(out.trials).parent)
        states = case_states(folder, given.task, data, by_seed, how, given.code, model, head)
        sources = Sources(model, load_state(head), data, given.method)
        found = adapt_online(sources, by_seed, given.rates, given.copies, states)
        for table, path in zip(found, (Path(out.trials), Path(out.predictions)), strict=True):
            write_parquet(path, table)
