"""What people need to know of a task: its card, and a sheet that shows its images."""

from pathlib import Path

import numpy as np

from surefoot.data import Data
from surefoot.files import atomic
from surefoot.tasks import Task

SHEET_CLASSES, SHEET_EXAMPLES = 10, 3


def task_card(task: Task, metric: str) -> str:
    """Markdown: classes, prompts, metric, chance level, eval sets with their roles, licences."""
    sets = "\n".join(
        f"| {s.name} | {s.title}{f' ({s.note})' if s.note else ''} | {s.role} | {', '.join(p.split for p in s.parts)} |"
        for s in task.eval_sets
    )
    templates = "\n".join(f"- {template.format('{class}')}" for template in task.templates)
    return f"""# Task {task.name}

{task.title}. Main metric: {metric}; uniform guessing scores {task.chance:.1f} %.
Trained on: {", ".join(part.split for part in task.train)}. Intervals resample: {task.cluster}.

| eval set | images | role | prepared splits |
| --- | --- | --- | --- |
{sets}

**Classes ({len(task.classes)}).** {", ".join(task.classes)}.

**Prompt templates ({len(task.templates)}).**

{templates}

**Licences.**

{task.licences}
"""


def contact_sheet(data: Data, seed: int, path: Path) -> None:
    """Draw the same clusters in every prepared split of a task, a column of styles per example, as PNG."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    task = data.task
    first = data.splits[task.splits[0]].rows
    chosen = task.select(task.train[0], first, seed)
    rng = np.random.default_rng(seed)
    step = max(1, len(task.classes) // SHEET_CLASSES)
    figure, axes = plt.subplots(len(task.splits), 1, figsize=(12, 0.62 * len(task.splits) + 0.5), layout="constrained")
    picks = []
    for label in range(0, len(task.classes), step)[:SHEET_CLASSES]:
        rows = chosen.rows[chosen.labels == label]
        picks += list(rng.permutation(rows)[:SHEET_EXAMPLES])
    for axis, split in zip(np.atleast_1d(axes), task.splits, strict=True):
        axis.imshow(np.concatenate([data.splits[split].images[row] for row in picks], axis=1))
        axis.set_ylabel(split, rotation=0, ha="right", va="center", fontsize=9)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    side = data.splits[task.splits[0]].images.shape[2]
    names = task.classes[::step][:SHEET_CLASSES]
    np.atleast_1d(axes)[-1].set_xticks(
        [(SHEET_EXAMPLES * (i + 0.5)) * side for i in range(len(names))], names, fontsize=8, rotation=15
    )
    with atomic(path) as partial:
        figure.savefig(partial, dpi=150, format="png", metadata={"Software": None})
