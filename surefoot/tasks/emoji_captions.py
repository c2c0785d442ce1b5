"""Captions for pre-training, prompt templates for zero-shot, and the vocabulary that covers both."""

import gzip
from collections.abc import Iterable

from surefoot.tasks.emoji_names import CLASSES, GROUP_WORDS, Emoji, concept_classes, has_class_word

STYLE_WORDS = {
    "twemoji": ("a flat colour emoji of {}", "a flat colour icon of {}", "a flat picture of {}"),
    "openmoji": ("an outlined colour emoji of {}", "an outlined colour icon of {}", "an outlined picture of {}"),
    "line": ("a line emoji of {}", "a line drawing of {}", "a thin outline of {}"),
    "glyph": ("a black glyph of {}", "a black icon of {}", "a bold black sign of {}"),
}
TEMPLATES = tuple(template for words in STYLE_WORDS.values() for template in words)


def contents(emoji: Emoji) -> dict[str, str]:
    """What a caption may say of an emoji: by its name, its group, and its class where that is allowed."""
    name = emoji.name.lower()
    found = {"name": name, "group": f"{name}, {GROUP_WORDS[emoji.group]}"}
    class_name = concept_classes().get(emoji.concept)
    if class_name and has_class_word(emoji.concept):
        found |= {"class": class_name, "name and class": f"{name}, {class_name}"}
    return found


def corpus(inventory: Iterable[Emoji]) -> list[str]:
    """All texts the vocabulary must spell, in a fixed order."""
    texts = [text for emoji in inventory for text in contents(emoji).values()]
    return texts + list(CLASSES) + list(TEMPLATES)


def build_merges(texts: list[str]) -> bytes:
    """CLIP's own byte-pair merges, cut to those that spell `texts`, as a gzip file.

    The kept merges stay in order, so every word of `texts` is split exactly as CLIP's tokenizer splits it.
    """
    from open_clip.tokenizer import SimpleTokenizer, default_bpe

    tokenizer = SimpleTokenizer()
    pieces = {tokenizer.decoder[token] for text in texts for token in tokenizer.encode(text)}
    lines = gzip.open(default_bpe()).read().decode().split("\n")
    by_result = {"".join(line.split()): line for line in reversed(lines[1 : len(tokenizer.bpe_ranks) + 1])}
    kept, open_pieces = set(), list(pieces)
    while open_pieces:
        line = by_result.get(open_pieces.pop())
        if line and line not in kept:
            kept.add(line)
            open_pieces += line.split()
    body = "\n".join([lines[0], *(line for line in lines[1:] if line in kept)])
    return gzip.compress(body.encode(), mtime=0)
