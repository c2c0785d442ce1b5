"""What the tables are made from: all records of a run, and estimates with intervals for any model on the lines."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from surefoot.files import UserError
from surefoot.intervals import Resampler, interval
from surefoot.metrics import check_groups
from surefoot.names import prediction_column
from surefoot.select import best_alpha, choose_alpha, validation_only

AVERAGE = "average"
EFFECTIVE = "effective"  # robustness, above the line of the baselines


def logit(percent: np.ndarray) -> np.ndarray:
    """ln(p / (1 - p)) of percentages, kept off 0 and 100."""
    p = np.clip(percent / 100, 1e-3, 1 - 1e-3)
    return np.log(p / (1 - p))


@dataclass(frozen=True)
class System:
    """A model to report: a method, a way to combine the ends of its line, and an alpha per seed.

    With several `alphas`, the results of several models are averaged (not their outputs).
    """

    method: str
    label: str
    alphas: tuple[dict[int, float], ...]
    space: str = "weights"


@dataclass
class Results:
    """Records of one (task, model)."""

    task: str
    model: str
    metric: str
    story: dict[str, Any]
    metrics: pd.DataFrame
    predictions: dict[str, pd.DataFrame]
    _draws: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        seen = pd.concat([table[["cluster", "label"]] for table in self.predictions.values()])
        how = self.story["bootstrap"]
        self.level = how["level"]
        self.resampler = Resampler(seen["cluster"], seen["label"], how["draws"], how["seed"])
        roles = self.metrics.drop_duplicates("eval_set").set_index("eval_set")["role"]
        self.roles = dict(roles)
        self.ood_tests = [name for name, role in roles.items() if role == "ood_test"]
        self.id_test = next(name for name, role in roles.items() if role == "id_test")

    @property
    def summary(self) -> list[str]:
        """What a comparison of models is made on: in distribution and, where there is a shifted test set, AVERAGE."""
        return [self.id_test, *([AVERAGE] if self.ood_tests else [])]

    @property
    def columns(self) -> list[str]:
        """All test sets and, where one is shifted, AVERAGE."""
        return [self.id_test, *self.ood_tests, *self.summary[1:]]

    @property
    def chooser(self) -> str:
        """Validation set that chooses alpha: ood_val, or id_val where a task has no shifted validation images."""
        return "ood_val" if "ood_val" in self.roles else "id_val"

    def metric_of(self, eval_set: str) -> str:
        """Main metric of an eval set: its own, or the task's."""
        return self.story["tasks"][self.task]["metrics"].get(eval_set, self.metric)

    @property
    def methods(self) -> list[str]:
        """Methods in the order of the config, without pairs of seeds, baselines, and what has not all seeds."""
        others, seeds = {*self.pairs, *self.baselines}, set(self.story["seeds"])
        known = [m for m in self.story["labels"] if m in self.predictions and m not in others]
        return [m for m in known if m not in self.searched or seeds <= set(self._of(m)["seed"])]

    @property
    def searched(self) -> list[str]:
        """Methods whose objective was learned by a search."""
        return [space for space in self.story["search"]["spaces"] if space in self.predictions]

    @property
    def baselines(self) -> list[str]:
        """Models from random weights, whose accuracies make the line of effective robustness."""
        return [m for m in self.story["baselines"] if m in self.predictions]

    @property
    def pairs(self) -> list[str]:
        """Ensembles of two seeds."""
        return [m for m in self.predictions if m.endswith(".pair")]

    def trained(self, method: str) -> bool:
        """Whether a method has a line from zero-shot to something else."""
        return self._of(method)["alpha"].nunique() > 1

    def _of(self, method: str) -> pd.DataFrame:
        return self.metrics[self.metrics["method"] == method]

    def constant(self, method: str, alpha: float) -> dict[int, float]:
        """The same alpha for every seed."""
        return {int(seed): alpha for seed in sorted(self._of(method)["seed"].unique())}

    def chosen(self, method: str, eval_set: str, space: str = "weights") -> dict[int, float]:
        """Seed -> alpha chosen on a validation set."""
        return choose_alpha(validation_only(self._of(method)), eval_set, self.metric, space)

    def oracle(self, method: str) -> dict[int, float]:
        """Seed -> alpha with the best average under shift on the test sets: an upper bound, never evidence.

        Without a shifted test set: the best in distribution.
        """
        rows = self._of(method)
        rows = rows[
            rows["eval_set"].isin(self.ood_tests or [self.id_test])
            & (rows["metric"] == rows["eval_set"].map(self.metric_of))
            & (rows["space"] == "weights")
        ]
        return best_alpha(rows)

    def draws(self, system: System, eval_set: str) -> np.ndarray:
        """Value of the main metric followed by its resamples, averaged over seeds; AVERAGE: over the OOD test sets."""
        if eval_set == AVERAGE:
            return np.mean([self.draws(system, name) for name in self.ood_tests], axis=0)
        return np.mean(
            [
                self._draw(system.method, system.space, seed, alpha, eval_set)
                for alphas in system.alphas
                for seed, alpha in alphas.items()
            ],
            axis=0,
        )

    def _draw(self, method: str, space: str, seed: int, alpha: float, eval_set: str) -> np.ndarray:
        key = (method, space, seed, alpha, eval_set)
        if key not in self._draws:
            table = self.predictions[method]
            table = table[(table["seed"] == seed) & (table["eval_set"] == eval_set)]
            column = prediction_column(space, alpha)
            if self.metric_of(eval_set) == "worst_group":
                check_groups(self._groups, f"tasks.{self.task}.metric")
            self._draws[key] = self.resampler.judged(self.metric_of(eval_set), table, column)
        return self._draws[key]

    @cached_property
    def _groups(self) -> list[np.ndarray]:
        """Groups of the images of every eval set."""
        table = next(iter(self.predictions.values()))
        return [part.to_numpy(str) for _, part in table.groupby("eval_set")["group"]]

    def estimate(self, system: System, eval_set: str) -> dict[str, Any]:
        """One cell of a table: value, interval and what it is of."""
        value, low, high = interval(self.draws(system, eval_set), self.level)
        return self._cell(system, eval_set) | {"value": value, "low": low, "high": high}

    def difference(self, system: System, other: System, eval_set: str) -> tuple[float, float, float]:
        """System minus other, with a paired interval."""
        return interval(self.draws(system, eval_set) - self.draws(other, eval_set), self.level)

    def gain_under_shift(self, system: System, other: System) -> tuple[float, float, float]:
        """System minus other, under shift (average) minus in distribution, with a paired interval."""
        shifted = self.draws(system, AVERAGE) - self.draws(other, AVERAGE)
        return interval(shifted - (self.draws(system, self.id_test) - self.draws(other, self.id_test)), self.level)

    @property
    def has_line(self) -> bool:
        """Whether effective robustness can be measured."""
        return bool(self.ood_tests and (self.baselines or self.story["tasks"][self.task]["baseline_line"]))

    @cached_property
    def line(self) -> tuple[np.ndarray, np.ndarray]:
        """Slopes and intercepts [R + 1] of the baselines' line in logits, for every resample; or the published one.

        A least-squares fit through one point per baseline, its means over seeds in distribution and under shift; flat
        where the baselines are equally accurate (WiSE-FT, figure 1; Taori et al. 2020).
        """
        if not self.baselines:
            line = self.story["tasks"][self.task]["baseline_line"]
            return np.array(line["slope"]), np.array(line["intercept"])
        models = [System(m, m, (self.constant(m, 1.0),)) for m in self.baselines]
        x, y = (np.stack([logit(self.draws(m, name)) for m in models]) for name in (self.id_test, AVERAGE))
        centred = x - x.mean(0)
        spread = (centred**2).sum(0)
        slope = np.divide((centred * y).sum(0), spread, out=np.zeros_like(spread), where=spread > 0)
        return slope, y.mean(0) - slope * x.mean(0)

    def effective_robustness(self, system: System) -> dict[str, Any]:
        """A cell: average under shift minus what the baselines' line predicts from the accuracy in distribution."""
        slope, intercept = self.line
        expected = 100 / (1 + np.exp(-(slope * logit(self.draws(system, self.id_test)) + intercept)))
        value, low, high = interval(self.draws(system, AVERAGE) - expected, self.level)
        return self._cell(system, EFFECTIVE) | {"value": value, "low": low, "high": high}

    def _cell(self, system: System, eval_set: str) -> dict[str, Any]:
        alphas = [alpha for per_seed in system.alphas for alpha in per_seed.values()]
        return {
            "task": self.task,
            "model": self.model,
            "method": system.method,
            "label": system.label,
            "space": system.space,
            "alpha": round(float(np.mean(alphas)), 4),
            "seeds": len(system.alphas[0]),
            "eval_set": eval_set,
            "role": self.roles.get(eval_set, "ood_test"),
            "metric": self.metric_of(eval_set),
        }


def read_records(path: Path) -> pd.DataFrame:
    """Read a Parquet file. Raises UserError when it is missing or cut off."""
    try:
        return pd.read_parquet(path)
    except Exception as error:
        raise UserError(f"{path} cannot be read ({error}); delete it and rerun snakemake to make it again") from None


def load_results(metrics: list[Path], predictions: list[Path], story: dict[str, Any]) -> list[Results]:
    """Read the records of every evaluation; one `Results` per (task, model) in the order of the files."""
    table = pd.concat([read_records(path) for path in metrics], ignore_index=True)
    found: dict[tuple[str, str], dict[str, pd.DataFrame]] = {}
    for path in predictions:
        task, model, method = path.parts[-4:-1]
        found.setdefault((task, model), {})[method] = read_records(path)
    return [
        Results(
            task,
            model,
            story["tasks"][task]["metric"],
            story,
            table[(table["task"] == task) & (table["model"] == model)],
            by_method,
        )
        for (task, model), by_method in found.items()
    ]
