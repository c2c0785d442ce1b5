"""How tables are printed: Markdown and LaTeX for people, beside the tidy CSV for machines."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from surefoot.files import atomic
from surefoot.published import printed


def with_interval(row: pd.Series) -> str:
    """'value [low, high]' with one decimal."""
    return f"{row['value']:.1f} [{row['low']:.1f}, {row['high']:.1f}]"


def _wide(table: pd.DataFrame, index: list[str]) -> pd.DataFrame:
    table = table.assign(cell=table.apply(with_interval, axis=1))
    if "alpha" in table:
        table["alpha"] = table["alpha"].map("{:.2f}".format)
    columns = list(dict.fromkeys(table["eval_set"]))
    wide = table.pivot_table(index=index, columns="eval_set", values="cell", aggfunc="first", sort=False)
    return wide[columns].reset_index().rename_axis(columns=None)


def _layout_metrics(table: pd.DataFrame) -> pd.DataFrame:
    ends = table[
        (table["space"] == "weights") & table["alpha"].isin([0.0, 1.0]) & table["role"].isin(["id_test", "ood_test"])
    ]
    wide = ends.pivot_table(
        index=["task", "model", "method", "alpha", "eval_set"], columns="metric", values="value", sort=False
    )
    return wide.round(2).reset_index().rename_axis(columns=None)


def _layout_effects(table: pd.DataFrame) -> pd.DataFrame:
    # A difference that is nothing but rounding noise is 0, while -0.0 is a bound below it.
    clean = table[["value", "low", "high", "searches_low", "searches_high"]].round(9) + 0.0
    searched = clean["searches_low"].notna()
    spread = clean.apply(lambda row: f"[{row['searches_low']:+.1f}, {row['searches_high']:+.1f}]", axis=1)
    table = table.assign(
        difference=clean.apply(lambda row: f"{row['value']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}]", axis=1),
        spread=spread.where(searched, ""),
    )
    heads = {"label": "model 1", "against": "model 2", "eval_set": "on", "spread": "over searches"}
    spreads = ["over searches"] if searched.any() else []
    columns = ["task", "model", "effect", "model 1", "model 2", "on", "difference", *spreads, "verdict", "expected"]
    return table.rename(columns=heads)[columns]


def _layout_surgical(table: pd.DataFrame) -> pd.DataFrame:
    """With what the classes really had, on average, where some have fewer images than were asked for."""
    used = table["per_class"].map("{:.3g}".format)
    fewer = ["images a class"] if (table["per_class"] < table["shots"]).any() else []
    return _wide(table.assign(**{"images a class": used}), ["model", "shots", *fewer, "label"])


def _layout_shifts(table: pd.DataFrame) -> pd.DataFrame:
    """A column per task and test set; alpha may differ between tasks."""
    named = [f"{task}: {name}" if task else name for task, name in zip(table["task"], table["eval_set"], strict=True)]
    return _wide(table.drop(columns="alpha").assign(eval_set=named), ["model", "label"])


def _layout_search(table: pd.DataFrame) -> pd.DataFrame:
    wide = _wide(table, ["task", "model", "label", "alpha"])
    budgets = table.drop_duplicates(["task", "model", "label"]).drop(columns=["alpha"])
    columns = ["id_val_labels", "ood_val_labels", "trials", "steps_ratio"]
    found = wide.merge(budgets[["task", "model", "label", *columns]], how="left")
    for column, digits in zip(columns, (0, 0, 0, 1), strict=True):
        found[column] = found[column].map(lambda value, digits=digits: "" if pd.isna(value) else f"{value:.{digits}f}")
    return found


def _layout_trials(table: pd.DataFrame) -> pd.DataFrame:
    table = table.assign(done=table["state"] == "done")
    found = table.groupby(["task", "model", "space", "search_seed"], sort=False).agg(
        trials=("number", "size"),
        done=("done", "sum"),
        best=("score", "max"),
        at_best=("score", lambda scores: (scores == scores.max()).sum()),
        median=("score", "median"),
    )
    return found.assign(best=found["best"].map(_digits), median=found["median"].map(_digits)).reset_index()


def _digits(number: float) -> float:
    """Four digits: scores are percent, or nats of a cross-entropy."""
    return float(f"{number:.4g}")


LAYOUTS: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "main": lambda table: _wide(table, ["task", "model", "label", "alpha"]),
    "shifts": _layout_shifts,
    "alpha": lambda table: _wide(table, ["task", "model", "method", "rule", "alpha"]),
    "ensembles": lambda table: _wide(table, ["task", "model", "label", "alpha"]),
    "effects": _layout_effects,
    "metrics": _layout_metrics,
    "cost": lambda table: table,
    "methods": lambda table: table,
    "surgical": _layout_surgical,
    "targets": _layout_surgical,
    "choices": lambda table: table.round(1),
    "factors": lambda table: table.round(3),
    "online": lambda table: _wide(table, ["model", "label"]),
    "search": _layout_search,
    "learned": lambda table: (
        table.pivot_table(
            index=["task", "model", "space", "search_seed", "trial", "score"],
            columns="key",
            values="learned",
            aggfunc="first",
            sort=False,
        )
        .reset_index()
        .rename_axis(columns=None)
    ),
    "trials": _layout_trials,
    "importances": lambda table: (
        table.assign(searches=table.groupby(["task", "model", "space", "among"])["search_seed"].transform("nunique"))
        .pivot_table(
            index=["task", "model", "space", "among", "searches"], columns="key", values="importance", sort=False
        )
        .round(3)
        .reset_index()
        .rename_axis(columns=None)
    ),
    "lengths": lambda table: table.round(2),
    "without": lambda table: table.map(lambda cell: _digits(cell) if isinstance(cell, float) else cell),
    "comparison": printed,
    "tuning": lambda table: table.drop(columns="point").round(1),
}


LONG_TEXT, LINE = 40, 90  # characters of a cell that is broken in LaTeX, and about those of a line

HEADS = {  # column of a tidy table -> what is printed above it
    "eval_set": "set",
    "search_seed": "search",
    "id_val_labels": "labels of id_val",
    "ood_val_labels": "labels of ood_val",
    "steps_ratio": "steps / a final run's",
    "at_best": "trials at the best",
    "relative_to_reference": "times the reference",
    "relative_to_one_model": "times one model",
    "images_per_second": "images/s",
    "cpu_seconds": "CPU seconds",
    "peak_memory_mb": "peak MB",
}


def layout(name: str, table: pd.DataFrame, story: dict[str, Any]) -> pd.DataFrame:
    """The printed form of a tidy table: columns that say the same in every row are dropped.

    Of the story it reads `titles`, the printed names of eval sets, and `labels`, those of methods and spaces; only the
    table of methods keeps their keys, beside the labels.
    """
    if "eval_set" in table:
        table = table.assign(eval_set=table["eval_set"].replace(story.get("titles", {})))
    printed = LAYOUTS[name](table)
    if name != "methods":
        named = [column for column in ("method", "space") if column in printed]
        printed = printed.assign(**{key: [_label(k, story.get("labels", {})) for k in printed[key]] for key in named})
    same = [
        column
        for column in ("task", "model", "shots", "metric")
        if column in printed and printed[column].nunique() == 1
    ]
    heads = HEADS if "method" in printed else HEADS | {"label": "method"}
    return printed.drop(columns=same).rename(columns=heads)


def _label(key: str, labels: dict[str, str]) -> str:
    """The printed name of a method or space; of `autoft@search-0`, with its search."""
    name, _, search = key.partition("@")
    return labels.get(name, name) + (f", {search.replace('-', ' ')}" if search else "")


def write_tables(tables: dict[str, pd.DataFrame], story: dict[str, Any], folder: Path) -> None:
    """Write every table as CSV (tidy), Markdown and LaTeX (printed in the words of the story, see `layout`)."""
    for name, table in tables.items():
        printed = layout(name, table, story).fillna("")
        with atomic(folder / f"{name}.csv") as partial:
            table.to_csv(partial, index=False, float_format="%.6g")
        with atomic(folder / f"{name}.md") as partial:
            shown = printed.map(lambda cell: cell.replace("|", "\\|") if isinstance(cell, str) else cell)
            partial.write_text(shown.to_markdown(index=False, floatfmt="g") + "\n", encoding="utf-8")
        with atomic(folder / f"{name}.tex") as partial:
            partial.write_text(to_latex(printed), encoding="utf-8")


def to_latex(printed: pd.DataFrame) -> str:
    """A booktabs table with escaped text."""
    short = printed.map(lambda cell: f"{cell:g}" if isinstance(cell, float) and len(str(cell)) > 8 else str(cell))
    escaped = short.map(_escape)
    escaped.columns = [_escape(str(column)) for column in printed.columns]
    return escaped.to_latex(index=False, column_format=_column_format(short))


def _column_format(cells: pd.DataFrame) -> str:
    """A line a cell; columns of long texts are broken, and share the width that a page has left, by their lengths."""
    longest = {name: max([len(str(name)), *map(len, cells[name])]) for name in cells}
    broken = {name: length for name, length in longest.items() if length > LONG_TEXT}
    left = max(LINE - sum(longest.values()) + sum(broken.values()), LINE // 2) / LINE
    shares = {name: left * length**0.5 / sum(n**0.5 for n in broken.values()) for name, length in broken.items()}
    return "".join(f"p{{{shares[name]:.2f}\\linewidth}}" if name in shares else "l" for name in cells)


_LATEX = {
    "†": "\\textdagger{}",
    "|": "\\textbar{}",
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
}


def _escape(text: str) -> str:
    return text.translate(str.maketrans(_LATEX | {character: f"\\{character}" for character in "&%$#_{}"}))
