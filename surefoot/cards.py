"""What people need to know of a task: its card, and a sheet that shows its images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from surefoot.data import Data
from surefoot.files import UserError, atomic
from surefoot.metrics import check_groups, named_groups
from surefoot.origins import origin
from surefoot.tasks import Part, Selection, Task

SHEET_CLASSES, SHEET_EXAMPLES = 10, 3


def task_card(task: Task, metric: str, rows: dict[str, pd.DataFrame], seed: int, entry: dict[str, Any]) -> str:
    """Markdown: classes, prompts, metric, eval sets with roles, numbers of images and chance levels, origin, licences.

    Args:
        rows: of the prepared splits that the task reads.
        seed: of the run whose images are counted.
        entry: what jobs read of the task's entry.

    Raises UserError for a worst group where no set has several, and for a group that no image is in.
    """
    _check_patterns(task, rows, entry)

    def images(parts: tuple[Part, ...]) -> list[Selection]:
        return [task.select(part, rows[part.split], seed) for part in parts]

    def count(chosen: list[Selection]) -> str:
        return f"{sum(len(selection.rows) for selection in chosen):,}"

    sets, groups = "", []
    for s in task.eval_sets:
        chosen, by = images(s.parts), s.metric or metric
        groups.append(np.concatenate([selection.groups for selection in chosen]))
        of = f" ({_groups_of(groups[-1])})" if by == "worst_group" else ""
        note, splits = f" ({s.note})" if s.note else "", ", ".join(part.split for part in s.parts)
        chance = _chance(by, chosen, s.columns or [(k,) for k in range(len(task.classes))])
        sets += f"\n| {s.name} | {s.title}{note} | {s.role} | {count(chosen)} | {by}{of} | {chance} | {splits} |"
    if task.targets:
        sets += (
            f"\n\ntarget_train: a few images a class of the val part; target_val: {task.targets[0].validation} others; "
            "target_test: the test part.\n\n| target | shows | val part | test part | chance | prepared split |\n"
            "| --- | --- | --- | --- | --- | --- |"
        )
    for t in task.targets:
        val, test = (images((Part(t.split, fold, target=True),)) for fold in ("val", "test"))
        groups.append(np.concatenate([selection.groups for selection in test]))
        chance = _chance(metric, test, [(k,) for k in range(len(task.classes))])
        sets += f"\n| {t.name} | {t.title} | {count(val)} | {count(test)} | {chance} | {t.split} |"
    if metric == "worst_group":
        check_groups(groups, f"tasks.{task.name}.metric")
    templates, contexts = (_prompts(prompts) for prompts in (task.templates, task.contexts))
    if contexts:
        contexts = f"**Contexts of CAR-FT ({len(task.contexts)}).** {task.contexts_note}\n\n{contexts}\n\n"
    return f"""# Task {task.name}

{task.title}. Main metric: {metric}. Intervals resample: {task.cluster}.
Trained on: {", ".join(part.split for part in task.train)}, {count(images(task.train))} images. Numbers of images are
those under seed {seed}; chance is what uniform guessing scores in percent, where the metric is a mean of right answers.

| eval set | shows | role | images | metric | chance | prepared splits |
| --- | --- | --- | --- | --- | --- | --- |{sets}

**Where the images come from.** {origin(task, entry)}

**Classes ({len(task.classes)}).** {", ".join(task.classes)}.

**Prompt templates ({len(task.templates)}).**

{templates}

{contexts}{f"**Notes.** {task.note}" + chr(10) * 2 if task.note else ""}**Licences.**

