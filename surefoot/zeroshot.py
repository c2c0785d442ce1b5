"""The zero-shot head: class names and prompt templates through the text tower. C classes, T templates, D embedding."""

import math
from pathlib import Path

import torch
import torch.nn.functional as F

from surefoot import config
from surefoot.clip import State, load_clip, load_tokenizer


@torch.no_grad()
def zero_shot_head(
    folder: Path, classes: tuple[str, ...], templates: tuple[str, ...], convention: config.Head
) -> State:
    """Head from text: embed every template, normalise, average over templates, normalise (WiSE-FT, section 3).

    Returns 'weight' [C, D] and, unless the convention folds it into the rows, 'logit_scale'; 'bias' [C] of zeros where
    the convention has one.
    """
    model, tokenize = load_clip(folder), load_tokenizer(folder)
    rows = []
    for name in classes:
        embedded = model.encode_text(tokenize([template.format(name) for template in templates]), normalize=True)
        rows.append(F.normalize(embedded.mean(0), dim=-1))
    weight, scale = torch.stack(rows), model.logit_scale.detach().clone()
    head = {"weight": weight * math.exp(scale)} if convention.scaled else {"weight": weight, "logit_scale": scale}
    if convention.bias:
        head["bias"] = torch.zeros(len(classes))
    return head
