"""The text tower. T texts, L tokens, C classes, D embedding."""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from open_clip import CLIP
from open_clip.transformer import text_global_pool
from torch import nn

from surefoot.clip import load_tokenizer
from surefoot.files import UserError

START, LENGTH_WITH_ENDS = -2, 2  # the two highest ids of CLIP's vocabulary open and close a text


def class_tokens(folder: Path, classes: tuple[str, ...], templates: tuple[str, ...]) -> torch.Tensor:
    """Token ids [C, T, L] of every class in every template."""
    tokenize = load_tokenizer(folder)
    return torch.stack([tokenize([template.format(name) for template in templates]) for name in classes])


def class_rows(encode: Callable[[torch.Tensor], torch.Tensor], tokens: torch.Tensor) -> torch.Tensor:
    """Zero-shot rows [C, D] of tokens [C, T, L]: average the unit-norm features over templates, normalise (WiSE-FT).

    `encode` gives unit-norm features [T, D] of token ids [T, L].
    """
    return torch.stack([F.normalize(encode(prompts).mean(0), dim=-1) for prompts in tokens])


class TextTower(nn.Module):
    """CLIP's text tower alone, with its logit scale; texts may be shorter than the context length."""

    def __init__(self, clip: CLIP) -> None:
        """Raises UserError for a model whose text tower is not built as CLIP's: causal, with a projection."""
        super().__init__()
        if not isinstance(clip, CLIP) or clip.attn_mask is None or clip.text_projection is None:
            raise UserError(
                f"the text tower of this {type(clip).__name__} is not built as CLIP's and cannot be used here"
            )
        self.clip = clip
        del self.clip.visual
        self.vocabulary = clip.vocab_size
        self.pretrained_scale = float(clip.logit_scale.detach().exp())

    def encode(self, tokens: torch.Tensor) -> torch.Tensor:
        """Unit-norm text features [T, D] of token ids [T, L].

        Attention is causal, so the padding behind the end token changes nothing and is cut off first.
        """
        clip = self.clip
        length = int((tokens.argmax(-1).max() + 1).item()) if clip.text_pool_type == "argmax" else tokens.shape[1]
        tokens = tokens[:, :length]
        x = clip.token_embedding(tokens) + clip.positional_embedding[:length]
        x = clip.transformer(x, attn_mask=clip.attn_mask[:length, :length])
        x = text_global_pool(clip.ln_final(x), tokens, clip.text_pool_type, clip.text_eos_id)
        x = clip.text_projection(x) if isinstance(clip.text_projection, nn.Linear) else x @ clip.text_projection
        return F.normalize(x.float(), dim=-1)

    def random_tokens(self, texts: int, length: int, stream: torch.Generator) -> torch.Tensor:
        """Random texts [T, length + 2]: independent uniform ids between the start and the end token (Lipsum-FT's code).

        Neither of the two is drawn, because the feature is read at the place of the highest id.
        Raises UserError when the texts do not fit into the context.
        """
        if length + LENGTH_WITH_ENDS > self.clip.context_length:
            raise UserError(
                f"options.lipsum_length: {length} tokens and two ends exceed the model's {self.clip.context_length}"
            )
        start = self.vocabulary + START
        ids = torch.randint(0, start, (texts, length), generator=stream)
        return torch.cat([torch.full((texts, 1), start), ids, torch.full((texts, 1), start + 1)], 1)
