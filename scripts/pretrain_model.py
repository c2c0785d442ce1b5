"""Pre-train the embedded CLIP from nothing."""

from pathlib import Path
from typing import TYPE_CHECKING

from surefoot import config
from surefoot.data import split_folders
from surefoot.device import use_cpu
from surefoot.job import job
from surefoot.pretrain import pretrain
from surefoot.resume import Resumable, fingerprint
from surefoot.splits import read_split

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if "snakemake" in globals():
    with job(snakemake):
        use_cpu()
        given, architecture = snakemake.params, Path(snakemake.input.architecture)
        splits = {name: read_split(folder) for name, folder in split_folders(snakemake.input.splits).items()}
        digests = {name: split.digest for name, split in splits.items()}
        progress = Resumable(Path(given.state), fingerprint(given.how, given.code, digests, architecture))
        how = config.Pretraining.model_validate(given.how)
        pretrain(splits, architecture, Path(snakemake.output.model), how, progress)
        progress.discard()
