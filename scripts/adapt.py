"""Adapt source models to the targets of a task with one method."""

from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.data import Data, split_folders
from surefoot.job import job, paths
from surefoot.resume import cases_folder
from surefoot.surgical import adapt, case_states
from surefoot.tasks import load_task

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if "snakemake" in globals():
    with job(snakemake):
        given, out = snakemake.params, snakemake.output
        model, head, sources = Path(snakemake.input.model), Path(snakemake.input.head), paths(snakemake.input.sources)
        data = Data(load_task(given.task), split_folders(snakemake.input.splits))
        by_seed, how = dict(zip(given.seeds, sources, strict=True)), {"method": given.method, "rates": given.rates}
        folder = cases_folder(Path(out.trials).parent)
        states = case_states(folder, given.task, data, by_seed, how, given.code, model, head)
        found = adapt(model, head, by_seed, data, shots=given.shots, states=states, **how)
        found.write(Path(out.trials), Path(out.predictions), Path(out.factors), Path(out.meter))
