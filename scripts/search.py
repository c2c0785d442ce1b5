"""Run the trials of a search: all its rounds in turn, or one shard of one round."""

from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.data import Data, split_folders
from surefoot.job import job, paths
from surefoot.search import Arena, search
from surefoot.tasks import load_task

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if "snakemake" in globals():
    with job(snakemake):
        given, inputs, wildcards = snakemake.params, snakemake.input, snakemake.wildcards
        bases = paths(inputs.bases)
        data = Data(load_task(given.task), split_folders(inputs.splits))
        model, head, seed = Path(inputs.model), Path(inputs.head), int(wildcards.search_seed)
        arena = Arena(model, head, data, given.space, bases[0] if bases else None, seed)
        search(
            arena,
            given.rounds,
            given.shards,
            arena.mark(given.task, given.code),
            history=paths(inputs.get("history", [])),
            outputs=paths(snakemake.output.trials),
            meter=paths(snakemake.output.meters)[0],
        )
