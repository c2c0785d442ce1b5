"""Figures of the searches, from the tables."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from surefoot.plots import colours, only_text, panels, shared_legend

CELL = ["task", "model"]


def history_points(trials: pd.DataFrame, story: dict[str, Any]) -> pd.DataFrame:
    """One row per trial: its score and the best so far."""
    columns = [*CELL, "space", "search_seed", "number", "state", "score", "best"]
    return trials[columns].assign(label=trials["space"].map(story["labels"]))


def draw_history(points: pd.DataFrame, story: dict[str, Any]) -> plt.Figure:
    """Scores of the trials with the running best of every search, a panel per space, a colour per search seed.

    Trials far below the median are left out: bad ones would press all others into a line.
    """
    known = list(dict.fromkeys(points["search_seed"]))
    palette = dict(zip(known, colours(len(known)), strict=True))
    best, middle = points["score"].max(), points["score"].median()
    floor = best - 4 * (best - middle)
    cut = middle < best and (points["score"] < floor).any()
    figure, shown = panels(points.groupby([*CELL, "space"], sort=False), 3.6, 3.0, sharey=True)
    for ((task, model, space), rows), axis in shown:
        for seed, search in rows.groupby("search_seed", sort=False):
            colour, name = palette[seed], f"search {seed}"
            axis.plot(search["number"], search["score"], "o", color=colour, markersize=2.5, alpha=0.45)
            axis.step(search["number"], search["best"], where="post", color=colour, linewidth=1.6, label=name)
        where = "" if points[CELL].drop_duplicates().shape[0] == 1 else f"\n{task}, {model}"
        on = story["search"]["spaces"][space]["eval_set"]
        axis.set(title=story["labels"][space] + where, xlabel="trial", ylabel=f"score on {on}")
        if cut:
            axis.set(ylim=(floor, best + 0.05 * (best - floor)), ylabel=f"score on {on} (lowest left out)")
        axis.grid(True)
    if len(known) > 1:
        shared_legend(figure, shown[0][1])
    return figure


def learned_points(learned: pd.DataFrame, story: dict[str, Any]) -> pd.DataFrame:
    """One row per search and term: the weight that the winner has; terms that are off have none."""
    rows = learned[learned["key"].str.startswith("objective.")]
    value = pd.to_numeric(rows["learned"], errors="coerce")
    rows = rows.assign(weight=value, term=rows["key"].str.removeprefix("objective."))
    return rows[value > 0][[*CELL, "space", "search_seed", "term", "weight"]]


def draw_learned(points: pd.DataFrame, story: dict[str, Any]) -> plt.Figure:
    """Learned weights of the terms, a panel per task, a point per search; spaces with free terms only."""
    free = points.groupby("space")["term"].transform("nunique") > 1
    points = points[free]
    if points.empty:
        return only_text("no space has a free weight")
    terms, spaces = list(dict.fromkeys(points["term"])), list(dict.fromkeys(points["space"]))
    cells = list(points.groupby(CELL, sort=False))
    figure, shown = panels(cells, 1.2 + 0.75 * max(len(terms), 4), 3.2, columns=2, sharey=True)
    for (cell, own), axis in shown:
        for offset, (colour, space) in enumerate(zip(colours(len(spaces)), spaces, strict=True)):
            rows = own[own["space"] == space]
            aside = (offset - (len(spaces) - 1) / 2) * 0.8 / len(spaces)
            x = np.array([terms.index(term) for term in rows["term"]]) + aside
            axis.plot(x, rows["weight"], "o", color=colour, markersize=5, alpha=0.8, label=story["labels"][space])
        axis.set_yscale("log")
        axis.set_xticks(range(len(terms)), terms, rotation=30, ha="right")
        axis.set(ylabel="learned weight", title=", ".join(cell) if len(cells) > 1 else "")
        axis.grid(True, axis="y")
    shared_legend(figure, shown[0][1])
    return figure


def importance_points(importances: pd.DataFrame, story: dict[str, Any]) -> pd.DataFrame:
    """One row per space, dimension and set of trials: importance as mean over searches, with the smallest and the
    largest; the spaces in the order of the run, their dimensions in that of their importance among all trials."""
    grouped = importances.groupby([*CELL, "space", "among", "key"], sort=False)["importance"]
    found = grouped.agg(["mean", "min", "max"]).reset_index()
    place = found.groupby([*CELL, "space"], sort=False).ngroup()
    first = found["mean"].where(found["among"] == "all trials").groupby([place, found["key"]]).transform("max")
    return found.iloc[np.lexsort((found["among"], -first, place))].reset_index(drop=True)


def draw_importances(points: pd.DataFrame, story: dict[str, Any]) -> plt.Figure:
    """Bars of the importances, a panel per space, among all trials and among the better half; the thin line spans the
    searches."""
    if points.empty:
        return only_text("no search has two trials of different scores")
    spaces = list(points.groupby([*CELL, "space"], sort=False))
    counts = [rows["key"].nunique() for _, rows in spaces]
    lines = [max(counts[first : first + 3]) for first in range(0, len(counts), 3)]
    heights = [0.8 + 0.32 * line for line in lines]
    how = {"columns": 3, "gridspec_kw": {"height_ratios": heights}}
    figure, shown = panels(spaces, 3.8, sum(heights) / len(heights), **how)
    for number, (((_, _, space), rows), axis) in enumerate(shown):
        tallest = lines[number // 3]
        keys = list(dict.fromkeys(rows["key"]))
        for among, shift, colour in (("all trials", 0.2, "#4c78a8"), ("better half", -0.2, "#f2a541")):
            own = rows[rows["among"] == among]
            place = [tallest - 1 - keys.index(key) + shift for key in own["key"]]
            span = [own["mean"] - own["min"], own["max"] - own["mean"]]
            axis.barh(
                place,
                own["mean"],
                xerr=span,
                color=colour,
                height=0.38,
                ecolor="0.3",
                error_kw={"linewidth": 0.8},
                label=among,
            )
        axis.set_yticks([tallest - 1 - k for k in range(len(keys))], [key.removeprefix("objective.") for key in keys])
        axis.set(title=story["labels"][space], xlabel="relative importance (fANOVA)", xlim=(0, 1))
        axis.grid(True, axis="x")
        axis.set_ylim(-0.6, tallest - 0.4)
    shared_legend(figure, shown[0][1])
    return figure


def draw_lengths(points: pd.DataFrame, story: dict[str, Any]) -> plt.Figure:
    """Rank correlation of short and full runs against the inner steps, a panel per task, a line per search."""
    spaces, cells = list(dict.fromkeys(points["space"])), list(points.groupby(CELL, sort=False))
    figure, shown = panels(cells, 4.4, 3.0, columns=2, sharey=True)
    for (cell, own), axis in shown:
        for colour, space in zip(colours(len(spaces)), spaces, strict=True):
            rows = own[own["space"] == space]
            for _, search in rows.groupby("search_seed", sort=False):
                axis.plot(search["steps"], search["correlation"], "-", color=colour, linewidth=0.8, alpha=0.5)
            mean = rows.groupby("steps")["correlation"].mean()
            axis.plot(mean.index, mean, "-o", color=colour, markersize=4, linewidth=2, label=story["labels"][space])
        axis.set_xscale("log")
        axis.set_xticks(sorted(own["steps"].unique()), sorted(own["steps"].unique()))
        axis.minorticks_off()
        axis.set(xlabel="inner steps", ylabel="rank correlation with the full run")
        axis.set(
            title=", ".join(cell) if len(cells) > 1 else "", ylim=(min(0, points["correlation"].min() - 0.02), 1.02)
        )
        axis.grid(True)
    shown[0][1].legend(fontsize=8)
    return figure


def draw_without(points: pd.DataFrame, story: dict[str, Any]) -> plt.Figure:
    """What leaving out a term changes on validation images, a point per search, a bar for their mean."""
    figure, shown = panels(points.groupby([*CELL, "space"], sort=False), 4.0, 3.0, sharex=True)
    for ((_, _, space), rows), axis in shown:
        terms = list(dict.fromkeys(rows["without"]))[::-1]
        mean = rows.groupby("without")["difference"].mean().loc[terms]
        axis.barh(range(len(terms)), mean, color="#4c78a8", height=0.7)
        axis.plot(rows["difference"], rows["without"].map(terms.index), "o", color="0.25", markersize=3)
        axis.set_yticks(range(len(terms)), terms)
        axis.axvline(0, color="0.3", linewidth=0.8)
        axis.set(title=f"{story['labels'][space]}, without", xlabel="change of the score on validation images")
        axis.locator_params(axis="x", nbins=5)
        axis.grid(True, axis="x")
    return figure
