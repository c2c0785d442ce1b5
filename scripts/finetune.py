"""Fine-tune a model with one method, under one seed or several in turn."""

from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.data import Data, split_folders
from surefoot.finetune import finetune
from surefoot.flow import load_task
from surefoot.job import job, paths
from surefoot.resume import Resumable, fingerprint

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


def main(
    model: Path, head: Path, data: Data, method: dict, seeds: list[int], code: str, outputs: list, progress: Resumable
) -> None:
    """Train every seed; `outputs` holds the paths of weights, record and meter per seed."""
    for seed, files in zip(seeds, outputs, strict=True):
        finetune(model, head, data, method, seed, progress, code, *files)
    progress.discard()


if "snakemake" in globals():
    with job(snakemake.log[0]):
        given, out = snakemake.params, snakemake.output
        model, head = Path(snakemake.input.model), Path(snakemake.input.head)
        data = Data(load_task(given.task), split_folders(snakemake.input.splits))
        main(
            model=model,
            head=head,
            data=data,
            method=given.method,
            seeds=given.seeds,
            code=given.code,
            outputs=list(zip(paths(out.weights), paths(out.record), paths(out.meter), strict=True)),
            progress=Resumable(
                Path(given.state), fingerprint(given.task, given.method, given.code, data.digests, model, head)
            ),
        )
