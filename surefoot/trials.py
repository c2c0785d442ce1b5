"""Trials of a search: what they change, which wins, and their files. No torch.

A trial is a dictionary: number, round, state (done or failed), score (higher is better), reason, proposal (what the
sampler drew), changes (what the trial changes of the base method's entry); while its search runs also cost (steps,
images and time).
"""

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from surefoot.files import UserError, write_parquet
from surefoot.learned import save_objective
from surefoot.spaces import Dimension

Trial = dict[str, Any]
Space = dict[str, float | Dimension]
TIE = 1e-10  # per trial number, so that of equal trials the later wins (AutoFT's code)
COLUMNS = ("number", "round", "state", "score", "reason", "proposal", "changes")


def dimensions_of(given: dict[str, Any]) -> dict[str, float | Dimension]:
    """The dimensions of a job's parameters, typed again."""
    return {key: Dimension.model_validate(v) if isinstance(v, dict) else float(v) for key, v in given.items()}


def changes(space: Space, proposal: dict[str, Any], phase: str) -> dict[str, Any]:
    """What a proposal changes of the base method's entry in a phase: `trials` or `final`.

    A term that is off has the value None, which takes it out of the objective.
    """
    found: dict[str, Any] = {}
    for key, dimension in space.items():
        if not isinstance(dimension, Dimension):
            found[key] = dimension
        elif dimension.use not in ("both", phase):
            continue
        elif proposal.get(f"{key}?", True):
            found[key] = proposal[key]
        elif key.startswith("objective."):
            found[key] = None
    return found


def value(trial: Trial) -> float:
    """Score of a trial with the tie rule of AutoFT's code; a failed trial is worse than any that finished."""
    return trial["score"] + TIE * trial["number"] if trial["state"] == "done" else -math.inf


def winner(trials: list[Trial]) -> Trial | None:
    """The finished trial of the highest score, of equal ones the latest; None where every trial failed."""
    done = [trial for trial in trials if trial["state"] == "done"]
    return max(done, key=value, default=None)


def write_trials(path: Path, trials: list[Trial], mark: str, **columns: Any) -> None:
    """Write the records of some trials; `mark` names the config, code and data of their search.

    Nothing in them depends on time or machine, so equal searches have equal bytes.
    """
    rows = [
        {**columns, **{key: trial[key] for key in COLUMNS}, "search": mark}
        | {key: json.dumps(trial[key]) for key in ("proposal", "changes")}
        for trial in trials
    ]
    names = [*columns, *COLUMNS, "search"]
    write_parquet(path, pd.DataFrame(rows, columns=names))


def read_trials(paths: list[Path], mark: str | None = None) -> list[Trial]:
    """Trials of several files in the order of their numbers.

    Raises UserError when a file is cut off, or belongs to another search than `mark` (default: than the first file).
    """
    found = []
    for path in paths:
        try:
            rows = pd.read_parquet(path).to_dict("records")
            trials = [row | {key: json.loads(row[key]) for key in ("proposal", "changes")} for row in rows]
        except Exception as error:
            raise UserError(
                f"{path} cannot be read ({error}); delete it and rerun snakemake to make it again"
            ) from None
        mark = mark or next((trial["search"] for trial in trials), None)
        if any(trial["search"] != mark for trial in trials):
            raise UserError(
                f"{path} holds trials of another search (other config, code or data); delete the folder "
                f"{path.parent.parent} and rerun"
            )
        found += trials
    return sorted(found, key=lambda trial: trial["number"])


def complete(trials: list[Trial], count: int) -> list[Trial]:
    """The trials of a search, if they are all its trials, once each. Raises UserError otherwise."""
    numbers = [trial["number"] for trial in trials]
    if numbers != list(range(count)):
        raise UserError(
            f"the records of {trials[0].get('space') if trials else 'a search'} hold the trials {numbers}, not 0 to "
            f"{count - 1} once each, as after a change of search.shards or search.round_size; delete its folder below "
            "results/search and rerun"
        )
    return trials


def write_objective(path: Path, trials: list[Trial], space: dict[str, Any], about: dict[str, Any]) -> None:
    """Write the winner of a search: what it changes in the final run, how it scored, what the search cost in labels.

    Raises UserError when every trial failed.
    """
    best = winner(trials)
    if best is None:
        reasons = sorted({trial["reason"] for trial in trials})
        raise UserError(f"spaces.{space['name']}: all {len(trials)} trials failed, for instance: {reasons[0]}")
    content = about | {
        "space": space["name"],
        "trials": len(trials),
        "failed": sum(trial["state"] == "failed" for trial in trials),
        "trial": int(best["number"]),
        "score": float(best["score"]),
        "metric": space["metric"],
        "eval_set": space["eval_set"],
        "changes": changes(dimensions_of(space["dimensions"]), best["proposal"], "final"),
    }
    save_objective(path, content)


def running_best(scores: list[float]) -> list[float]:
    """Best score so far; NaN before the first finished trial."""
    best, found = math.nan, []
    for score in scores:
        best = score if math.isnan(best) else best if math.isnan(score) else max(best, score)
        found.append(best)
    return found
