"""Prepare one split of a data set."""

from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.files import read_json
from surefoot.job import job
from surefoot.prepare import prepare_emoji, prepare_files
from surefoot.resume import state_folder
from surefoot.splits import write_split
from surefoot.tasks import prepared_split

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


def main(entry: dict, split: str, size: int, folder: Path, raw: list[str], check: bool, code: str) -> None:
    """Draw or decode every image of a split once and write it in the common form."""
    if entry["family"] == "emoji":
        write_split(folder, *prepare_emoji(split, size))
        return
    found = read_json(Path(raw[0])) if raw else {"root": entry["root"]}
    prepare_files(
        how=prepared_split(entry, split),
        root=Path(found.pop("root")),
        size=size,
        folder=folder,
        state=state_folder(folder),
        source=found,
        name=f"{folder.parent.name}/{split}",
        check=check,
        code=code,
    )


if "snakemake" in globals():
    with job(snakemake):
        given = snakemake.params
        folder = Path(snakemake.output.manifest).parent
        main(given.entry, snakemake.wildcards.split, given.size, folder, list(snakemake.input), given.check, given.code)
