"""The layers of a classifier in order, and the parts of it that a method can name.

A layer is the embedding (everything before the first block), one block, or the head. What follows the last block inside
the image tower (final norm, projection, attention pooling) belongs to the last block.
"""

import re
from collections.abc import Iterable

from surefoot.files import UserError

# Blocks of open_clip's and timm's vision transformers (ViT) and of ResNets (RN50, torchvision, timm).
_BLOCK = re.compile(r"(?:^|\.)(?:resblocks\.|blocks\.|layer|stages\.)(\d+)\.")
# Names of what comes before the blocks; the other names outside blocks come after them.
_STEM = {
    "class_embedding",
    "positional_embedding",
    "cls_token",
    "reg_token",
    "dist_token",
    "pos_embed",
    "patch_embed",
    "ln_pre",
    "norm_pre",
}
_STEM |= {f"{kind}{number}" for kind in ("conv", "bn", "norm") for number in (1, 2, 3)} | {"stem"}
_BEHIND = {"attnpool"}  # has a positional_embedding of its own
# Parts that are prefixes of tensor names.
PREFIXES = {"image": "image.", "text": "text.", "head": "head.", "logit_scale": "logit_scale"}


def layers(names: Iterable[str]) -> dict[str, list[str]]:
    """Layer -> its tensors, from embedding through block-0, block-1, … to head, from a classifier's tensor names.

    The text tower and the logit scale belong to no layer. An empty layer is left out.
    """
    names = [name for name in names if name.startswith(("image.", "head."))]
    numbers = {name: int(match[1]) for name in names if (match := _BLOCK.search(name))}
    first, last = min(numbers.values(), default=0), max(numbers.values(), default=0)  # ResNets count from 1
    found: dict[str, list[str]] = {"embedding": []}
    found |= {f"block-{k}": [] for k in range(last - first + 1)} | {"head": []}
    for name in names:
        if name in numbers:
            layer = f"block-{numbers[name] - first}"
        elif name.startswith("head."):
            layer = "head"
        else:
            words = set(name.split("."))
            layer = "embedding" if _STEM & words and not _BEHIND & words else f"block-{last - first}"
        found[layer].append(name)
    return {layer: tensors for layer, tensors in found.items() if tensors}


def parts(names: Iterable[str]) -> dict[str, list[str]]:
    """Part -> its tensors; first-blocks and last-blocks are a quarter of the blocks each (at least one).

    For the 12 blocks of CLIP ViT-B/16 that is three, as in Surgical Fine-Tuning, table 1.
    """
    names = list(names)
    found = {part: [n for n in names if n.startswith(prefix)] for part, prefix in PREFIXES.items()}
    by_layer = layers(names)
    found |= by_layer
    blocks = [layer for layer in by_layer if layer.startswith("block-")]
    quarter = max(1, len(blocks) // 4)
    for part, members in (
        ("first-blocks", blocks[:quarter]),
        ("middle-blocks", blocks[quarter:-quarter]),
        ("last-blocks", blocks[-quarter:]),
    ):
        found[part] = [name for block in members for name in by_layer[block]]
    return found


def named(names: Iterable[str], wanted: list[str], entry: str) -> set[str]:
    """The tensors of some parts. Raises UserError, with the name of the config entry, for a part without tensors."""
    found, chosen = parts(names), set()
    for part in wanted:
        if not found.get(part):
            hint = {
                "text": "its text tower is not loaded, or it has none",
                "logit_scale": "is the logit scale folded into the head (recipe key head.scaled)?",
            }.get(part, f"it has {', '.join(p for p, tensors in found.items() if tensors)}")
            raise UserError(f"{entry}: this model has no part {part!r}: {hint}")
        chosen |= set(found[part])
    return chosen
