"""The zero-shot head: class names and prompt templates through the text tower. C classes, T templates, D embedding."""

from pathlib import Path

import torch
import torch.nn.functional as F

from surefoot.clip import State, load_clip, load_tokenizer


@torch.no_grad()
def zero_shot_head(folder: Path, classes: tuple[str, ...], templates: tuple[str, ...]) -> State:
    """Head from text: embed every template, normalise, average over templates, normalise (WiSE-FT, section 3).

    Returns 'weight' [C, D] of unit rows, and 'logit_scale'.
    """
    model, tokenize = load_clip(folder), load_tokenizer(folder)
    rows = []
    for name in classes:
        embedded = model.encode_text(tokenize([template.format(name) for template in templates]), normalize=True)
        rows.append(F.normalize(embedded.mean(0), dim=-1))
    return {"weight": torch.stack(rows), "logit_scale": model.logit_scale.detach().clone()}
