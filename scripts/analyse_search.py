"""Score runs of a search's space anew: short against full ones, or a learned objective without each of its terms."""

from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.data import Data, split_folders
from surefoot.files import write_parquet
from surefoot.job import job, paths
from surefoot.learned import read_objective
from surefoot.resume import Resumable, state_folder
from surefoot.search import Arena
from surefoot.search_analysis import score_lengths, score_without
from surefoot.tasks import load_task

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if "snakemake" in globals():
    with job(snakemake):
        given, inputs, wildcards = snakemake.params, snakemake.input, snakemake.wildcards
        bases, objectives = paths(inputs.bases), paths(inputs.get("objective", []))
        data = Data(load_task(given.task), split_folders(inputs.splits))
        model, head, seed = Path(inputs.model), Path(inputs.head), int(wildcards.search_seed)
        arena = Arena(model, head, data, given.space, bases[0] if bases else None, seed)
        out = Path(snakemake.output.scores)
        mark = arena.mark(given.task, given.code, given.get("steps"), *objectives)
        progress = Resumable(state_folder(out), mark)
        if objectives:
            table = score_without(arena, read_objective(objectives[0])["changes"], given.repeats, progress)
        else:
            table = score_lengths(arena, given.proposals, given.steps, progress)
        about = {"task": wildcards.task, "model": wildcards.model, "space": wildcards.space, "search_seed": seed}
        write_parquet(out, table.assign(**about, eval_set=given.space["eval_set"], metric=given.space["metric"]))
        progress.discard()
