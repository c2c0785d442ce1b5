"""Tasks: what is trained on, what is tested, and what the classes are called.

A task selects and relabels rows of prepared splits; tasks of one family share them. N rows, C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from surefoot import config
from surefoot.files import UserError
from surefoot.roles import Role

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


@dataclass(frozen=True)
class Part:
    """Rows of one prepared split: those that belong to 'train', 'val' or 'test' under a seed.

    Attributes:
        take: per class only these of its clusters (first, behind the last), with one image each.
        target: whether the rows are of the target domain, where a task defines one by classes or labels.
    """

    split: str
    fold: str
    take: tuple[int, int] | None = None
    target: bool = False


@dataclass(frozen=True)
class EvalSet:
    """A named set of images with one role."""

    name: str
    title: str
    role: Role
    parts: tuple[Part, ...]
    note: str = ""


@dataclass(frozen=True)
class Target:
    """A shifted domain with a few labelled images, to which a source model is adapted (Surgical Fine-Tuning).

    target_val comes first within a class, so that it is the same for any number of training images.
    """

    name: str
    title: str
    split: str

    VALIDATION = 2  # images a class in target_val

    def parts(self, shots: int) -> dict[Role, tuple[Part, ...]]:
        """Role -> rows, with `shots` training images a class (fewer where a class has no more)."""
        first = self.VALIDATION
        return {
            "target_train": (Part(self.split, "val", (first, first + shots), target=True),),
            "target_val": (Part(self.split, "val", (0, first), target=True),),
            "target_test": (Part(self.split, "test", target=True),),
        }


@dataclass(frozen=True)
class Selection:
    """Rows of a prepared split: indices [N], labels [N], cluster names [N] (what intervals resample: near-duplicates
    share one) and group names [N] (what the worst group is taken over)."""

    rows: "np.ndarray"
    labels: "np.ndarray"
    clusters: "np.ndarray"
    groups: "np.ndarray"


@dataclass(frozen=True)
class Task:
    """A task with what its card tells: classes, prompts, eval sets, licences.

    Attributes:
        contexts: prompts over which CAR-FT compares the models; empty: the templates.
        contexts_note: what a reader should know of them.
    """

    name: str
    dataset: str
    title: str
    classes: tuple[str, ...]
    prompt_names: tuple[str, ...]
    templates: tuple[str, ...]
    cluster: str
    train: tuple[Part, ...]
    eval_sets: tuple[EvalSet, ...]
    licences: str
    select: Callable[[Part, "pd.DataFrame", int], Selection]
    targets: tuple[Target, ...] = ()
    contexts: tuple[str, ...] = ()
    contexts_note: str = ""

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the prepared splits that the task reads."""
        parts = [*self.train, *(part for eval_set in self.eval_sets for part in eval_set.parts)]
        return tuple(dict.fromkeys([*(part.split for part in parts), *(target.split for target in self.targets)]))

    def parts_of(self, role: Role) -> tuple[Part, ...]:
        """All rows with a role."""
        return tuple(part for eval_set in self.eval_sets if eval_set.role == role for part in eval_set.parts)

    @property
    def chance(self) -> float:
        """Accuracy of uniform guessing, as mean per class, in percent."""
        return 100 / len(self.classes)


def build_task(name: str, entry: config.Task) -> Task:
    """The task of a config entry. Raises UserError for an unknown class."""
    from surefoot.tasks import emoji

    return {"emoji": emoji.build}[entry.family](name, entry)


def load_task(entry: dict[str, Any]) -> Task:
    """The task of what a job is given of an entry: its name, and the keys that decide what is trained and tested."""
    settings = dict(entry)
    name = settings.pop("name")
    try:
        return build_task(name, config.Task.model_validate({**settings, "recipe": "unused"}))
    except ValueError as error:
        raise UserError(f"tasks.{name}: {error}") from None
