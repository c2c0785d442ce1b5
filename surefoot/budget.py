"""What an experiment on published data sets takes: images, GPU hours and disk, from cards and recipes before any of it
runs.

FLOPs are counted from the architecture (a multiplication and an addition are two), so hours scale with a stated speed
of the GPU. Bounds that are not from recipes: a held-out validation set is taken for a tenth of the training set.
No torch at import: the Snakefile imports this module.
"""

import importlib.util
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from surefoot.flow import PUBLISHED, Plan
from surefoot.flow_search import Searches
from surefoot.method_entries import Augmentation, Training
from surefoot.names import ON_IMAGES
from surefoot.run_entries import Model
from surefoot.sources import Source
from surefoot.task_entries import AnyTask
from surefoot.tasks import Part, Target, Task, family

HELD_OUT = 0.1
BACKWARD = 2  # times the forward pass
GB = 1e9


@dataclass(frozen=True)
class Size:
    """FLOPs of a forward pass of an image and of a text, parameters of the image tower, side of its input."""

    image_flops: float
    text_flops: float
    parameters: float
    side: int


def transformer(tokens: int, width: int, layers: int) -> tuple[float, float]:
    """FLOPs of a forward pass, and parameters, of a transformer with four times the width inside."""
    return layers * tokens * (24 * width**2 + 4 * tokens * width), layers * 12 * width**2


# Towers without a config: (FLOPs at their usual side, parameters, side), of torchvision's table and by hand.
TOWERS = {"resnet50": (8.2e9, 25.6e6, 224), "resnet26": (0.11e9, 0.37e6, 32)}


@cache
def size_of(model: Model) -> Size | None:
    """Size of a CLIP with a vision transformer, or of a tower; None for other architectures."""
    if model.tower:
        flops, parameters, side = TOWERS[model.tower]
        own = model.image_size or side
        return Size(flops * (own / side) ** 2, 0, parameters, own)
    if model.folder:
        found = json.loads(Path(model.folder, "open_clip_config.json").read_text())["model_cfg"]
    else:
        name = (model.architecture or "").removesuffix("-quickgelu")
        folder = Path(importlib.util.find_spec("open_clip").origin).parent  # found, not imported: that takes seconds
        path = folder / "model_configs" / f"{name}.json"
        found = json.loads(path.read_text()) if path.is_file() else {}
    vision, text = found.get("vision_cfg", {}), found.get("text_cfg", {})
    if not isinstance(vision.get("layers"), int) or "patch_size" not in vision:
        return None  # a ResNet of OpenAI's, or a tower of another library
    side, patch, width = vision["image_size"], vision["patch_size"], vision["width"]
    tokens = (side // patch) ** 2 + 1
    image_flops, parameters = transformer(tokens, width, vision["layers"])
    embedding = 3 * patch**2 * width
    text_flops, _ = transformer(text["context_length"], text["width"], text["layers"])
    parameters += embedding + (tokens + found["embed_dim"]) * width
    return Size(image_flops + 2 * tokens * embedding, text_flops, parameters, side)


def flops_per_image(size: Size, training: Training, augmented: bool) -> float:
    """FLOPs that training spends on an image in a step: forward and backward, and what the terms ask for.

    A frozen tower without augmentation encodes an image once, which counts as nothing beside an epoch.
    """
    asked = {term.partition("@")[0] for term, weight in training.objective.items() if weight}
    towers = {"head", "logit_scale", "text"}
    tuned = any(part not in towers for part in training.train)
    found = size.image_flops * (1 + BACKWARD) if tuned else size.image_flops * augmented
    found += size.image_flops * bool(asked & ON_IMAGES)
    if "flyp" in asked:
        found += size.text_flops * (1 + BACKWARD if "text" in training.train else 1)
    return found


class Counts:
    """Numbers of images of a task, from what is known of its published splits."""

    def __init__(self, task: Task, entry: AnyTask) -> None:
        self.task, self.entry = task, entry
        self.known = family(entry.family).SPLITS

    def of(self, parts: Iterable[Part]) -> float:
        """Images of some parts, at most."""
        shots, found = getattr(self.entry, "shots", None), 0.0
        training = {part.split for part in self.task.train}
        for part in parts:
            how = self.known[part.split]
            images = float(how.images or how.about)
            if part.take:
                images = min(images, (part.take[1] - part.take[0]) * len(self.task.classes))
            elif part in self.task.train and shots:
                images = min(images, shots * len(self.task.classes))
            elif part.fold == "val" and part.split in training:
                images *= HELD_OUT
            found += images
        return found

    @property
    def train(self) -> float:
        """Training images."""
        return self.of(self.task.train)

    @property
    def evaluated(self) -> float:
        """Images of all eval sets."""
        return sum(self.of(eval_set.parts) for eval_set in self.task.eval_sets)


@dataclass
class Budget:
    """FLOPs by kind of work, bytes by kind of file, data sets that no job can fetch, and what is wrong with data_root.

    Work of models of unknown size (`uncounted`) is in neither, archives of unknown size (`unsized`) not in the bytes.
    """

    flops: dict[str, float]
    bytes: dict[str, float]
    uncounted: list[str] = field(default_factory=list)
    unsized: list[str] = field(default_factory=list)
    by_hand: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)

    @property
    def unknown(self) -> list[str]:
        """All that makes the bytes a lower bound; what makes one of the hours too comes first."""
        return list(dict.fromkeys([*self.uncounted, *self.unsized]))

    def hours(self, tflops: float) -> dict[str, float]:
        """GPU hours by kind of work at a speed."""
        return {kind: flops / (tflops * 1e12) / 3600 for kind, flops in self.flops.items() if flops}

    def gigabytes(self) -> dict[str, float]:
        """Disk by kind of file."""
        return {kind: size / GB for kind, size in self.bytes.items() if size}

    def lines(self, tflops: float) -> list[str]:
        """What a dry run prints."""
        hours, sizes = self.hours(tflops), self.gigabytes()
        total = sum(hours.values())
        how_long = about(total)
        if self.uncounted:
            how_long = f"at least {told(total)}" if total >= 0.1 else "an unknown number of"
        found = [
            f"{how_long} GPU hours at {tflops:g} TFLOP/s (estimate_tflops; "
            f"benchmarks/paper_scale.py measures yours): {_listed(hours)}",
            f"{'at least' if self.unknown else 'about'} {told(sum(sizes.values()))} GB of disk: {_listed(sizes)}",
        ]
        if self.unknown:
            found.append(f"not counted, because it is not known here: {', '.join(self.unknown)}")
        if self.by_hand:
            found.append(
                f"only you can get, unless data_root or results/raw has it (docs/data.md): {', '.join(self.by_hand)}"
            )
        return found + self.absent


