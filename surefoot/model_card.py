"""The card of the embedded CLIP: what it is, how it was made, how good it is, what it must not be used for."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from surefoot.clip import WEIGHTS, Preprocess, State, load_clip, zero_shot_classifier
from surefoot.data import Data
from surefoot.files import sha256
from surefoot.intervals import Resampler, interval
from surefoot.names import prediction_column
from surefoot.passes import predict
from surefoot.run_entries import Bootstrap
from surefoot.tasks import Part
from surefoot.tasks.emoji import LICENCES
from surefoot.tasks.emoji_captions import PLAIN_WORDS, STYLE_WORDS
from surefoot.tasks.emoji_names import (
    CLASS_WORD_SHARE,
    HELD_OUT_SHARES,
    STYLES,
    concept_classes,
    has_class_word,
    inventory,
    is_held_out,
)

FOLDS = (0, 1, 2)
BAR_MEAN, BAR_STYLE = 45.0, 36.0


def zero_shot_by_style(model: Path, head: State, data: Data, bootstrap: Bootstrap) -> pd.DataFrame:
    """Zero-shot mean per class on validation concepts, per style and for parts of them, with intervals.

    Rows: style, part ('all', 'class word in captions', …), value, low, high, images; values are means over the folds.
    """
    classifier, preprocess = zero_shot_classifier(model, head), Preprocess.of(model)
    tables = []
    for style in STYLES:
        for fold in FOLDS:
            examples = data.examples((Part(style, "val"),), fold)
            right = predict(classifier, examples, preprocess) == examples.labels
            tables.append(
                pd.DataFrame({"cluster": examples.clusters, "label": examples.labels, "right": right}).assign(
                    style=style, fold=fold
                )
            )
    seen = pd.concat(tables, ignore_index=True)
    seen["word"] = seen["cluster"].map(has_class_word)
    seen["held"] = [is_held_out(c, s) for c, s in zip(seen["cluster"], seen["style"], strict=True)]
    resampler = Resampler(seen["cluster"], seen["label"], bootstrap.draws, bootstrap.seed)
    parts = {
        "all": pd.Series(True, index=seen.index),
        "class word in captions": seen["word"],
        "no class word in captions": ~seen["word"],
        "pair seen": ~seen["held"],
        "pair held out": seen["held"],
    }
    rows, everywhere = [], {}
    for part, chosen in parts.items():
        for style in STYLES:
            draws = np.mean(
                [
                    resampler.accuracy(t["cluster"], t["label"].to_numpy(), t["right"].to_numpy(), "mean_per_class")
                    for _, t in seen[chosen & (seen["style"] == style)].groupby("fold")
                ],
                axis=0,
            )
            everywhere.setdefault(part, []).append(draws)
            value, low, high = interval(draws, bootstrap.level)
            rows.append((style, part, value, low, high))
        value, low, high = interval(np.mean(everywhere[part], axis=0), bootstrap.level)
        rows.append(("mean", part, value, low, high))
    return pd.DataFrame(rows, columns=["style", "part", "value", "low", "high"])


def fine_tuning_gain(metrics: pd.DataFrame, predictions: pd.DataFrame, bootstrap: Bootstrap) -> tuple:
    """Fine-tuned minus zero-shot on id_val, in points of mean per class, with a paired interval."""
    resampler = Resampler(predictions["cluster"], predictions["label"], bootstrap.draws, bootstrap.seed)
    gains = []
    for seed in sorted(metrics["seed"].unique()):
        rows = predictions[(predictions["seed"] == seed) & (predictions["eval_set"] == "id_val")]
        labels = rows["label"].to_numpy()
        tuned, start = (
            resampler.accuracy(
                rows["cluster"], labels, rows[prediction_column("weights", a)].to_numpy() == labels, "mean_per_class"
            )
            for a in (1.0, 0.0)
        )
        gains.append(tuned - start)
    return interval(np.mean(gains, axis=0), bootstrap.level)


def draws() -> pd.DataFrame:
    """Per concept: whether captions may say its class, and the styles in which pre-training never saw it."""
    concepts = sorted({emoji.concept for emoji in inventory()})
    return pd.DataFrame(
        {
            "concept": concepts,
            "class": [concept_classes().get(c, "") for c in concepts],
            "class_word": [c in concept_classes() and has_class_word(c) for c in concepts],
            "held_out_styles": [" ".join(s for s in STYLES if is_held_out(c, s)) for c in concepts],
        }
    )


def model_card(model: Path, made: dict[str, Any], scores: pd.DataFrame, gain: tuple, level: float) -> str:
    """The card as Markdown; `made` is the record that pre-training wrote beside the weights."""
    concepts = concept_classes()
    emoji = inventory()
    pairs = [(e, s) for e in emoji for s in STYLES]
    named = {c for c, name in concepts.items() if set(name.split()) & set(c.split())}
    sizes: dict[str, Any] = {
        k: f"{v:,}"
        for k, v in {
            "emoji": len(emoji),
            "pairs": sum(not is_held_out(e.concept, s) for e, s in pairs),
            "held": sum(is_held_out(e.concept, s) for e, s in pairs),
            "words": sum(map(has_class_word, concepts)),
            "concepts": len(concepts),
            "named": len(named),
        }.items()
    }
    tower = sum(p.numel() for p in load_clip(model).parameters())
    table = scores.assign(cell=scores.apply(lambda r: f"{r['value']:.1f} [{r['low']:.1f}, {r['high']:.1f}]", axis=1))
    wide = table.pivot_table(index="part", columns="style", values="cell", aggfunc="first", sort=False)
    held = ", ".join(f"{share:.0%} of {style}" for style, share in HELD_OUT_SHARES.items())
    plain = "; ".join(f"“{p.format('…')}”" for p in PLAIN_WORDS)
    phrases = "; ".join(f"“{p.format('…')}”" for words in STYLE_WORDS.values() for p in words)
    recipe = "\n".join(f"| {key} | {value} |" for key, value in made["recipe"].items())
    overall = scores[scores["part"] == "all"].set_index("style")["value"]
    lowest = overall.drop("mean").idxmin()
    bar = (
        f" The aim is a mean of {BAR_MEAN:g} and no style below {BAR_STYLE:g}: "
        f"the mean is {overall['mean']:.1f} and the lowest, {lowest}, {overall[lowest]:.1f}."
    )
    return f"""# The embedded CLIP

