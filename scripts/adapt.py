"""Adapt source models to the targets of a task with one method."""

from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.data import Data, split_folders
from surefoot.job import job, paths
from surefoot.resume import Resumable, fingerprint, state_folder
from surefoot.surgical import adapt
from surefoot.tasks import load_task

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if "snakemake" in globals():
    with job(snakemake.log[0]):
        given, out = snakemake.params, snakemake.output
        model, head, sources = Path(snakemake.input.model), Path(snakemake.input.head), paths(snakemake.input.sources)
        data = Data(load_task(given.task), split_folders(snakemake.input.splits))
        how = {"method": given.method, "rates": given.rates, "shots": given.shots}
        mark = fingerprint(given.task, how, given.code, data.digests, model, head, *sources)
        progress = Resumable(state_folder(Path(out.trials).parent), mark)
        found = adapt(model, head, dict(zip(given.seeds, sources, strict=True)), data, progress=progress, **how)
        found.write(Path(out.trials), Path(out.predictions), Path(out.factors), Path(out.meter))
        progress.discard()
