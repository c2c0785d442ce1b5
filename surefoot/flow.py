"""Which files the workflow makes: the only part of the library that knows paths.

No torch here: the Snakefile imports this module.
"""

import math
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from surefoot import config
from surefoot.files import UserError
from surefoot.meets import check_shared, measured
from surefoot.mistakes import suggestion
from surefoot.published import Published, load_published, published_files
from surefoot.tasks import Task, build_task, family
from surefoot.tasks.emoji_names import STYLES
from surefoot.tasks.folder import check_places

PUBLISHED = ("imagenet", "cifar", "wilds", "domainnet", "breeds", "transfer")
SPLIT_FILES = ("images.npy", "rows.parquet", "split.json")
TABLES = ("main", "alpha", "ensembles", "effects", "metrics", "cost", "methods")
FIGURES = ("frontier", "alpha")
# Memory of a job that computes with a model, in MB: what Python, torch and the images take, and how many copies of the
# weights there are at most. Peaks measured in training: the embedded model (weights of 6 MB) 1,074; the image tower of
# a ViT-B/32 (577 MB) 2,981; both its towers with every companion that a term can ask for 6,744.
BASE_MB, COPIES = 3000, 8
SEARCH_TABLES = ("search", "learned", "trials", "importances")
# Only where the run adapts source models to targets.
SURGICAL_TABLES = ("surgical", "choices", "factors")


def _records(weights: list[str]) -> list[str]:
    return [path.replace("weights.safetensors", "record.json") for path in weights]


def either(names: Iterable[str]) -> str:
    """A regular expression that matches exactly these names; without one, nothing."""
    return "|".join(sorted(map(re.escape, names), key=len, reverse=True)) or "(?!)"