{task.licences}
"""


def _groups_of(groups: np.ndarray) -> str:
    """How many groups [N] the worst is taken of, and how many images are in none."""
    named, outside = named_groups(groups), int((groups == "").sum())
    if not named:
        return "no groups: top-1 of all"
    return f"of {named}" + (f"; {outside:,} images are in none" if outside else "")


def _check_patterns(task: Task, rows: dict[str, pd.DataFrame], entry: dict[str, Any]) -> None:
    """Each of the user's own groups must have images: a misspelt pattern would take a group out of the worst one."""
    for name, pattern in (entry.get("groups") or {}).items():
        if not any((table["group"] == name).any() for table in rows.values()):
            path = next(iter(rows.values()))["file"].iloc[0]
            raise UserError(
                f"tasks.{task.name}.groups.{name}: no image has a path that fits {pattern!r}; paths are such as {path}"
            )


def _chance(metric: str, chosen: list[Selection], columns: Sequence[Sequence[int]]) -> str:
    """Percent that uniform guessing gets right over the labels that a class of the task means (`columns`, see EvalSet).

    '' for metrics in which guessing has no simple score: macro F1, worst group, all frames.
    """
    if metric not in ("top1", "mean_per_class"):
        return ""
    known = {label for label, meaning in enumerate(columns) if meaning}
    labels = np.concatenate([selection.labels for selection in chosen])
    also = np.concatenate([np.full(len(s.rows), "") if s.also is None else s.also for s in chosen])
    right = [len(known & {label, *map(int, more.split())}) for label, more in zip(labels, also, strict=True)]
    mean = np.mean(right) if metric == "top1" else pd.Series(right).groupby(labels).mean().mean()
    return f"{100 * mean / len(known):.2g}"


def _prompts(prompts: tuple[str, ...]) -> str:
    return "\n".join(f"- {prompt.format('{class}')}" for prompt in prompts)


def _parts(task: Task) -> list[Part]:
    return [*task.train, *(part for eval_set in task.eval_sets for part in eval_set.parts)]


def contact_sheet(data: Data, seed: int, path: Path) -> None:
    """Draw the same clusters in every prepared split of a task, a column of styles per example, as PNG."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    task = data.task
    step = max(1, len(task.classes) // SHEET_CLASSES)
    shown = range(0, len(task.classes), step)[:SHEET_CLASSES]
    # The train fold is shown of every split, so that a column holds one emoji in all of them where the classes agree.
    if task.exact:
        views = [("train", part, ()) for part in task.train]
        views += [(eval_set.name, part, eval_set.columns) for eval_set in task.eval_sets for part in eval_set.parts]
        views += [(f"target: {target.title}", Part(target.split, "test", target=True), ()) for target in task.targets]
    else:
        views = [(split, Part(split, "train"), ()) for split in dict.fromkeys(part.split for part in _parts(task))]
        views += [(f"target: {target.title}", Part(target.split, "train", target=True), ()) for target in task.targets]
    figure, axes = plt.subplots(len(views), 1, figsize=(12, 0.62 * len(views) + 0.5), layout="constrained")
    for axis, (title, part, columns) in zip(np.atleast_1d(axes), views, strict=True):
        split = data.splits[part.split]
        chosen, rng, picks = task.select(part, split.rows, seed), np.random.default_rng(seed), []
        for label in shown:
            same = [k for k, ids in enumerate(columns) if label in ids] if columns else [label]
            rows = list(rng.permutation(chosen.rows[np.isin(chosen.labels, same)])[:SHEET_EXAMPLES])
            picks += [split.images[row] for row in rows]
            picks += [np.full(split.images.shape[1:], 255, np.uint8)] * (SHEET_EXAMPLES - len(rows))
        axis.imshow(np.concatenate(picks, axis=1))
        axis.set_ylabel(title, rotation=0, ha="right", va="center", fontsize=9)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    side = data.splits[task.splits[0]].images.shape[2]
    names = (task.prompt_names if task.exact else task.classes)[::step][:SHEET_CLASSES]
    np.atleast_1d(axes)[-1].set_xticks(
        [(SHEET_EXAMPLES * (i + 0.5)) * side for i in range(len(names))], names, fontsize=8, rotation=15
    )
    with atomic(path) as partial:
        figure.savefig(partial, dpi=150, format="png", metadata={"Software": None})
