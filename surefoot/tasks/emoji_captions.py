"""Captions for pre-training, prompt templates for zero-shot, and the vocabulary that covers both."""

import gzip
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

from surefoot.tasks.emoji_names import CLASSES, GROUP_WORDS, Emoji, emoji_class, has_class_word, inventory

STYLE_WORDS = {
    "twemoji": ("a flat colour emoji of {}", "a flat colour icon of {}", "a flat picture of {}"),
    "openmoji": ("an outlined colour emoji of {}", "an outlined colour icon of {}", "an outlined picture of {}"),
    "line": ("a line emoji of {}", "a line drawing of {}", "a thin outline of {}"),
    "glyph": ("a black glyph of {}", "a black icon of {}", "a bold black sign of {}"),
}
PLAIN_WORDS = ("an emoji of {}", "an icon of {}", "a picture of {}", "a drawing of {}")
TEMPLATES = PLAIN_WORDS
# CAR-FT needs contexts that tell images apart, in words of the captions: of others the text tower knows nothing, and a
# phrase with "photo" or "noisy" in it would take nearly all of the distribution.
CONTEXTS = PLAIN_WORDS + tuple(phrase for phrases in STYLE_WORDS.values() for phrase in phrases)


def class_prompt(name: str) -> str:
    """How a class is named in a prompt: with Unicode's group, as CLIP's own prompts say 'a type of pet'."""
    group = next(emoji.group for emoji in inventory() if emoji.subgroup == CLASSES[name][0])
    return f"{name}, {GROUP_WORDS[group]}"


def contents(emoji: Emoji) -> dict[tuple[str, ...], str]:
    """What a caption may say of an emoji: any of its name, its class where that is allowed, and its group."""
    facts = {"name": emoji.name.lower(), "group": GROUP_WORDS[emoji.group]}
    class_name = emoji_class(emoji)
    if class_name and has_class_word(emoji.concept):
        facts = {"name": facts["name"], "class": class_name, "group": facts["group"]}
    chosen = [c for count in range(1, len(facts) + 1) for c in combinations(facts, count)]
    return {names: ", ".join(facts[name] for name in names) for names in chosen}


def corpus(emoji: Iterable[Emoji]) -> list[str]:
    """All texts the vocabulary must spell, in a fixed order."""
    texts = [text for one in emoji for text in contents(one).values()]
    return texts + list(CLASSES) + list(PLAIN_WORDS) + [phrase for words in STYLE_WORDS.values() for phrase in words]


def build_merges(texts: list[str]) -> bytes:
    """CLIP's own byte-pair merges, cut to those that spell `texts`, as a gzip file.

    The kept merges stay in order, so every word of `texts` is split exactly as CLIP's tokenizer splits it.
    """
    from open_clip.tokenizer import SimpleTokenizer, default_bpe

    tokenizer = SimpleTokenizer()
    pieces = {tokenizer.decoder[token] for text in texts for token in tokenizer.encode(text)}
    lines = gzip.decompress(Path(default_bpe()).read_bytes()).decode().split("\n")
    by_result = {"".join(line.split()): line for line in reversed(lines[1 : len(tokenizer.bpe_ranks) + 1])}
    kept, open_pieces = set(), list(pieces)
    while open_pieces:
        line = by_result.get(open_pieces.pop())
        if line and line not in kept:
            kept.add(line)
            open_pieces += line.split()
    body = "\n".join([lines[0], *(line for line in lines[1:] if line in kept)])
    return gzip.compress(body.encode(), mtime=0)
