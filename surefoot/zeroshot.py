"""The zero-shot head: class names and prompt templates through the text tower. C classes, T templates, D embedding.

A model without text tower knows nothing of its classes: its head is random, and all of it must be learned.
"""

import math
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F

from surefoot.clip import CONFIG, State, load_clip, tower_of
from surefoot.files import read_json
from surefoot.seeds import torch_stream
from surefoot.text import class_rows, class_tokens


@torch.no_grad()
def zero_shot_head(
    folder: Path, classes: tuple[str, ...], templates: tuple[str, ...], device: torch.device | str = "cpu"
) -> State:
    """Head from text: embed every template, normalise, average over templates, normalise (WiSE-FT, section 3).

    For an image tower alone the rows are random, the same for every run.
    Returns 'weight' [C, D] of unit rows, and 'logit_scale'.
    """
    if tower_of(folder):
        return _random_head(len(classes), read_json(folder / CONFIG)["model_cfg"]["embed_dim"])
    model = load_clip(folder).to(device)
    # open_clip's own encoding: unlike TextTower it serves text towers of every kind.
    rows = class_rows(partial(model.encode_text, normalize=True), class_tokens(folder, classes, templates).to(device))
    return {"weight": rows, "logit_scale": model.logit_scale.detach().clone()}


def _random_head(classes: int, width: int) -> State:
    """Random unit rows [C, D], with the scale at which CLIP's training starts."""
    rows = torch.randn(classes, width, generator=torch_stream(0, "random head"))
    return {"weight": F.normalize(rows, dim=-1), "logit_scale": torch.tensor(math.log(1 / 0.07))}
