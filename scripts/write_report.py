"""Write the report: one page that needs no other file."""

from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.job import job, paths
from surefoot.report import write_report

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if "snakemake" in globals():
    with job(snakemake):
        write_report(
            tables=paths(snakemake.input.tables),
            figures=paths(snakemake.input.figures),
            sheets=paths(snakemake.input.sheets),
            cards=paths(snakemake.input.cards),
            story=snakemake.params.story,
            page=Path(snakemake.output.page),
        )
