"""Try every setting of a method's grid and score it on validation images."""

from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.data import Data, split_folders
from surefoot.files import write_parquet
from surefoot.finetune import Bench
from surefoot.job import job, paths
from surefoot.resume import Resumable, fingerprint, state_folder
from surefoot.tasks import load_task
from surefoot.tune import tune

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if "snakemake" in globals():
    with job(snakemake):
        given, out = snakemake.params, Path(snakemake.output.trials)
        model, head, bases = Path(snakemake.input.model), Path(snakemake.input.head), paths(snakemake.input.bases)
        data = Data(load_task(given.task), split_folders(snakemake.input.splits))
        mark = fingerprint(given.task, given.grid, given.seeds, given.code, data.digests, model, head, *bases)
        progress = Resumable(state_folder(out.parent), mark)
        benches = [Bench(model, head, data, entry) for entry in given.grid["entries"]]
        starts = dict(zip(given.seeds, bases or [None] * len(given.seeds), strict=True))
        trials = tune(benches, given.grid["points"], starts, data, progress)
        write_parquet(out, trials.assign(task=data.task.name, model=model.name))
        progress.discard()
