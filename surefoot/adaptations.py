"""Tables of surgical fine-tuning, as pure functions of the records of adaptations. R resamples."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from surefoot.intervals import Resampler, interval
from surefoot.results import read_records

AVERAGE_RANK = "average rank"
# Not a method: per target and seed the block that is best on target_val, for the paper's cross-validated best block, of
# which only the name is known. Seeds are not pooled: validation concepts of one are test concepts of another.
BEST_BLOCK = "best-block"


@dataclass(frozen=True)
class Adaptations:
    """Records of all arms on all surgical tasks of one model, at one number of labelled images a class.

    `trials` has a column `per_class`: the labelled images that a class really had, a mean, since some have fewer.
    """

    trials: pd.DataFrame
    draws: dict[tuple[str, str, str, int], np.ndarray]
    story: dict[str, Any]

    @property
    def tasks(self) -> list[str]:
        """Tasks in the order of the config."""
        return list(self.story["surgical"]["tasks"])

    @property
    def arms(self) -> list[str]:
        """Methods in the order of the config."""
        return [m for m in self.story["surgical"]["methods"] if m in set(self.trials["method"])]

    @property
    def blocks(self) -> list[str]:
        """Arms that train one part at one rate: what the best block is chosen among."""
        return [arm for arm in self.arms if arm in self.story["surgical"]["blocks"]]

    def targets(self, task: str) -> list[str]:
        """Targets of a task."""
        return list(dict.fromkeys(target for target, _ in self._cases(task)))

    def of(self, arm: str, task: str, only: str | None = None) -> np.ndarray:
        """Value [R + 1] of an arm on a task: mean over targets (or of `only` one) and seeds."""
        chosen = self.best_blocks(task) if arm == BEST_BLOCK else dict.fromkeys(self._cases(task), arm)
        cases = [(method, *case) for case, method in chosen.items() if only in (None, case[0])]
        return np.mean([self.draws[method, task, target, seed] for method, target, seed in cases], axis=0)

    def _cases(self, task: str) -> list[tuple[str, int]]:
        rows = self.trials[self.trials["task"] == task]
        return list(dict.fromkeys(zip(rows["target"], rows["seed"], strict=True)))

    def best_blocks(self, task: str) -> dict[tuple[str, int], str]:
        """(target, seed) -> the block with the highest value on target_val; of equal ones the first."""
        rows = self.trials[
            (self.trials["task"] == task) & self.trials["chosen"] & self.trials["method"].isin(self.blocks)
        ]
        found = {}
        for case in self._cases(task):
            here = rows[(rows["target"] == case[0]) & (rows["seed"] == case[1])].set_index("method")["validation"]
            found[case] = max(self.blocks, key=lambda arm, values=here: values[arm])
        return found


def load_adaptations(trials: list[Path], predictions: list[Path], story: dict[str, Any]) -> dict[tuple, Adaptations]:
    """(model, shots) -> records, with resampled values of the main metric for every (arm, task, target, seed)."""
    every = pd.concat([read_records(path) for path in trials], ignore_index=True)
    how, found, classes = story["bootstrap"], {}, {}
    draws: dict[tuple[str, int], dict] = {}
    for task in story["surgical"]["tasks"]:
        tables = {path.parts[-3:-1]: read_records(path) for path in predictions if path.parts[-4] == task}
        seen = pd.concat(table[["cluster", "label"]] for table in tables.values())
        classes[task] = seen["label"].nunique()
        resampler = Resampler(seen["cluster"], seen["label"], how["draws"], how["seed"])
        metric = story["surgical"]["tasks"][task]
        for (model, method), table in tables.items():
            for (target, seed, shots), rows in table.groupby(["target", "seed", "shots"]):
                value = resampler.judged(metric, rows, "predicted")
                draws.setdefault((model, int(shots)), {})[method, task, target, int(seed)] = value
    every["per_class"] = every["images"] / every["task"].map(classes)
    for (model, shots), values in draws.items():
        rows = every[(every["model"] == model) & (every["shots"] == shots)]
        found[model, shots] = Adaptations(rows, values, story)
    return found


def surgical_table(found: dict[tuple, Adaptations]) -> pd.DataFrame:
    """Arm x shift with intervals, and the average over the tasks of each arm's rank (1: best; equal arms share one)."""
    rows = []
    for (model, shots), records in found.items():
        arms = [*records.arms, BEST_BLOCK] if records.blocks else records.arms
        values = {arm: {task: records.of(arm, task) for task in records.tasks} for arm in arms}
        # Choosing among the arms is not an arm of its own, so it has no rank.
        ranks = {
            task: rankdata(-np.stack([values[arm][task] for arm in records.arms]), axis=0) for task in records.tasks
        }
        for arm in arms:
            label = records.story["labels"].get(arm, "Best block (target_val)")
            named = {"model": model, "shots": shots, "per_class": _per_class(records, records.tasks), "method": arm}
            named |= {"label": label, "seeds": _seeds(records)}
            cells = dict(values[arm])
            if arm != BEST_BLOCK:
                position = records.arms.index(arm)
                cells[AVERAGE_RANK] = np.mean([ranks[task][position] for task in records.tasks], axis=0)
            for column, draws in cells.items():
                value, low, high = interval(draws, records.story["bootstrap"]["level"])
                rows.append(named | {"eval_set": column, "value": value, "low": low, "high": high})
    return pd.DataFrame(rows)


