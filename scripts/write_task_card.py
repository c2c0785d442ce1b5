"""Write the card of a task."""

from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.cards import task_card
from surefoot.files import atomic
from surefoot.job import job
from surefoot.tasks import load_task

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if "snakemake" in globals():
    with job(snakemake), atomic(Path(snakemake.output.card)) as partial:
        partial.write_text(task_card(load_task(snakemake.params.task), snakemake.params.metric), encoding="utf-8")
