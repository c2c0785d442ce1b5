"""Records of toy methods, whose table cells can be computed by hand."""

from typing import Any

import numpy as np
import pandas as pd

from surefoot.results import Results

ALPHAS = (0.0, 0.5, 1.0)
ROLES = {"id_val": "id_val", "ood_val": "ood_val", "id_test": "id_test", "line": "ood_test", "glyph": "ood_test"}
STORY: dict[str, Any] = {
    "labels": {"zeroshot": "Zero-shot", "ft": "FT", "ft.pair": "FT, two seeds"},
    "tasks": {"toy": {"metric": "mean_per_class", "baseline_line": None, "metrics": {}}},
    "baselines": [],
    "seeds": [0, 1],
    "search": {"spaces": {}},
    "reference": "ft",
    "fixed_alpha": 0.5,
    "bootstrap": {"draws": 200, "level": 0.95, "seed": 0},
}
# Per eval set: how many of 4 images of class 0 and of 2 images of class 1 are right at alpha 0, 0.5 and 1.
FT = {
    "id_val": [(2, 1), (3, 1), (4, 2)],
    "ood_val": [(2, 0), (4, 1), (3, 0)],
    "id_test": [(2, 1), (3, 2), (4, 2)],
    "line": [(3, 1), (2, 1), (0, 1)],
    "glyph": [(4, 0), (4, 1), (1, 0)],
}


def percent(right: tuple[int, int]) -> float:
    """Mean per class of 4 and 2 images."""
    return 100 * (right[0] / 4 + right[1] / 2) / 2


def records(method: str, rights: dict[str, list], seeds: tuple[int, ...] = (0, 1), alphas: tuple = ALPHAS) -> tuple:
    """Metric and per-image records of a method that scores the same under every seed."""
    metrics, tables = [], []
    labels = np.array([0, 0, 0, 0, 1, 1])
    for seed in seeds:
        for name, per_alpha in rights.items():
            columns = {"seed": seed, "eval_set": name, "cluster": [f"{seed}-{i}" for i in range(6)], "label": labels}
            for space in ("weights", "outputs"):
                for alpha, (first, second) in zip(alphas, per_alpha, strict=False):
                    right = np.array([i < first for i in range(4)] + [i < second for i in range(2)])
                    columns[f"{space}_{alpha:.3f}"] = np.where(right, labels, 1 - labels)
                    row = {"task": "toy", "model": "m", "method": method, "seed": seed, "eval_set": name}
                    row |= {"role": ROLES[name], "space": space, "alpha": alpha, "metric": "mean_per_class"}
                    metrics.append(row | {"value": percent((first, second)), "n": 6})
            tables.append(pd.DataFrame(columns))
    return pd.DataFrame(metrics), pd.concat(tables, ignore_index=True)


def toy(ft: dict[str, list] = FT) -> Results:
    """Zero-shot, FT and a pair of seeds on two OOD test sets."""
    found = {
        "zeroshot": records("zeroshot", {name: per_alpha[:1] for name, per_alpha in ft.items()}),
        "ft": records("ft", ft),
        "ft.pair": records("ft.pair", ft),
    }
    metrics = pd.concat([m for m, _ in found.values()], ignore_index=True)
    return Results("toy", "m", "mean_per_class", STORY, metrics, {name: p for name, (_, p) in found.items()})


def cell(table: pd.DataFrame, label: str, eval_set: str) -> float:
    """The value of the one row of a label and an eval set."""
    [value] = table[(table["label"] == label) & (table["eval_set"] == eval_set)]["value"]
    return value
