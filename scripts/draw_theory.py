"""Draw the figure of the two-layer demonstration from its table."""

from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.job import job
from surefoot.theory_figure import draw_theory

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if "snakemake" in globals():
    with job(snakemake):
        draw_theory(Path(snakemake.input.table), Path(snakemake.output.figure).parent)
