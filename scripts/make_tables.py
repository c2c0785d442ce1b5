"""Make the tables from the records."""

from typing import TYPE_CHECKING

from surefoot.job import job, paths
from surefoot.layouts import write_tables
from surefoot.tables import KINDS, build_tables

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if "snakemake" in globals():
    with job(snakemake):
        records = snakemake.input
        tables = build_tables({kind: paths(records.get(kind, [])) for kind in KINDS}, snakemake.params.story)
        write_tables(tables, snakemake.params.story, paths(snakemake.output.tables)[0].parent)
