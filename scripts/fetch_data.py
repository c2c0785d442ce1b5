"""Get a published data set: find the user's copy, or download, verify and extract it."""

from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.download import fetch
from surefoot.files import write_json
from surefoot.job import job
from surefoot.tasks import family

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if "snakemake" in globals():
    with job(snakemake):
        given, out = snakemake.params, Path(snakemake.output.manifest)
        source = family(given.family).SOURCES[snakemake.wildcards.source]
        write_json(out, fetch(source, out.parent, Path(given.data_root) if given.data_root else None, given.check))
