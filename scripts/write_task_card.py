"""Write the card of a task."""

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from surefoot.cards import task_card
from surefoot.files import atomic
from surefoot.job import job, paths
from surefoot.tasks import load_task

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if "snakemake" in globals():
    with job(snakemake), atomic(Path(snakemake.output.card)) as partial:
        given = snakemake.params
        rows = {path.parent.name: pd.read_parquet(path) for path in paths(snakemake.input.rows)}
        card = task_card(load_task(given.task), given.metric, rows, given.seed, given.task)
        partial.write_text(card, encoding="utf-8")