@dataclass(frozen=True)
class Plan:
    """A config bound to the files it asks for. `wildcards` have the attributes task, model, method, seed."""

    config: config.Config

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """Known tasks by name."""
        return {name: build_task(name, entry) for name, entry in self.config.tasks.items()}

    def check(self) -> None:
        """Find mistakes that only files can tell. Raises UserError; also when results/ cannot be written."""
        for name in self.config.run.models:
            if (file := self.config.models[name].checkpoint) and not Path(file).is_file():
                raise UserError(f"models.{name}.pretrained: there is no file {file}")
        for name in self.config.surgical.tasks:
            source = self.config.tasks[name].source or name
            if self.tasks[source].classes != self.tasks[name].classes:
                raise UserError(f"tasks.{name}.source: {source} has other classes, so its models cannot be adapted")
        for task in self.config.run.tasks:
            if self.config.tasks[task].family == "folder":
                check_places(task, self.config.tasks[task])
        if self.config.comparison.shared:
            check_shared(self.config, load_published(published_files()))
        if Path("results").exists() and not os.access("results", os.W_OK):
            raise UserError("the folder results/ is read-only; make it writable and run again")

    def compute_mb(self, wildcards: Any, attempt: int) -> int:
        """Memory in MB to ask for: by the size of the model's weights once they are there; more with every attempt."""
        weights = Path("results/models", getattr(wildcards, "model", "emoji-clip"), "open_clip_model.safetensors")
        size = weights.stat().st_size / 2**20 if weights.is_file() else 0
        return attempt * math.ceil(BASE_MB + COPIES * size)

    @cached_property
    def partner(self) -> dict[int, int]:
        """Seed -> the seed of its partner in an ensemble of two fine-tuned models: same fold, other randomness."""
        rounds = 3 * (max(self.config.seeds) // 3 + 1)
        return {seed: seed + rounds for seed in self.config.seeds}

    def trained(self, method: str) -> bool:
        """Whether a method trains anything."""
        return self.config.methods[method].changes_weights

    def splits(self, wildcards: Any) -> list[str]:
        """Files of the prepared splits of a task."""
        task = self.tasks[wildcards.task]
        return [f"results/data/{task.dataset}/{split}/{file}" for split in task.splits for file in SPLIT_FILES]

    def weights(self, wildcards: Any) -> list[str]:
        """Trained weights of all seeds of a method; none for the zero-shot model."""
        return self._weights(wildcards, wildcards.method, self.config.seeds) if self.trained(wildcards.method) else []

    def partner_weights(self, wildcards: Any) -> list[str]:
        """Trained weights of the partners of all seeds."""
        return self._weights(wildcards, wildcards.method, self.partner.values())

    def records(self, wildcards: Any) -> list[str]:
        """Records of all runs of a method."""
        return _records(self.weights(wildcards))

    def partner_records(self, wildcards: Any) -> list[str]:
        """Records of the partners of all seeds."""
        return _records(self.partner_weights(wildcards))

    def base_weights(self, wildcards: Any) -> list[str]:
        """Trained weights that the runs of a job start from, in the order of their seeds."""
        return self._bases(wildcards, [wildcards.seed] if hasattr(wildcards, "seed") else self.config.seeds)

    def base_records(self, wildcards: Any) -> list[str]:
        """Records of the runs that a job starts from."""
        return _records(self.base_weights(wildcards))

    def partner_base_weights(self, wildcards: Any) -> list[str]:
        """Trained weights that the runs of the partners start from."""
        return self._bases(wildcards, self.partner.values())

    def partner_base_records(self, wildcards: Any) -> list[str]:
        """Records of the runs that the partners start from."""
        return _records(self.partner_base_weights(wildcards))

    def first_weights(self, wildcards: Any) -> list[str]:
        """Trained weights of the first seed: the model that is exported."""
        if not self.trained(wildcards.method):
            raise UserError(f"method {wildcards.method} trains nothing: use the CLIP model itself")
        return self._weights(wildcards, wildcards.method, self.config.seeds[:1])

    def alphas(self, wildcards: Any) -> list[float]:
        """The grid of a method's line; a model from random weights has no line."""
        return [1.0] if self.config.methods[wildcards.method].start == "random" else self.config.alphas

    def alpha(self, wildcards: Any) -> float:
        """The alpha of an export. Raises UserError unless it is between 0 and 1."""
        alpha = float(wildcards.alpha)
        if alpha > 1:
            raise UserError(f"alpha {wildcards.alpha} is not between 0 (zero-shot) and 1 (fine-tuned)")
        return alpha

    def per_seed(self, path: str) -> str | list[str]:
        """The path itself (one job a seed) or one path per seed of the run (one job for all seeds)."""
        shared = self.config.seeds_per_job == "all"
        return [path.replace("{seed}", str(seed)) for seed in self.config.seeds] if shared else path

    def per_partner(self, path: str) -> list[str]:
        """One path per partner seed."""
        return [path.replace("{seed}", str(seed)) for seed in self.partner.values()]

    def _weights(self, w: Any, method: str, seeds: Iterable[int]) -> list[str]:
        return [f"results/finetune/{w.task}/{w.model}/{method}/seed-{seed}/weights.safetensors" for seed in seeds]

    def _bases(self, w: Any, seeds: Iterable[int]) -> list[str]:
        base = self.config.methods[w.method].base
        return self._weights(w, base, seeds) if base else []

    def method_entry(self, wildcards: Any) -> dict[str, Any]:
        """What a fine-tuning job reads of the config: what is done to the weights, and the resolved recipe."""
        entry = self._entry(wildcards, self.config.tasks[wildcards.task].recipe)
        if entry["recipe"]["keep"] == "last":  # then no metric is looked at, and another one reruns nothing
            del entry["metric"]
        return entry

    def adapt_entry(self, wildcards: Any) -> dict[str, Any]:
        """What an adaptation job reads of the config."""
        return self._entry(wildcards, self.config.surgical.recipe)

    def online_entry(self, wildcards: Any) -> dict[str, Any]:
        """What an online adaptation reads of the config."""
        return self._entry(wildcards, self.config.online.recipe)

    def _entry(self, wildcards: Any, recipe: str, changes: dict[str, Any] | None = None) -> dict[str, Any]:
        training, how = self.config.resolve(wildcards.method, recipe, changes)
        return {
            "name": wildcards.method,
            "training": training.model_dump(),
            "recipe": how.model_dump(),
            "metric": self.config.tasks[wildcards.task].metric,
        }

    def grid(self, wildcards: Any) -> dict[str, list[dict[str, Any]]]:
        """Settings that tuning tries for a method: what each changes, and the resolved entries."""
        recipe = self.config.tasks[wildcards.task].recipe
        points = self.config.grid_points(wildcards.method, recipe)
        return {"points": points, "entries": [self._entry(wildcards, recipe, point) for point in points]}

    def tuning_files(self) -> list[str]:
        """Trials of every method of the run that has a grid for the recipe of its task."""
        return [
            f"results/tune/{task}/{model}/{method}/trials.parquet"
            for task, model in self.cells()
            for method in self.config.run.methods
            if self.config.grid_points(method, self.config.tasks[task].recipe)
        ]

    def source_weights(self, wildcards: Any) -> list[str]:
        """Weights of the source models that are adapted, of all seeds."""
        task = self.config.tasks[wildcards.task].source or wildcards.task
        return [
            f"results/finetune/{task}/{wildcards.model}/{self.config.surgical.source}/seed-{seed}/weights.safetensors"
            for seed in self.config.seeds
        ]

    def source_records(self, wildcards: Any) -> list[str]:
        """Records of the source models."""
        return _records(self.source_weights(wildcards))

    def adaptations(self, kind: Literal["adapt", "online"], file: str) -> list[str]:
        """One file of every adaptation of the run, to few labels (adapt) or to a stream (online)."""
        how = self.config.surgical if kind == "adapt" else self.config.online
        return [
            f"results/{kind}/{task}/{model}/{method}/{file}"
            for task in how.tasks
            for model in self.config.run.models
            for method in how.methods
        ]

    def task_entry(self, wildcards: Any) -> dict[str, Any]:
        """What a job reads of a task's entry."""
        return self.task_entry_of(wildcards.task)

    def task_entry_of(self, task: str) -> dict[str, Any]:
        """What a job reads of the entry of one task."""
        return {
            "name": task,
            **self.config.tasks[task].model_dump(exclude={"recipe", "metric", "source", "baseline_line"}),
        }

    def metric(self, wildcards: Any) -> str:
        """Main metric of a task."""
        return self.config.tasks[wildcards.task].metric

    def pretraining_splits(self) -> list[str]:
        """Files of the prepared styles that the embedded CLIP is made from."""
        return [f"results/data/emoji/{style}/{file}" for style in STYLES for file in SPLIT_FILES]

    def threads(self, wildcards: Any) -> int:
        """Cores of a job: one, for what computes on a CPU, and more where images are decoded while it works."""
        task = getattr(wildcards, "task", None)
        name = self.config.tasks[task].family if task else self.families[wildcards.dataset]
        return 1 if name == "emoji" else self.config.decode_threads

    def prepare_minutes(self, wildcards: Any) -> int:
        """Time to ask for: a large data set has a hundred thousand images and more to decode."""
        return 30 if self.families[wildcards.dataset] == "emoji" else 480

    @cached_property
    def families(self) -> dict[str, str]:
        """Data set -> its family."""
        found = {task.dataset: self.config.tasks[name].family for name, task in self.tasks.items()}
        return found | {"emoji": "emoji"}

    def size(self, wildcards: Any) -> int:
        """Side of the prepared images of a data set."""
        return self.config.image_size[self.families[wildcards.dataset]]

    def raw_data(self, wildcards: Any) -> list[str]:
        """What a prepared split of a published data set is made from: where its files are."""
        name = self.families[wildcards.dataset]
        if name in ("emoji", "folder"):
            return []
        known = family(name).SPLITS
        if wildcards.split not in known:
            near = suggestion(wildcards.split, known)
            raise UserError(f"data set {wildcards.dataset} has no split {wildcards.split!r}{near}")
        return [f"results/raw/{known[wildcards.split].source}/source.json"]

    def source_family(self, wildcards: Any) -> str:
        """The family that a distributed data set belongs to. Raises UserError for an unknown one."""
        return self._families_of(wildcards.source)[0]

    def _families_of(self, source: str) -> list[str]:
        known = {found for name in PUBLISHED for found in family(name).SOURCES}
        if source not in known:
            raise UserError(f"unknown data set {source!r}{suggestion(source, known)}")
        return [name for name in PUBLISHED if source in family(name).SOURCES]

    def source_entry(self, wildcards: Any) -> dict[str, Any]:
        """What is distributed of a data set, so that another digest or address fetches it anew."""
        return asdict(family(self.source_family(wildcards)).SOURCES[wildcards.source])

    def data_root(self, wildcards: Any) -> str | None:
        """Folder of the user's own copies of a family that has the data set, absolute."""
        roots = map(self.config.data_root.get, self._families_of(wildcards.source))
        root = next(filter(None, roots), None)
        return str(Path(root).expanduser().resolve()) if root else None

    def raw_files(self) -> list[str]:
        """Manifests of the data sets that the tasks of the run read."""
        found = []
        for name in self.shown_tasks():
            if (kind := self.config.tasks[name].family) in PUBLISHED:
                splits = family(kind).SPLITS
                found += [f"results/raw/{splits[split].source}/source.json" for split in self.tasks[name].splits]
        return list(dict.fromkeys(found))

    def data_entry(self, wildcards: Any) -> dict[str, Any]:
        """What preparing reads: the family and, of the user's own data, the task and its folders' times."""
        name = self.families[wildcards.dataset]
        if name != "folder":
            return {"family": name}
        task = next(task for task, built in self.tasks.items() if built.dataset == wildcards.dataset)
        entry = self.config.tasks[task]
        return {**self.task_entry_of(task), "listing": family(name).listing(entry, wildcards.split)}

    def cells(self) -> list[tuple[str, str]]:
        """Every (task, model) of the run."""
        return [(task, model) for task in self.config.run.tasks for model in self.config.run.models]

    def evaluations(self, file: str) -> list[str]:
        """One file of every evaluation of the run."""
        run = self.config.run
        names = [*run.methods, *run.baselines, *(f"{pair}.pair" for pair in run.pairs)]
        return [f"results/evaluate/{t}/{m}/{name}/{file}" for t, m in self.cells() for name in names]

    def meters(self) -> list[str]:
        """Meter files of all training runs."""
        return [
            f"results/finetune/{t}/{m}/{method}/seed-{seed}/meter.json"
            for t, m in self.cells()
            for method in self.config.run.methods
            if self.trained(method)
            for seed in self.config.seeds
        ]

    def inference_files(self) -> list[str]:
        """Cost of inference with one, a merged and two models; it is the architecture's, so one method will do."""
        method = [m for m in self.config.run.methods if self.trained(m)][-1]
        return [f"results/evaluate/{t}/{m}/{method}/inference.json" for t, m in self.cells()]

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables of the run."""
        surgical = SURGICAL_TABLES if self.config.surgical.tasks else ()
        searched = (*SEARCH_TABLES, *self.analyses) if self.config.search.spaces else ()
        compared = ("comparison",) if self.published else ()
        shifted = [t for t in self.config.run.tasks if self.tasks[t].parts_of("ood_test")]
        across = ("shifts",) if len(shifted) > 1 else ()
        several = any(len(self.tasks[task].targets) > 1 for task in self.config.surgical.tasks)
        targets = (("targets",) if several else ()) + (("online",) if self.config.online.tasks else ())
        return TABLES + across + searched + surgical + targets + compared

    @cached_property
    def published(self) -> list[str]:
        """Files of published numbers, where the run can have a number beside one of them; else none."""
        files = published_files()
        return [os.path.relpath(file) for file in files] if self.meets(load_published(files)) else []

    def meets(self, rows: Iterable[Published]) -> set[Published]:
        """The comparable published numbers whose quantity the run measures."""
        sets = {task: {s.name for s in self.tasks[task].eval_sets} for task in self.config.run.tasks}
        return measured(rows, self.config, sets)

    @property
    def analyses(self) -> tuple[str, ...]:
        """Analyses of the searches that the config asks for; each has a table and a figure."""
        how = self.config.search
        return tuple(name for name in ("lengths", "without") if getattr(how, name).spaces)

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of the figures of the run."""
        how, shifted = self.config.surgical, [t for t in self.config.run.tasks if self.tasks[t].parts_of("ood_test")]
        found = FIGURES if shifted else ("alpha",)
        published = any(self.config.tasks[task].baseline_line for task in shifted)
        found += ("search", "learned", "importances", *self.analyses) if self.config.search.spaces else ()
        found += ("robustness",) if shifted and (self.config.run.baselines or published) else ()
        found += ("comparison",) if self.published else ()
        if how.tasks:
            found += ("blocks",) + (("shots",) if len(how.shots) > 1 else ())
            learned = any(isinstance(r := self.config.methods[m].rates, str) and r != "one" for m in how.methods)
            found += ("factors",) if learned else ()
        return found

    def shown_tasks(self) -> list[str]:
        """Tasks whose cards and contact sheets are in the report."""
        return [*self.config.run.tasks, *self.config.surgical.tasks]

    def export_files(self) -> list[str]:
        """Merged models at the fixed alpha, for every trained method of the run."""
        return [
            f"results/export/{t}/{m}/{method}/alpha-{self.config.fixed_alpha:g}.safetensors"
            for t, m in self.cells()
            for method in self.config.run.methods
            if self.trained(method)
        ]
