"""Fine-tune a model with one method, under one seed or several in turn."""

from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.data import Data, split_folders
from surefoot.finetune import Bench, finetune
from surefoot.job import job, paths
from surefoot.learned import learned_entry, read_objective
from surefoot.resume import Resumable, fingerprint, state_folder
from surefoot.tasks import load_task

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


def main(
    model: Path, head: Path, bases: list[Path], data: Data, task: dict, method: dict, code: str, outputs: list
) -> None:
    """Train every run; `outputs` holds the paths of weights, record and meter per run, whose folder names the seed."""
    mark = fingerprint(task, method, code, data.digests, model, head, *bases)
    states = [Resumable(state_folder(weights.parent), mark) for weights, _, _ in outputs]
    bench = Bench(model, head, data, method)
    for files, base, state in zip(outputs, bases or [None] * len(outputs), states, strict=True):
        seed = int(files[0].parent.name.removeprefix("seed-"))
        finetune(bench, base, seed, state, code, *files)
    for state in states:
        state.discard()


if "snakemake" in globals():
    with job(snakemake):
        given, out, method = snakemake.params, snakemake.output, snakemake.params.method
        for objective in paths(snakemake.input.get("objective", [])):
            method = learned_entry(method, read_objective(objective))
        main(
            model=Path(snakemake.input.model),
            head=Path(snakemake.input.head),
            bases=paths(snakemake.input.bases),
            data=Data(load_task(given.task), split_folders(snakemake.input.splits)),
            task=given.task,
            method=method,
            code=given.code,
            outputs=list(zip(paths(out.weights), paths(out.record), paths(out.meter), strict=True)),
        )
