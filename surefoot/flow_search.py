"""Which files the searches make: what flow.py is for the rest of the workflow.

No torch here: the Snakefile imports this module.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from surefoot.files import UserError
from surefoot.flow import Plan
from surefoot.method_entries import changed
from surefoot.spaces import SEARCH_SEEDS, Search, Space, dumped

FOLDER = "results/search/{task}/{model}/{space}/search-{search_seed}"


@dataclass(frozen=True)
class Searches:
    """The searches of a plan. `wildcards` have the attributes task, model, space, search_seed, round."""

    plan: Plan

    @property
    def how(self) -> Search:
        """The section `search`."""
        return self.plan.config.search

    @cached_property
    def spaces(self) -> dict[str, Space]:
        """Known spaces by name."""
        return self.plan.config.spaces

    def check(self) -> None:
        """Find searches that a task of the run cannot have. Raises UserError."""
        for name in self.plan.config.run.tasks if self.how.spaces else ():
            task = self.plan.tasks[name]
            self._check_folds(name, task.folds)
            roles = [eval_set.role for eval_set in task.eval_sets]
            for space in self.how.spaces:
                if (wanted := self.spaces[space].eval_set) not in roles:
                    raise UserError(
                        f"spaces.{space}.eval_set: task {name} has no {wanted}; name images with this role, or "
                        "search on id_val"
                    )

    def _check_folds(self, task: str, count: int) -> None:
        """Searches are compared on the folds that they ran on, with the same weight for each."""
        seeds = self.how.seeds
        on = [sum(seed % count == fold for seed in seeds) for fold in range(count)]
        if len(set(filter(None, on))) > 1:
            raise UserError(
                f"search.seeds: {seeds} are {on} searches on the {count} folds of task {task}; give each equally many"
            )
        if missing := sorted({seed % count for seed in seeds} - {seed % count for seed in self.plan.config.seeds}):
            raise UserError(
                f"search.seeds: no seed of the run is on fold {missing[0]} of task {task}, so nothing to compare with"
            )

    def space_entry(self, wildcards: Any) -> dict[str, Any]:
        """What a search reads of the config: the base method under the task's recipe, and what is varied around it."""
        config, task = self.plan.config, self.plan.config.tasks[wildcards.task]
        space = self.spaces[wildcards.space].under(task.recipe)
        training, recipe = config.resolve(space.method, task.recipe)
        return {
            "name": wildcards.space,
            "training": training.model_dump(),
            "recipe": recipe.model_dump(),
            "dimensions": dumped(config.dimensions(wildcards.space, task.recipe)),
            "metric": space.metric or task.metric,
            "task_metric": task.metric,
            **space.model_dump(include={"sampler", "eval_set", "images", "balanced", "changed", "trial", "final"}),
        }

    def search_entry(self, wildcards: Any) -> dict[str, Any]:
        """What the trials read of `space_entry`: without what their own settings replace and the final run alone reads,
        so that trials are kept where only that changes."""
        entry = self.space_entry(wildcards)
        own = entry["trial"] | {"keep": "last"}
        training, recipe = changed(entry["training"], entry["recipe"], own, f"spaces.{wildcards.space}.trial")
        if recipe.steps and not {"steps", "epochs"} & set(entry["dimensions"]):
            recipe = recipe.model_copy(update={"epochs": 1})
        found = entry | {"training": training.model_dump(), "recipe": recipe.model_dump()}
        return {key: value for key, value in found.items() if key not in ("final", "task_metric")}

    def unequal_budgets(self) -> list[str]:
        """Searched spaces whose trials or validation images differ from the first one's on a task, a line each: an
        experiment that sets them for one space must do so for what is compared with it."""
        found, config = [], self.plan.config
        names = [name for name in self.how.spaces if not self.spaces[name].learned]
        for recipe in dict.fromkeys(config.tasks[task].recipe for task in config.run.tasks):
            spaces = [self.spaces[name].under(recipe) for name in names]
            recipes = [config.resolve(space.method, recipe, space.trial)[1] for space in spaces]
            for name, space, own in list(zip(names, spaces, recipes, strict=True))[1:]:
                keys = [k for k in ("images", "balanced", "trial") if getattr(space, k) != getattr(spaces[0], k)]
                for key in ("batch_size", "accumulation") if "trial" not in keys else ():
                    if (value := getattr(own, key)) != (first := getattr(recipes[0], key)):
                        keys.append(f"{key} ({value}, not {first})")
                if keys:
                    found.append(
                        f"under recipe {recipe} spaces.{name} has other {' and '.join(keys)} than spaces.{names[0]}: "
                        "their searches have different budgets"
                    )
        return found

    def trial_files(self, folder: str, rounds: range | None = None) -> list[str]:
        """Records of the trials of some rounds of a search, or of all."""
        return [
            f"{folder}/round-{k}/shard-{i}.parquet"
            for k in (range(self.how.rounds) if rounds is None else rounds)
            for i in range(self.how.shards)
        ]

    def history(self, wildcards: Any) -> list[str]:
        """Records of the rounds before one."""
        return self.trial_files(FOLDER.format(**vars_of(wildcards)), range(int(wildcards.round)))

    def source(self, wildcards: Any) -> str:
        """The objective that a space takes from a search on another task."""
        learned = self.spaces[wildcards.space].learned
        return FOLDER.format(**vars_of(wildcards) | learned.model_dump()) + "/objective.yaml"

    def all_trials(self, wildcards: Any) -> list[str]:
        """Records of all rounds of a search."""
        return self.trial_files(FOLDER.format(**vars_of(wildcards)))

    def job_meters(self, wildcards: Any) -> list[str]:
        """What the jobs of a search cost: one, or one per shard of every round."""
        files = self.all_trials(wildcards)
        return [path.replace(".parquet", ".meter.json") for path in (files if self.how.shards > 1 else files[:1])]

    def numbers(self, wildcards: Any) -> list[tuple[int, int]]:
        """First trial, and the one behind the last, of every round that a job makes."""
        rounds = [int(wildcards.round)] if hasattr(wildcards, "round") else range(self.how.rounds)
        size = self.how.round_size
        return [(k * size, min((k + 1) * size, self.how.trials)) for k in rounds]

    def base_weights(self, wildcards: Any) -> list[str]:
        """Trained weights that a search or a final run starts from, where its method has a base."""
        base = self.plan.config.methods[self.spaces[wildcards.space].method].base
        seed = getattr(wildcards, "seed", wildcards.search_seed)
        folder = f"results/finetune/{wildcards.task}/{wildcards.model}/{base}/seed-{seed}"
        return [f"{folder}/weights.safetensors"] if base else []

    def base_records(self, wildcards: Any) -> list[str]:
        """Records of the runs that a search or a final run starts from."""
        return [path.replace("weights.safetensors", "record.json") for path in self.base_weights(wildcards)]

    def final_seeds(self, search_seed: int) -> list[int]:
        """Seeds of a search's final runs: the search's own first, all on its fold and none another search's."""
        return [search_seed + SEARCH_SEEDS * k for k in range(self.how.final_seeds)]

    @property
    def run_seeds(self) -> list[int]:
        """Seeds of the final runs of all searches of a space."""
        return [seed for search_seed in self.how.seeds for seed in self.final_seeds(search_seed)]

    def final_weights(self, wildcards: Any) -> list[str]:
        """Weights of the final runs of all searches of a space."""
        return [
            f"results/finetune/{wildcards.task}/{wildcards.model}/{wildcards.space}@search-{search_seed}/seed-{seed}/"
            "weights.safetensors"
            for search_seed in self.how.seeds
            for seed in self.final_seeds(search_seed)
        ]

    def final_records(self, wildcards: Any) -> list[str]:
        """Records of the final runs of all searches of a space."""
        return [path.replace("weights.safetensors", "record.json") for path in self.final_weights(wildcards)]

    def dimensions(self, wildcards: Any) -> dict[str, dict[str, Any]]:
        """Task -> searched space -> its dimensions."""
        config = self.plan.config
        return {
            task: {name: dumped(config.dimensions(name, config.tasks[task].recipe)) for name in self.how.spaces}
            for task in config.run.tasks
        }

    def analyses(self, kind: str) -> list[str]:
        """Records of one analysis, lengths or without, of every search that asks for it."""
        wanted = getattr(self.how, kind).spaces
        return [f for space in wanted for f in self.searches(f"{kind}.parquet") if f.split("/")[-3] == space]

    def cells(self) -> list[tuple[str, str, str]]:
        """Every (task, model, space) of the run; what is learned on a task is tried on the others."""
        run, known = self.plan.config.run, self.spaces
        cells = [(t, m, space) for t in run.tasks for m in run.models for space in self.how.spaces]
        return [(t, m, space) for t, m, space in cells if not ((of := known[space].learned) and of.task == t)]

    def files(self, file: str) -> list[str]:
        """One file of every learned objective of the run."""
        return [
            f"results/search/{t}/{m}/{space}/search-{seed}/{file}"
            for t, m, space in self.cells()
            for seed in self.how.seeds
        ]

    def searches(self, file: str) -> list[str]:
        """One file of every search of the run, which are those of objectives that are not learned elsewhere."""
        return [path for path in self.files(file) if not self.spaces[path.split("/")[-3]].learned]

    def evaluations(self, file: str) -> list[str]:
        """One file of the evaluation of every searched method."""
        return [f"results/evaluate/{t}/{m}/{space}/{file}" for t, m, space in self.cells()]

    def finals(self, file: str) -> list[str]:
        """One file of every final run."""
        return [
            f"results/finetune/{t}/{m}/{space}@search-{search_seed}/seed-{seed}/{file}"
            for t, m, space in self.cells()
            for search_seed in self.how.seeds
            for seed in self.final_seeds(search_seed)
        ]


def vars_of(wildcards: Any) -> dict[str, str]:
    """Task, model, space and search seed of a job."""
    return {name: getattr(wildcards, name) for name in ("task", "model", "space", "search_seed")}
