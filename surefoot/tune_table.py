"""What tuning tried and chose, as a pure function of its records."""

import pandas as pd


def tuning_table(trials: pd.DataFrame, eval_set: str) -> pd.DataFrame:
    """Every setting of every method: mean over seeds on both validation sets, and which one `eval_set` chooses.

    Of equal settings the first in the grid is chosen.
    """
    keys = ["task", "model", "method", "point", "setting"]
    wide = trials.pivot_table(index=keys, columns="eval_set", values="value", sort=False).reset_index()
    best = wide.groupby(["task", "model", "method"], sort=False)[eval_set].transform("max")
    first = wide[wide[eval_set] == best].drop_duplicates(["task", "model", "method"]).index
    return wide.assign(seeds=trials["seed"].nunique(), chosen=wide.index.isin(first)).rename_axis(columns=None)
