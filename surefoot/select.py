"""Choosing alpha. Selection sees validation records only."""

import pandas as pd

from surefoot.roles import VALIDATION_ROLES


def validation_only(metrics: pd.DataFrame) -> pd.DataFrame:
    """The rows of metric records whose role allows selection."""
    return metrics[metrics["role"].isin(VALIDATION_ROLES)]


def choose_alpha(validation: pd.DataFrame, eval_set: str, metric: str, space: str = "weights") -> dict[int, float]:
    """Seed -> the alpha with the highest value on a validation set; of equal ones the smallest, nearest zero-shot.

    Chosen per seed, because under folds the validation images of one seed are test images of another.
    Raises ValueError when it is handed a record of a test set.
    """
    if not set(validation["role"]) <= set(VALIDATION_ROLES):
        raise ValueError("selection was handed test records")
    rows = validation[
        (validation["eval_set"] == eval_set) & (validation["metric"] == metric) & (validation["space"] == space)
    ]
    return best_alpha(rows)


def best_alpha(rows: pd.DataFrame) -> dict[int, float]:
    """Seed -> the alpha of the highest mean value in metric records. On test records this is an oracle."""
    mean = rows.groupby(["seed", "alpha"], as_index=False)["value"].mean()
    ranked = mean.sort_values(["seed", "value", "alpha"], ascending=[True, False, True], kind="stable")
    best = ranked.groupby("seed")["alpha"].first()
    return {int(seed): float(alpha) for seed, alpha in best.items()}
