"""Make the tables from the records."""

from typing import TYPE_CHECKING

from surefoot.job import job, paths
from surefoot.tables import build_tables, write_tables

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if "snakemake" in globals():
    with job(snakemake.log[0]):
        records = snakemake.input
        tables = build_tables(
            paths(records.metrics),
            paths(records.predictions),
            paths(records.meters),
            paths(records.inference),
            paths(records.trials),
            paths(records.adapted),
            snakemake.params.story,
        )
        write_tables(tables, snakemake.params.story["titles"], paths(snakemake.output.tables)[0].parent)
