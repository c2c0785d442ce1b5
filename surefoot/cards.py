"""What people need to know of a task: its card, and a sheet that shows its images."""

from pathlib import Path

import numpy as np

from surefoot.data import Data
from surefoot.files import atomic
from surefoot.tasks import Part, Task

SHEET_CLASSES, SHEET_EXAMPLES = 10, 3


def task_card(task: Task, metric: str) -> str:
    """Markdown: classes, prompts, metric, chance level, eval sets with their roles, licences."""
    sets = "\n".join(
        f"| {s.name} | {s.title}{f' ({s.note})' if s.note else ''} | {s.role} | {', '.join(p.split for p in s.parts)} |"
        for s in task.eval_sets
    )
    if task.targets:
        shots = f"target_train: a few images a class of the val part; target_val: {task.targets[0].validation} others"
        targets = "\n".join(f"| {t.name} | {t.title} | {t.split} |" for t in task.targets)
        head = "| target | images | prepared split |\n| --- | --- | --- |"
        sets += f"\n\n{shots}; target_test: the test part.\n\n{head}\n{targets}"
    templates, contexts = (_prompts(prompts) for prompts in (task.templates, task.contexts))
    if contexts:
        contexts = f"**Contexts of CAR-FT ({len(task.contexts)}).** {task.contexts_note}\n\n{contexts}\n\n"
    return f"""# Task {task.name}

{task.title}. Main metric: {metric}; uniform guessing scores {task.chance:.1f} %.
Trained on: {", ".join(part.split for part in task.train)}. Intervals resample: {task.cluster}.

| eval set | images | role | prepared splits |
| --- | --- | --- | --- |
{sets}

**Classes ({len(task.classes)}).** {", ".join(task.classes)}.

**Prompt templates ({len(task.templates)}).**

{templates}

{contexts}{f"**Notes.** {task.note}" + chr(10) * 2 if task.note else ""}**Licences.**

{task.licences}
"""


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