def _per_class(records: Adaptations, tasks: list[str]) -> float:
    """Labelled images that a class really had: mean over some tasks, their targets and seeds."""
    rows = records.trials[records.trials["task"].isin(tasks)]
    return float(rows.drop_duplicates(["task", "target", "seed"])["per_class"].mean())


def _seeds(records: Adaptations) -> int:
    return int(records.trials["seed"].nunique())


def targets_table(found: dict[tuple, Adaptations]) -> pd.DataFrame:
    """Arm x target with intervals, for tasks with several targets: their mean can hide that each wants another arm."""
    rows = []
    for (model, shots), records in found.items():
        many = {task: names for task in records.tasks if len(names := records.targets(task)) > 1}
        for arm in records.arms:
            named = {"model": model, "shots": shots, "per_class": _per_class(records, list(many)), "method": arm}
            named |= {"label": records.story["labels"][arm], "seeds": _seeds(records)}
            for task, targets in many.items():
                for target in targets:
                    value, low, high = interval(records.of(arm, task, target), records.story["bootstrap"]["level"])
                    column = target if len(many) == 1 else f"{task}: {target}"
                    rows.append(named | {"eval_set": column, "value": value, "low": low, "high": high})
    return pd.DataFrame(rows)


def choices_table(found: dict[tuple, Adaptations]) -> pd.DataFrame:
    """Per arm and task: rates and epochs that were chosen, validation value, and how often a block was the best."""
    rows = []
    for (model, shots), records in found.items():
        chosen = records.trials[records.trials["chosen"]]
        bests = {task: list(records.best_blocks(task).values()) if records.blocks else [] for task in records.tasks}
        for (task, arm), trials in chosen.groupby(["task", "method"], sort=False):
            best = bests[task]
            rates = trials["learning_rate"].map("{:g}".format).value_counts(sort=False).sort_index()
            rows.append(
                {
                    "model": model,
                    "shots": shots,
                    "task": task,
                    "method": arm,
                    "images a class": f"{trials['per_class'].mean():.3g}",
                    "rates": ", ".join(f"{rate} x {count}" for rate, count in rates.items()),
                    "epoch": trials["epoch"].mean(),
                    "target_val": trials["validation"].mean(),
                    "best block in": f"{best.count(arm)} of {len(best)}" if arm in records.blocks else "",
                }
            )
    return pd.DataFrame(rows)


def factors_table(files: list[Path]) -> pd.DataFrame:
    """Mean over targets and seeds of the learned factors of the rates, per task, method, epoch and layer."""
    tables = []
    for path in files:
        task, model, method = path.parts[-4:-1]
        rows = read_records(path)
        if len(rows):
            keys = ["shots", "epoch", "layer"]
            mean = rows.groupby(keys, as_index=False, sort=False)["factor"].mean()
            tables.append(mean.assign(task=task, model=model, method=method))
    columns = ["task", "model", "method", "shots", "epoch", "layer", "factor"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def online_table(predictions: list[Path], story: dict[str, Any]) -> pd.DataFrame:
    """Arm x task of online adaptation: accuracy over the stream, each image judged after its own step."""
    how, rows = story["bootstrap"], []
    tables = {path.parts[-4:-1]: read_records(path) for path in predictions}
    for task in dict.fromkeys(key[0] for key in tables):
        seen = pd.concat(table[["cluster", "label"]] for key, table in tables.items() if key[0] == task)
        resampler = Resampler(seen["cluster"], seen["label"], how["draws"], how["seed"])
        for (_, model, method), table in ((key, t) for key, t in tables.items() if key[0] == task):
            draws = []
            for _, part in table.groupby(["target", "seed"]):
                draws.append(resampler.judged(story["surgical"]["tasks"][task], part, "predicted"))
            value, low, high = interval(np.mean(draws, axis=0), how["level"])
            named = {"model": model, "method": method, "label": story["labels"][method]}
            named |= {"seeds": int(table["seed"].nunique())}
            rows.append(named | {"eval_set": task, "value": value, "low": low, "high": high})
    return pd.DataFrame(rows)


# The papers' claim, as the parts that are expected to serve better than tuning everything.
EXPECTED = {
    "corrupt": ("embedding", "first-blocks"),
    "subtype": ("middle-blocks", "last-blocks"),
    "flip": ("head",),
    "spurious": ("head",),
    "natural": (),
}


def surgical_effects(found: dict[tuple, Adaptations]) -> pd.DataFrame:
    """Every other arm against tuning everything, as paired differences; for parts, what the paper expects."""
    rows = []
    for (model, shots), records in found.items():
        how = records.story["surgical"]
        if how["everything"] not in records.arms:
            continue
        for task in records.tasks:
            whole = records.of(how["everything"], task)
            for arm in records.arms:
                if arm in (how["nothing"], how["everything"]):
                    continue
                parts = how["blocks"].get(arm)
                value, low, high = interval(records.of(arm, task) - whole, records.story["bootstrap"]["level"])
                rows.append(
                    {
                        "task": task,
                        "model": model,
                        "method": arm,
                        "label": records.story["labels"][arm],
                        "seeds": _seeds(records),
                        "eval_set": f"target_test, {shots} shots",
                        "metric": how["tasks"][task],
                        "effect": f"5 {'one part' if parts else 'another way'}, {how['shifts'][task]} shift",
                        "against": records.story["labels"][how["everything"]],
                        "expected": "higher" if parts and set(parts) <= set(EXPECTED[how["shifts"][task]]) else "",
                        "value": value,
                        "low": low,
                        "high": high,
                        "verdict": "higher" if low > 0 else "lower" if high < 0 else "not clear",
                    }
                )
    return pd.DataFrame(rows)
