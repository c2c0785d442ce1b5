"""Draw the figures from the tables."""

from typing import TYPE_CHECKING

from surefoot.figures import draw_figures
from surefoot.job import job, paths

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if "snakemake" in globals():
    with job(snakemake):
        tables, figures = paths(snakemake.input.tables), paths(snakemake.output.figures)
        draw_figures(tables[0].parent, snakemake.params.story, figures[0].parent)
