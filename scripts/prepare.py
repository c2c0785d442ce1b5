"""Prepare one split of a data set."""

from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.job import job
from surefoot.prepare import prepare
from surefoot.splits import write_split

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


def main(dataset: str, split: str, size: int, folder: Path) -> None:
    """Draw or decode every image of a split once and write it in the common form."""
    images, rows, source = prepare(dataset, split, size)
    write_split(folder, images, rows, source)


if "snakemake" in globals():
    with job(snakemake.log[0]):
        main(
            dataset=snakemake.wildcards.dataset,
            split=snakemake.wildcards.split,
            size=snakemake.params.size,
            folder=Path(snakemake.output.manifest).parent,
        )