A small CLIP ({tower:,} parameters; weights `{WEIGHTS}`, SHA-256 `{sha256(model / WEIGHTS)}`), made from nothing by
`snakemake --cores all pretrain`, so that the whole workflow runs without a download. It stands where OpenAI's weights
stand in a run at full scale: a start for fine-tuning, good on several styles and imperfect on all.

**Do not use it** for anything but experiments with this workflow. It has seen {sizes["emoji"]} emoji and nothing else:
it knows no photographs, no people, no language beyond emoji names. The names are English and carry Unicode's choices.

## Data and captions

{sizes["pairs"]} pairs of an emoji (without skin tone, flag, letter, digit or arrow) and one of four drawings: Twemoji,
OpenMoji, OpenMoji's lines alone, Noto Emoji's glyphs. {sizes["held"]} further pairs, chosen by a
hash of concept and style, were never seen: {held}.

A caption is a phrase around facts: any of the emoji's name, Unicode's group in one word, and the class. Phrases that
fit every style: {plain}. Phrases that say the style: {phrases}.
The class is said only of {sizes["words"]} of the {sizes["concepts"]} concepts of the tasks, about
{CLASS_WORD_SHARE:.0%}, chosen by a hash of the concept. (The name itself shares a word with the class in
{sizes["named"]} concepts, such as “red heart”.) Both draws are independent of the folds.
What was seen follows from the functions `has_class_word` and `is_held_out` in `surefoot/tasks/emoji_names.py`;
`draws.csv` beside this card lists both draws.

## Accuracy

Zero-shot, mean per class in percent over {len(set(concepts.values()))} classes, on validation concepts, mean of the
three folds, with {level:.0%} intervals. Recipes were compared by these validation numbers.{bar}

{wide.to_markdown()}

Fine-tuning (method `ft` of the default run) changes validation accuracy in distribution (Twemoji) by
{gain[0]:+z.1f} [{gain[1]:+z.1f}, {gain[2]:+z.1f}] points.

## Recipe

CLIP's contrastive loss, AdamW, a half cosine, one thread of a CPU: {made["seconds"] / 60:.0f} minutes.
The last hundred steps had a mean loss of {made["loss"]:.2f}. Same seed, same bytes on one kind of CPU.

| key | value |
| --- | --- |
{recipe}

## Licences of the drawings

{LICENCES}
"""
