"""Tables of the searches, as pure functions of their records. No torch."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from surefoot.files import read_json
from surefoot.learned import read_objective
from surefoot.results import Results, System, read_records
from surefoot.spaces import SEARCH_SEEDS
from surefoot.trials import read_trials, running_best, winner

KEYS = ["task", "model", "space", "search_seed"]
TIED = 0.1  # of the trials: with fewer different scores, ties decide


def searched_systems(results: Results) -> list[System]:
    """Zero-shot and FT at its recipe, on the folds of the searches; then every searched method, alone and with WiSE."""
    story, fixed = results.story, results.story["fixed_alpha"]
    seeds = set(story["search"]["compared_seeds"][results.task])

    def known(method: str, alpha: float) -> System:
        per_seed = {seed: a for seed, a in results.constant(method, alpha).items() if seed in seeds}
        return System(method, story["labels"][method], (per_seed,))

    untrained = [method for method in results.methods if not results.trained(method)]
    systems = [known(method, 0.0) for method in untrained[:1]] + [known(story["reference"], 1.0)]
    for space in results.searched:
        label = story["labels"][space]
        systems += [
            System(space, label, (results.constant(space, 1.0),)),
            System(space, f"{label} + WiSE ({fixed:g})", (results.constant(space, fixed),)),
            System(space, f"{label} + WiSE ({results.chooser})", (results.chosen(space, results.chooser),)),
        ]
    return systems


def search_table(results: Results, costs: pd.DataFrame) -> pd.DataFrame:
    """Searched methods on the test sets, beside zero-shot and FT on the same folds.

    Every row says how many labelled validation images chose its trial, epoch or alpha (FT's recipe was chosen before),
    and how many inner steps the search took, in those of one final run.
    """
    here = costs[(costs["task"] == results.task) & (costs["model"] == results.model)]
    numbers = ["labelled_images", "trials", "failed", "steps_ratio", "best_epoch"]
    budgets = here.groupby("space")[numbers].mean()
    rows = []
    for system in searched_systems(results):
        budget = budgets.loc[system.method].to_dict() if system.method in results.searched else {}
        labels = _labels(results, system, budget)
        shown = {key: budget.get(key, float("nan")) for key in ("trials", "failed", "steps_ratio")}
        rows += [results.estimate(system, cell) | labels | shown for cell in results.columns]
    return pd.DataFrame(rows)


def _labels(results: Results, system: System, budget: dict[str, float]) -> dict[str, float]:
    """Labelled images per search of each validation set that a row has used."""
    one = results.metrics[(results.metrics["metric"] == results.metric) & (results.metrics["space"] == "weights")]
    one = one[(one["method"] == system.method) & (one["alpha"] == one["alpha"].min())]
    sizes = one.groupby("eval_set")["n"].mean() / results.story["renders"]
    used = {"id_val": 0.0, "ood_val": 0.0}
    if budget:
        used[results.story["search"]["spaces"][system.method]["eval_set"]] = budget["labelled_images"]
        if budget["best_epoch"]:
            used["id_val"] = float(sizes["id_val"])
    if system.label.endswith(f"({results.chooser})"):
        used[results.chooser] = float(sizes[results.chooser])
    return {f"{name}_labels": count for name, count in used.items()}


def search_effects(results: Results) -> list[tuple[str, System, System]]:
    """What is compared, with a name: learned objectives and searched baselines with FT at its recipe and with the
    reference of the searches, every other arm with the first, what is learned elsewhere with the task's own search."""
    by_method: dict[str, System] = {}
    if not results.searched:
        return []
    for system in searched_systems(results):
        by_method.setdefault(system.method, system)
    spaces, reference = results.story["search"]["spaces"], results.story["search"]["reference"]

    def kind(space: str) -> str:
        if spaces[space].get("learned"):
            return "transferred objective"
        dimensions = next(iter(spaces[space]["dimensions"].values()))
        free = [key for key, d in dimensions.items() if key.startswith("objective.") and isinstance(d, dict)]
        return "learned objective" if len(free) > 1 else "searched baseline"

    pairs = [(kind(space), by_method[space], by_method[results.story["reference"]]) for space in results.searched]
    if reference in by_method:
        others = [space for space in results.searched if space != reference]
        pairs += [(kind(space), by_method[space], by_method[reference]) for space in others]
    first, *others = [space for space in results.searched if not spaces[space].get("learned")]
    pairs += [("arm", by_method[space], by_method[first]) for space in others if first != reference != space]
    taken = [space for space in results.searched if spaces[space].get("learned")]
    return pairs + [(kind(space), by_method[space], by_method[spaces[space]["learned"]]) for space in taken]


def over_searches(results: Results, system: System, other: System, eval_set: str) -> tuple[float, float] | None:
    """Interval of system minus other that takes every search as one observation (Student's t): what another search
    would have found is outside the interval over test images.

    Runs are paired by the seed of the search. None for fewer than two searches, or where one has no partner.
    """
    own, beside = (_per_search(results, each, eval_set) for each in (system, other))
    if len(own) < 2 or not set(own) <= set(beside):
        return None
    gaps = [own[seed] - beside[seed] for seed in own]
    half = stdtrit(len(gaps) - 1, (1 + results.level) / 2) * np.std(gaps, ddof=1) / math.sqrt(len(gaps))
    return float(np.mean(gaps) - half), float(np.mean(gaps) + half)


def _per_search(results: Results, system: System, eval_set: str) -> dict[int, float]:
    """Search seed -> mean over its final runs; a run that belongs to no search counts by its own seed."""
    seeds: dict[int, list[int]] = {}
    for seed in system.alphas[0]:
        seeds.setdefault(seed % SEARCH_SEEDS, []).append(seed)
    return {
        search: results.draws(replace(system, alphas=({s: system.alphas[0][s] for s in own},)), eval_set)[0]
        for search, own in seeds.items()
    }


def trials_table(files: list[Path]) -> pd.DataFrame:
    """Every trial of every search, with the best score so far."""
    tables = []
    for path in files:
        trials = read_trials([path])
        table = pd.DataFrame(trials).drop(columns=["search", "proposal"])
        table["best"] = running_best(list(table["score"]))
        tables.append(table.assign(changes=table["changes"].map(json.dumps)))
    return pd.concat(tables, ignore_index=True)


def learned_table(files: list[Path]) -> pd.DataFrame:
    """What every search learned, a row per key of its winner; what comes from another task stands there."""
    rows = []
    for found in (found for path in files if "learned" not in (found := read_objective(path))):
        about = {key: found[key] for key in (*KEYS, "trial", "score", "eval_set", "metric")}
        rows += [about | {"key": key, "learned": value} for key, value in found["changes"].items()]
    return pd.DataFrame(rows)


def costs_table(objectives: list[Path], meters: list[Path], finals: list[Path]) -> pd.DataFrame:
    """Per objective: labelled images, trials, its search's steps over those of one final run, whether that chose its
    epoch. Without a meter beside it an objective was learned elsewhere, and nothing was spent on its task.

    `finals` are the records of the final runs.
    """
    rows, searched = [], {path.parent: path for path in meters}
    for objective in objectives:
        found = read_objective(objective)
        run = f"{found['space']}@search-{found['search_seed']}"
        here = (found["task"], found["model"], run)
        records = [read_json(path) for path in finals if path.parts[-5:-2] == here]
        final = np.mean([_steps(record) for record in records])
        spent = dict.fromkeys(("trials", "failed", "labelled_images", "steps_ratio"), 0.0)
        if meter := searched.get(objective.parent):
            spent = {key: found[key] for key in ("trials", "failed")}
            spent |= {"labelled_images": found["validation_images"], "steps_ratio": read_json(meter)["steps"] / final}
        rows.append(
            {key: found[key] for key in KEYS} | spent | {"best_epoch": records[0]["method"]["recipe"]["keep"] == "best"}
        )
    return pd.DataFrame(rows)


def _steps(record: dict[str, Any]) -> int:
    recipe = record["method"]["recipe"]
    return recipe["steps"] or recipe["epochs"] * -(-record["training_images"] // recipe["batch_size"])


def importances_table(files: list[Path], story: dict[str, Any]) -> pd.DataFrame:
    """Relative importance of each dimension for the scores (fANOVA), per search; they sum to 1.

    Among all trials it is mostly what ruins a trial; among the better half, what decides between good ones. Where
    nearly all of those have equal scores nothing does, and the search has no row.
    """
    from surefoot.proposals import importances

    rows = []
    for path in files:
        trials = read_trials([path])
        about = {key: trials[0][key] for key in KEYS}
        middle = np.nanmedian([trial["score"] for trial in trials]) if winner(trials) else math.inf
        for among, chosen in (("all trials", trials), ("better half", [t for t in trials if t["score"] >= middle])):
            if len({trial["score"] for trial in chosen}) < TIED * len(chosen):
                continue
            found = importances(chosen, story["search"]["spaces"][about["space"]]["dimensions"][about["task"]])
            rows += [about | {"among": among, "key": key, "importance": share} for key, share in found.items()]
    return pd.DataFrame(rows, columns=[*KEYS, "among", "key", "importance"])


def lengths_table(files: list[Path]) -> pd.DataFrame:
    """How well short runs rank what full runs find good.

    Per search and number of steps: rank correlation of the scores (Spearman), and the full-run score of the proposal
    that the short runs put first, beside the best full-run score. A run that failed ranks last: it counts as the worst
    that its search saw (without a value where no run of that length ended, and there is no correlation then).
    """
    rows = []
    for path in files:
        scores = read_records(path)
        wide = scores.pivot_table(index="number", columns="steps", values="score", dropna=False)
        about = {key: scores[key].iloc[0] for key in KEYS}
        for steps in (column for column in wide if column):
            both = wide[[steps, 0]]
            ranks = both.fillna(-math.inf).rank()
            both = both.fillna(both.min())
            rows.append(
                about
                | {"steps": int(steps), "proposals": len(both), "correlation": ranks[steps].corr(ranks[0])}
                | {"chosen": both.loc[ranks[steps].idxmax(), 0], "best": both[0].max()}
            )
    return pd.DataFrame(rows)


def without_table(files: list[Path]) -> pd.DataFrame:
    """Score of a learned objective's final run on validation images without each term, minus that with all terms.

    Mean, smallest and largest over the repeats, each paired by its random seed.
    """
    rows = []
    for path in files:
        scores = read_records(path)
        wide = scores.pivot_table(index="repeat", columns="without", values="score", sort=False, dropna=False)
        about = {key: scores[key].iloc[0] for key in KEYS}
        for term in (column for column in wide if column):
            gap = wide[term] - wide[""]
            rows.append(about | {"without": term, "difference": gap.mean(), "low": gap.min(), "high": gap.max()})
    return pd.DataFrame(rows)
