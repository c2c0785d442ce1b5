"""Draw the contact sheet of a task."""

from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.cards import contact_sheet
from surefoot.data import Data, split_folders
from surefoot.job import job
from surefoot.tasks import load_task

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if "snakemake" in globals():
    with job(snakemake):
        data = Data(load_task(snakemake.params.task), split_folders(snakemake.input.splits))
        contact_sheet(data, 0, Path(snakemake.output.png))
