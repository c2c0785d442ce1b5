"""Evaluate a method along the line from its start (the zero-shot model, or another run) to its end."""

from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.data import Data, split_folders
from surefoot.evaluate import evaluate_runs
from surefoot.job import job, paths
from surefoot.tasks import load_task

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


def main(data: Data, metrics: Path, predictions: Path, meter: Path, **how) -> None:
    """Score every seed, alpha and eval set and write the records."""
    evaluate_runs(data=data, **how).write(metrics, predictions, meter)


if "snakemake" in globals():
    with job(snakemake):
        given = snakemake.params
        main(
            data=Data(load_task(given.task), split_folders(snakemake.input.splits)),
            metrics=Path(snakemake.output.metrics),
            predictions=Path(snakemake.output.predictions),
            meter=Path(snakemake.output.meter),
            model=Path(snakemake.input.model),
            head=Path(snakemake.input.head),
            starts=paths(snakemake.input.get("starts", [])),
            ends=paths(snakemake.input.ends),
            name=Path(snakemake.output.metrics).parent.name,
            seeds=given.seeds,
            alphas=given.alphas,
            batch=given.batch,
            renders=given.renders,
        )
