"""Draw the figures from the tables."""

from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.figures import draw_figures
from surefoot.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if "snakemake" in globals():
    with job(snakemake.log[0]):
        folder = Path(snakemake.input.tables[0]).parent
        draw_figures(folder, snakemake.params.story, Path(snakemake.params.folder))
