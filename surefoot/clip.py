"""Loading CLIP through open_clip.

A model folder holds `open_clip_config.json` and `open_clip_model.safetensors`, as open_clip's own `local-dir:` schema
wants them, and `merges.txt.gz` where the model has a vocabulary of its own.
"""

from collections.abc import Callable
from pathlib import Path

import open_clip
import torch

from surefoot.files import UserError

CONFIG, WEIGHTS, MERGES = "open_clip_config.json", "open_clip_model.safetensors", "merges.txt.gz"

Tokenizer = Callable[[list[str]], torch.Tensor]


def load_clip(folder: Path) -> open_clip.CLIP:
    """Build the model of a folder with its weights, in fp32 on the CPU.

    Raises UserError when a file is missing or the weights do not fit the architecture.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(f"{folder / name} is missing; rerun snakemake to fetch or make the model")
    try:
        return open_clip.create_model(f"local-dir:{folder}", precision="fp32", device="cpu")
    except Exception as error:
        raise UserError(f"cannot load the CLIP model in {folder}: {error}") from error


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a model folder: texts -> token ids [len(texts), context length]."""
    own = {"bpe_path": str(folder / MERGES)} if (folder / MERGES).is_file() else {}
    return open_clip.get_tokenizer(f"local-dir:{folder}", **own)
