"""Which published numbers a run measures. No torch: the Snakefile imports this module."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from surefoot.files import UserError
from surefoot.mistakes import suggestion
from surefoot.published import MEAN, STREAM, TARGET, Published

if TYPE_CHECKING:
    from surefoot.config import Config


def shared(rows: Iterable[Published], others: dict[str, dict[str, Any]]) -> list[Published]:
    """Published numbers, and behind them those that tasks share with the tasks that they were published of.

    A task with the same test sets but another training: its zero-shot model is the same, whatever is trained is only
    roughly comparable, and the note says why; or it is not comparable at all (`trained` is false).

    Args:
        rows: from `load_published`.
        others: `comparison.shared` of the config, as plain values.
    """
    rows = list(rows)
    found = list(rows)
    for task, how in others.items():
        for row in rows:
            if row.comparable == "no" or row.task != how["task"] or not _sets(row) <= set(how["eval_sets"]):
                continue
            changes = {"task": task}
            if row.alpha != 0:
                if not how["trained"]:
                    continue
                if how["differs"]:
                    changes |= {"comparable": "roughly", "note": "; ".join(filter(None, [row.note, how["differs"]]))}
            found.append(row._replace(**changes))
    return found


def measured(rows: Iterable[Published], config: "Config", sets: dict[str, set[str]]) -> set[Published]:
    """The comparable numbers whose quantity a run measures; `sets`: eval sets of each task of the run."""
    run, adaptations = config.run, {TARGET: config.surgical, STREAM: config.online}
    methods, alphas = {*run.methods, *config.search.spaces}, (None, *config.alphas)

    def here(row: Published) -> bool:
        if row.comparable == "no" or row.model not in run.models:
            return False
        if how := adaptations.get(row.eval_set):
            return row.task in how.tasks and row.method in how.methods
        return _sets(row) <= sets.get(row.task, set()) and row.method in methods and row.alpha in alphas

    others = config.comparison.model_dump()["shared"]
    return {row for row in shared(rows, others) if here(row)}


def check_shared(config: "Config", rows: Iterable[Published]) -> None:
    """Raises UserError where `comparison.shared` names a task or a test set that nothing was published of."""
    published: dict[str, set[str]] = {}
    for row in rows:
        if row.comparable != "no":
            published.setdefault(row.task, set()).update(_sets(row))
    for task, how in config.comparison.shared.items():
        key = f"comparison.shared.{task}"
        if how.task not in published:
            known = suggestion(how.task, published)
            raise UserError(f"{key}.task: no number of {how.task!r} is in config/published{known}")
        for name in how.eval_sets:
            if name not in published[how.task]:
                known = suggestion(name, published[how.task])
                raise UserError(f"{key}.eval_sets: no number of {how.task}'s {name!r} is in config/published{known}")


def _sets(row: Published) -> set[str]:
    """The test sets that a number is of."""
    return set(row.eval_set.removeprefix(MEAN).split("+"))
