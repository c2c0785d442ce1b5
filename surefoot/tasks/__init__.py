"""Tasks: what is trained on, what is tested, and what the classes are called.

A task selects and relabels rows of prepared splits; tasks of one family share them. N rows, C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, get_args

from surefoot.files import UserError
from surefoot.roles import Role
from surefoot.task_entries import TASK_KINDS, AnyTask, BenchmarkTask, FolderTask

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    # Named, though only the one that is needed is imported, so that the digest of a job's code covers all families.
    from surefoot.tasks import breeds, cifar, domainnet, emoji, folder, imagenet, transfer, wilds  # noqa: F401
    from surefoot.tasks.benchmarks import Prepared


@dataclass(frozen=True)
class Part:
    """Rows of one prepared split: those of one fold under a seed ('train', 'val', 'test', 'anchor'); '' takes all.

    Attributes:
        take: per class only these (first, behind the last): of its clusters, with one image each, on emoji; of its
            images on published data.
        target: whether the rows are of the target domain, where a task defines one by classes or labels.
    """

    split: str
    fold: str
    take: tuple[int, int] | None = None
    target: bool = False


@dataclass(frozen=True)
class EvalSet:
    """A named set of images with one role.

    Attributes:
        columns: per label of these images the classes of the task that mean it: its logit is their largest (ObjectNet's
            projection; single classes are the masks of ImageNet-R and A). Empty: labels are the task's classes.
        metric: main metric of this set where it is not the task's.
    """

    name: str
    title: str
    role: Role
    parts: tuple[Part, ...]
    note: str = ""
    columns: tuple[tuple[int, ...], ...] = ()
    metric: str = ""


@dataclass(frozen=True)
class Target:
    """A shifted domain with a few labelled images, to which a source model is adapted (Surgical Fine-Tuning).

    target_val, `validation` images a class, comes first within a class, so that it is the same for any number of
    training images.
    """

    name: str
    title: str
    split: str
    validation: int = 2

    def parts(self, shots: int) -> dict[Role, tuple[Part, ...]]:
        """Role -> rows, with `shots` training images a class (fewer where a class has no more)."""
        first = self.validation
        return {
            "target_train": (Part(self.split, "val", (first, first + shots), target=True),),
            "target_val": (Part(self.split, "val", (0, first), target=True),),
            "target_test": (Part(self.split, "test", target=True),),
        }


@dataclass(frozen=True)
class Selection:
    """Rows of a prepared split: indices [N], labels [N], cluster names [N] (what intervals resample: near-duplicates
    share one) and group names [N] (what the worst group is taken over; '' is left out of it).

    also: what else is right of each image, labels as text between blanks [N]; None: nothing.
    """

    rows: "np.ndarray"
    labels: "np.ndarray"
    clusters: "np.ndarray"
    groups: "np.ndarray"
    also: "np.ndarray | None" = None


@dataclass(frozen=True)
class Task:
    """A task with what its card tells: classes, prompts, eval sets, licences.

    Attributes:
        dataset: folder of its prepared splits below results/data/.
        contexts: prompts over which CAR-FT compares the models; empty: the templates.
        contexts_note: what a reader should know of them.
        note: what else the card says, such as where a role differs from the paper's.
        exact: images are prepared as the model's own evaluation transform makes them, so a model of another resolution
            is refused; else images are resized for it.
        folds: how many take turns, a seed's being seed mod folds; 1: every seed has the same images.
        may_lack_classes: the real training set has no image of some classes.
        grouped: images may be in different groups, so that there is a worst one.
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
    note: str = ""
    exact: bool = False
    folds: int = 1
    may_lack_classes: bool = False
    grouped: bool = True

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the prepared splits that the task reads."""
        parts = [*self.train, *(part for eval_set in self.eval_sets for part in eval_set.parts)]
        return tuple(dict.fromkeys([*(part.split for part in parts), *(target.split for target in self.targets)]))

    def parts_of(self, role: Role) -> tuple[Part, ...]:
        """All rows with a role."""
        return tuple(part for eval_set in self.eval_sets if eval_set.role == role for part in eval_set.parts)


def family(name: str) -> ModuleType:
    """The module of a family of data sets."""
    return import_module(f"surefoot.tasks.{name}")


def prepared_split(entry: dict[str, Any], split: str) -> "Prepared":
    """How a split is read, from what a job is given of a data set: its family and, of the user's own data, the task."""
    module = family(entry["family"])
    if entry["family"] != "folder":
        return module.SPLITS[split]
    name, settings = entry["name"], {key: value for key, value in entry.items() if key not in ("name", "listing")}
    return module.prepared(name, FolderTask.model_validate({**settings, "recipe": "unused"}), split)


def build_task(name: str, entry: AnyTask) -> Task:
    """The task of a config entry. Raises UserError for what its family does not know, and for a worst group of one."""
    task: Task = family(entry.family).build(name, entry)
    if entry.metric == "worst_group" and not task.grouped:
        named = (
            "name them (groups, or a table's column group), or" if entry.family == "folder" else "these have none, so"
        )
        raise UserError(
            f"tasks.{name}.metric: worst_group needs groups of images; {named} choose top1 or mean_per_class"
        )
    return task


def load_task(entry: dict[str, Any]) -> Task:
    """The task of what a job is given of an entry: its name, and the keys that decide what is trained and tested."""
    settings = dict(entry)
    name = settings.pop("name")
    kind = {get_args(k.model_fields["family"].annotation)[0]: k for k in TASK_KINDS}
    try:
        model = kind.get(settings["family"], BenchmarkTask)
        return build_task(name, model.model_validate({**settings, "recipe": "unused"}))
    except ValueError as error:
        raise UserError(f"tasks.{name}: {error}") from None