def about(value: float) -> str:
    """A number as a sentence begins with it."""
    return told(value) if value < 0.1 else f"about {told(value)}"


def told(value: float) -> str:
    """A number as a reader needs it."""
    if value < 0.1:
        return "under 0.1"
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _listed(values: dict[str, float]) -> str:
    return ", ".join(f"{kind} {told(value)}" for kind, value in values.items())


def estimate(searches: Searches) -> Budget | None:
    """What a run takes from nothing; None where it has no published data set. Analyses of searches are left out."""
    plan = searches.plan
    tasks = [t for t in plan.shown_tasks() if plan.config.tasks[t].family in PUBLISHED]
    if not tasks:
        return None
    found = Budget(dict.fromkeys(("training", "evaluation", "search", "adaptation"), 0.0), {})
    for task in tasks:
        for model in plan.config.run.models:
            if (size := size_of(plan.config.models[model])) is None:
                found.uncounted.append(f"work with {model}")
                continue
            counts = Counts(plan.tasks[task], plan.config.tasks[task])
            if task in plan.config.run.tasks:
                _add_runs(found, searches, counts, size)
            if task in plan.config.surgical.tasks:
                _add_adaptations(found, plan, counts, size)
    _add_data(found, plan, tasks)
    return found


def _training(plan: Plan, method: str, recipe: str, counts: Counts, size: Size) -> float:
    """FLOPs of one run of a method, without those of its base."""
    training, how = plan.config.resolve(method, recipe)
    images = how.steps * min(how.batch_size, counts.train) if how.steps else how.epochs * counts.train * training.share
    once = size.image_flops * counts.train if training.train == ["head"] else 0.0
    if how.keep == "best" and training.train != ["head"]:  # id_val after every epoch
        once += images / counts.train * counts.of(counts.task.parts_of("id_val")) * size.image_flops
    return once + images * flops_per_image(size, training, how.augmentation != Augmentation())


