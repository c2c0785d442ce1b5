"""Export a merged model."""

from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.device import use_cpu
from surefoot.export import export_model
from surefoot.job import job, paths
from surefoot.tasks import load_task

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if "snakemake" in globals():
    with job(snakemake):
        use_cpu()
        export_model(
            folder=Path(snakemake.input.model),
            head=Path(snakemake.input.head),
            end=paths(snakemake.input.end)[0],
            alpha=snakemake.params.alpha,
            classes=load_task(snakemake.params.task).classes,
            model_file=Path(snakemake.output.model),
            head_file=Path(snakemake.output.head),
        )