def _add_runs(found: Budget, searches: Searches, counts: Counts, size: Size) -> None:
    plan, recipe = searches.plan, counts.entry.recipe
    run, methods, seeds = plan.config.run, plan.config.methods, len(plan.config.seeds)
    wanted = [*run.methods, *run.baselines]
    bases = [base for method in wanted if (base := methods[method].base) and base not in wanted]
    runs = {method: seeds * (2 if method in run.pairs else 1) for method in dict.fromkeys([*wanted, *bases])}
    for method, times in runs.items():
        if plan.trained(method):
            found.flops["training"] += times * _training(plan, method, recipe, counts, size)
            found.bytes["weights"] = found.bytes.get("weights", 0.0) + times * 4 * size.parameters
    one_pass = seeds * counts.evaluated * size.image_flops
    for method in wanted:
        moves = plan.trained(method) and methods[method].train != ["head"]
        found.flops["evaluation"] += one_pass * (len(plan.config.alphas) if moves else 1)
    how = plan.config.search
    here = [space for task, _, space in searches.cells() if task == counts.task.name]
    for space in (plan.config.spaces[name].under(recipe) for name in dict.fromkeys(here)):
        training, trial = plan.config.resolve(space.method, recipe, space.trial)
        keys = {key.partition(".")[2] for key in space.dimensions if key.startswith("objective.")}
        widest = training.model_copy(update={"objective": training.objective | dict.fromkeys(keys, 1.0)})
        images = trial.steps * min(trial.batch_size, counts.train) if trial.steps else trial.epochs * counts.train
        scored = space.images or counts.of(counts.task.parts_of(space.eval_set))
        each = images * flops_per_image(size, widest, True) + scored * size.image_flops
        finals = len(how.seeds) * how.final_seeds
        found.flops["training"] += finals * _training(plan, space.method, recipe, counts, size)
        found.flops["evaluation"] += finals * counts.evaluated * size.image_flops * len(plan.config.alphas)
        found.flops["search"] += 0 if space.learned else len(how.seeds) * how.trials * each


def _add_adaptations(found: Budget, plan: Plan, counts: Counts, size: Size) -> None:
    how, task = plan.config.surgical, counts.task
    if (source := counts.entry.source or task.name) not in plan.config.run.tasks:
        entry = plan.config.tasks[source]
        base = Counts(plan.tasks[source], entry)
        found.flops["training"] += len(plan.config.seeds) * _training(plan, how.source, entry.recipe, base, size)
    for target in task.targets:
        tested = counts.of(target.parts(1)["target_test"])
        for method in how.methods:
            training, recipe = plan.config.resolve(method, how.recipe)
            images = sum(shots * len(task.classes) * recipe.epochs for shots in how.shots)
            rates = len(how.learning_rates) if training.train else 0
            runs = len(plan.config.seeds) * rates * images * flops_per_image(size, training, True)
            passes = len(plan.config.seeds) * len(how.shots) * tested * size.image_flops
            found.flops["adaptation"] += runs + passes
        if task.name in plan.config.online.tasks:
            found.flops["adaptation"] += _streams(plan, counts, target, size)


def _streams(plan: Plan, counts: Counts, target: Target, size: Size) -> float:
    """FLOPs of the online adaptations to a target: a step on all copies of an image, and a forward pass of it."""
    how, parts, found = plan.config.online, target.parts(1), 0.0
    tested, chosen = counts.of(parts["target_test"]), counts.of(parts["target_val"])
    for method in how.methods:
        training, _ = plan.config.resolve(method, how.recipe)
        step = how.copies * flops_per_image(size, training, True) if training.train else 0.0
        images = tested + chosen * (len(how.learning_rates) if training.train else 1)
        found += len(plan.config.seeds) * images * (step + size.image_flops)
    return found


def _add_data(found: Budget, plan: Plan, tasks: list[str]) -> None:
    sources: dict[str, Source] = {}
    prepared: dict[tuple[str, str], float] = {}
    for name in tasks:
        kind, task = plan.config.tasks[name].family, plan.tasks[name]
        for split in task.splits:
            how = family(kind).SPLITS[split]
            sources[how.source] = family(kind).SOURCES[how.source]
            if not how.stream:
                prepared[task.dataset, split] = (how.images or how.about) * 3 * plan.config.image_size[kind] ** 2
    found.bytes["archives"] = sum(source.archived for source in sources.values())
    found.bytes["unpacked"] = sum(source.unpacked for source in sources.values())
    found.bytes["prepared"] = sum(prepared.values())
    found.unsized += [f"size of {name}" for name, source in sources.items() if not source.archived]
    found.by_hand = [name for name, source in sources.items() if source.asks_the_user]
    roots = {kind: Path(root).expanduser() for kind, root in plan.config.data_root.items()}
    found.absent = [
        f"data_root.{kind}: there is no folder {plan.config.data_root[kind]} on this machine"
        for kind, root in roots.items()
        if not root.is_dir()
    ]
    for name, source in sources.items():
        owners = [root for kind, root in roots.items() if name in getattr(family(kind), "SOURCES", ())]
        here = Path("results/raw", name, "extracted").is_file()
        for root in (root for root in owners if root.is_dir()):
            found.absent += filter(None, [source.pickled_copy(root) or ("" if here else source.no_copy(root))])
