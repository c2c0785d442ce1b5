"""Figures as pure functions of the tables; each ships as SVG and PNG with the CSV it was drawn from."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import PowerNorm
from matplotlib.ticker import MaxNLocator

from surefoot.adaptations import BEST_BLOCK
from surefoot.plots import BESIDE, colours, only_text, panels, save_figure, shared_legend
from surefoot.published import published_name
from surefoot.results import AVERAGE, logit
from surefoot.search_figures import (
    draw_history,
    draw_importances,
    draw_learned,
    draw_lengths,
    draw_without,
    history_points,
    importance_points,
    learned_points,
)


def draw_figures(tables: Path, story: dict[str, Any], folder: Path) -> None:
    """Draw every figure from the CSV tables of a folder."""
    metrics = pd.read_csv(tables / "metrics.csv", keep_default_na=False)
    drawn = [
        ("frontier", frontier_points(metrics, story), draw_frontier),
        ("robustness", frontier_points(metrics, story), draw_robustness),
        ("alpha", alpha_points(metrics, story), draw_alpha),
    ]
    if story["surgical"]["tasks"]:
        arms = pd.read_csv(tables / "surgical.csv", keep_default_na=False)
        drawn.append(("blocks", block_points(arms, story), draw_blocks))
        drawn.append(("shots", shots_points(arms, story), draw_shots))
        drawn.append(("factors", pd.read_csv(tables / "factors.csv"), draw_factors))
    if story["search"]["spaces"]:
        trials, learned, shares = (pd.read_csv(tables / f"{name}.csv") for name in ("trials", "learned", "importances"))
        drawn.append(("search", history_points(trials, story), draw_history))
        drawn.append(("learned", learned_points(learned, story), draw_learned))
        for name, draw in (("lengths", draw_lengths), ("without", draw_without)):
            if name in story["figures"]:
                drawn.append((name, pd.read_csv(tables / f"{name}.csv"), draw))
        drawn.append(("importances", importance_points(shares, story), draw_importances))
    if "comparison" in story["figures"]:
        drawn.append(("comparison", comparison_points(pd.read_csv(tables / "comparison.csv")), draw_comparison))
    for name, points, draw in drawn:
        if name in story["figures"]:
            save_figure(folder, name, points, draw, story)


def _main_metric(metrics: pd.DataFrame, story: dict[str, Any]) -> pd.DataFrame:
    tasks = story["tasks"]
    wanted = [
        tasks[task]["metrics"].get(eval_set, tasks[task]["metric"])
        for task, eval_set in zip(metrics["task"], metrics["eval_set"], strict=True)
    ]
    rows = metrics[(metrics["metric"] == wanted) & (metrics["space"] == "weights")]
    return rows[rows["method"].isin([m for m in story["labels"] if not m.endswith(".pair")])]


def frontier_points(metrics: pd.DataFrame, story: dict[str, Any]) -> pd.DataFrame:
    """One row per (task, model, method, alpha): in-distribution value and average under shift, in percent.

    Tasks without a shifted test set have no place in it.
    """
    rows = _main_metric(metrics, story)
    rows = rows.assign(axis=np.where(rows["role"] == "id_test", "in_distribution", ""))
    rows.loc[rows["eval_set"] == AVERAGE, "axis"] = "under_shift"
    keys = ["task", "model", "method", "alpha"]
    points = rows[rows["axis"] != ""].pivot_table(index=keys, columns="axis", values="value", sort=False)
    points = points.reindex(columns=["in_distribution", "under_shift"]).dropna()
    return points.reset_index().rename_axis(columns=None)


def alpha_points(metrics: pd.DataFrame, story: dict[str, Any]) -> pd.DataFrame:
    """One row per (task, model, method, alpha, test set), trained methods only."""
    rows = _main_metric(metrics, story)
    rows = rows[rows["role"].isin(["id_test", "ood_test"])]
    lines = rows.groupby(["task", "model", "method"])["alpha"].transform("nunique") > 1
    return rows[lines][["task", "model", "method", "alpha", "eval_set", "role", "value"]].reset_index(drop=True)


def _looks(points: pd.DataFrame) -> dict[str, tuple[Any, str]]:
    """Method with a line -> colour and line style, the same in all figures of these points; neighbours differ in both.

    A method that does not start from the zero-shot model is grey.
    """
    lines = [m for m, rows in points.groupby("method", sort=False) if rows["alpha"].nunique() > 1]
    styles = [("-", "--", ":")[k % 3] for k in range(len(lines))]
    grey = dict.fromkeys(points["method"], ("0.3", "-"))
    return grey | dict(zip(lines, zip(colours(len(lines)), styles, strict=True), strict=True))


def draw_frontier(points: pd.DataFrame, story: dict[str, Any]) -> plt.Figure:
    """ID against OOD: the WiSE-FT curve of each method from the zero-shot star to its fine-tuned square.

    Where standard models are known, a second panel shows the same beside their line, from far away.
    """
    cells = []
    for (task, model), cell in points.groupby(["task", "model"], sort=False):
        baselines = cell["method"].isin(story["baselines"])
        line = story["tasks"][task]["baseline_line"]
        cells.append((task, model, cell[~baselines], None))
        if baselines.any() or line:
            cells.append((task, model, cell[~baselines], (cell[baselines], line, cell)))
    figure, shown = panels(cells, 4.6, 3.8)
    looks = _looks(points)
    for (task, model, cell, standard), axis in shown:
        for method, line in cell.groupby("method", sort=False):
            if len(line) > 1:
                _draw_curve(axis, line.sort_values("alpha"), looks[method], story, 2 if standard else 1)
        start = cell[cell["alpha"] == 0].iloc[0]
        size = 9 if standard else 13
        axis.plot(start["in_distribution"], start["under_shift"], "*", color="black", markersize=size, zorder=5)
        if standard:
            _draw_line(axis, *standard)
        handles = [
            plt.Line2D([], [], marker=marker, color="0.3", linestyle="", markersize=size, label=text)
            for marker, size, text in (
                ("*", 10, "zero-shot"),
                ("D", 5, f"alpha {story['fixed_alpha']:g}"),
                ("s", 6, "fine-tuned"),
            )
        ]
        _against_shift(axis, story, task, model)
        if standard:
            axis.set_title(axis.get_title() + ", with standard models")
        known = axis.get_legend_handles_labels()[0]
        axis.legend(handles=[*known[-1:], *handles] if standard else [*known, *handles], **BESIDE)
    return figure


def _draw_curve(
    axis: plt.Axes, rows: pd.DataFrame, look: tuple[Any, str], story: dict[str, Any], smaller: float
) -> None:
    """The models of a method along alpha, with marks at the fixed alpha and at the end."""
    (colour, style), x, y = look, rows["in_distribution"], rows["under_shift"]
    label = story["labels"][rows["method"].iloc[0]]
    axis.plot(x, y, style, marker="o", color=colour, markersize=3 / smaller, linewidth=1.2 / smaller, label=label)
    half = rows[rows["alpha"] == story["fixed_alpha"]]
    axis.plot(half["in_distribution"], half["under_shift"], "D", color=colour, markersize=6 / smaller)
    axis.plot(x.iloc[-1:], y.iloc[-1:], "s", color=colour, markersize=7 / smaller)


def _against_shift(axis: plt.Axes, story: dict[str, Any], task: str, model: str) -> None:
    """Title and axes of a panel of accuracy under shift against accuracy in distribution."""
    axis.set(
        title=f"{task}, {model}",
        xlabel=f"{story['titles']['id_test']}, {_metric(story, task)} (%)",
        ylabel=f"{story['titles'][AVERAGE]} (%)",
    )
    if story["logit_axes"]:
        _logit(axis)
    axis.grid(True)


def _draw_line(axis: plt.Axes, baselines: pd.DataFrame, published: dict[str, float] | None, cell: pd.DataFrame) -> None:
    """The line of standard models: a fit in logits through the baselines, or the published one."""
    if not len(baselines) and not published:
        return
    x, y = logit(baselines["in_distribution"].to_numpy()), logit(baselines["under_shift"].to_numpy())
    slope, intercept = np.polyfit(x, y, 1) if len(baselines) else (published["slope"], published["intercept"])
    grid = np.linspace(cell["in_distribution"].min(), cell["in_distribution"].max(), 100)
    line = 100 / (1 + np.exp(-(slope * logit(grid) + intercept)))
    label = None if len(baselines) else "standard models"
    axis.plot(grid, line, "--", color="0.55", linewidth=1, zorder=0, label=label)
    if len(baselines):
        x, y = baselines["in_distribution"], baselines["under_shift"]
        axis.plot(x, y, "x", color="0.45", markersize=5, label="from scratch")


def draw_robustness(points: pd.DataFrame, story: dict[str, Any]) -> plt.Figure:
    """Effective robustness: the methods above the line of standard models, a point each for alpha 1 and zero-shot."""
    labels, looks = story["labels"], _looks(points)
    figure, shown = panels(points.groupby(["task", "model"], sort=False), 4.6, 3.8)
    for ((task, model), cell), axis in shown:
        baselines = cell["method"].isin(story["baselines"])
        _draw_line(axis, cell[baselines], story["tasks"][task]["baseline_line"], cell)
        ends = cell[~baselines].loc[lambda rows: rows.groupby("method", sort=False)["alpha"].idxmax()]
        for _, row in ends.iterrows():
            shape = {"marker": "s", "markersize": 6} if row["alpha"] else {"marker": "*", "markersize": 11}
            where = (row["in_distribution"], row["under_shift"])
            axis.plot(
                *where,
                color=looks[row["method"]][0] if row["alpha"] else "black",
                linestyle="",
                label=labels[row["method"]],
                **shape,
            )
        axis.legend(**BESIDE)
        _against_shift(axis, story, task, model)
    return figure


def draw_alpha(points: pd.DataFrame, story: dict[str, Any]) -> plt.Figure:
    """Accuracy along alpha, a panel per method, a curve per test set; panels of one task and model have one scale."""
    sets = list(dict.fromkeys(points["eval_set"]))
    colour_of = dict(zip(sets, colours(len(sets)), strict=True))
    figure, shown = panels(points.groupby(["task", "model", "method"], sort=False), 3.4, 3.2)
    first: dict[tuple[str, str], plt.Axes] = {}
    for ((task, model, method), rows), axis in shown:
        if (other := first.setdefault((task, model), axis)) is not axis:
            axis.sharey(other)
        for name in sets:
            line = rows[rows["eval_set"] == name].sort_values("alpha")
            strong = name in ("id_test", AVERAGE)
            axis.plot(
                line["alpha"],
                line["value"],
                "-" if strong else "--",
                color="black" if name == AVERAGE else colour_of[name],
                linewidth=1.8 if strong else 1.1,
                label=story["titles"].get(name, name),
            )
        axis.axvline(story["fixed_alpha"], color="0.8", linewidth=0.8, zorder=0)
        where = "" if points["task"].nunique() * points["model"].nunique() == 1 else f", {task}, {model}"
        axis.set(title=story["labels"][method] + where, xlabel="alpha (0: zero-shot, 1: fine-tuned)")
        axis.set_ylabel(f"{_metric(story, task)} (%)")
        axis.grid(True)
    shared_legend(figure, shown[-1][1])
    return figure


def block_points(surgical: pd.DataFrame, story: dict[str, Any]) -> pd.DataFrame:
    """One row per (model, shots, arm, task): value and interval on target_test; arms that tune blocks, all or none."""
    how = story["surgical"]
    wanted = [how["nothing"], *how["blocks"], how["everything"]]
    rows = surgical[surgical["method"].isin(wanted) & surgical["eval_set"].isin(how["tasks"])]
    return rows[["model", "shots", "method", "label", "eval_set", "value", "low", "high"]].reset_index(drop=True)


def draw_blocks(points: pd.DataFrame, story: dict[str, Any]) -> plt.Figure:
    """Accuracy on the target by tuned block, a panel per kind of shift, with intervals."""
    points = points[points["shots"] == points["shots"].max()]
    arms = list(dict.fromkeys(points["label"]))
    colour_of = dict(zip(arms, sns.color_palette("viridis", len(arms)), strict=True))
    figure, shown = panels(points.groupby(["model", "eval_set"], sort=False), 3.3, 3.2)
    for ((model, task), rows), axis in shown:
        error = [rows["value"] - rows["low"], rows["high"] - rows["value"]]
        axis.bar(rows["label"], rows["value"], yerr=error, capsize=2.5, color=rows["label"].map(colour_of), width=0.75)
        shots = f"{rows['shots'].iloc[0]} images a class"
        axis.set(title=f"{task}\n{shots}" if points["model"].nunique() == 1 else f"{task}, {model}\n{shots}")
        axis.set_ylabel(f"target test, {_metric_name(story['surgical']['tasks'][task])} (%)")
        axis.tick_params(axis="x", rotation=40)
        plt.setp(axis.get_xticklabels(), ha="right", rotation_mode="anchor")
        axis.grid(True, axis="y")
        axis.set_axisbelow(True)
    return figure


def shots_points(surgical: pd.DataFrame, story: dict[str, Any]) -> pd.DataFrame:
    """One row per (model, shots, arm, task): value and interval on target_test."""
    rows = surgical[surgical["eval_set"].isin(story["surgical"]["tasks"])]
    return rows[["model", "shots", "method", "label", "eval_set", "value", "low", "high"]].reset_index(drop=True)


def draw_shots(points: pd.DataFrame, story: dict[str, Any]) -> plt.Figure:
    """Accuracy on the target against labelled images a class, a panel per kind of shift, a curve per arm.

    Intervals are drawn where they can be told apart; of many arms they stand in the table alone.
    """
    arms = list(dict.fromkeys(points["label"]))
    colour_of = dict(zip(arms, colours(len(arms)), strict=True))
    style_of = {arm: ("-", "-.", ":")[k % 3] for k, arm in enumerate(arms)}
    figure, shown = panels(points.groupby(["model", "eval_set"], sort=False), 3.4, 3.2)
    for ((model, task), rows), axis in shown:
        for label, line in rows.groupby("label", sort=False):
            line = line.sort_values("shots")
            best = line["method"].iloc[0] == BEST_BLOCK  # it lies on the arm that it chose
            look = {"color": colour_of[label], "linestyle": "--" if best else style_of[label]}
            axis.plot(line["shots"], line["value"], marker="o", markersize=3.5, label=label, **look)
            if len(arms) <= 8:
                band = {"color": colour_of[label], "alpha": 0.08, "linewidth": 0}
                axis.fill_between(line["shots"], line["low"], line["high"], **band)
        axis.set(title=task if points["model"].nunique() == 1 else f"{task}, {model}", xlabel="images a class, at most")
        axis.set_xticks(sorted(points["shots"].unique()))
        axis.set_ylabel(f"target test, {_metric_name(story['surgical']['tasks'][task])} (%)")
        axis.grid(True)
    shared_legend(figure, shown[0][1])
    return figure


def draw_factors(points: pd.DataFrame, story: dict[str, Any]) -> plt.Figure:
    """Heat maps of the learned factors, layer x epoch, a panel per method and task."""
    points = points[points["shots"] == points["shots"].max()]
    figure, shown = panels(points.groupby(["model", "method", "task"], sort=False), 3.6, 2.8)
    for ((_, method, task), rows), axis in shown:
        order = list(dict.fromkeys(rows["layer"]))
        grid = rows.pivot_table(index="layer", columns="epoch", values="factor").loc[order]
        shades = PowerNorm(0.4, vmin=0, vmax=1)  # small factors differ by more than they look on a straight scale
        image = axis.pcolormesh(grid.columns, range(len(order)), grid.to_numpy(), cmap="magma", norm=shades)
        axis.set_yticks(range(len(order)), order)
        axis.invert_yaxis()
        shots = f"{rows['shots'].iloc[0]} images a class"
        axis.set(title=f"{story['labels'][method]}\n{task}\n{shots}", xlabel="epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.colorbar(image, ax=[axis for _, axis in shown], label="factor of the learning rate", shrink=0.7)
    return figure


def comparison_points(table: pd.DataFrame) -> pd.DataFrame:
    """One row per pair of our and a published number."""
    columns = ["task", "model", "metric", "label", "alpha", "eval_set", "value", "low", "high", "published", "std"]
    return table[table["published"].notna()][[*columns, "verdict", "paper"]].reset_index(drop=True)


def draw_comparison(points: pd.DataFrame, story: dict[str, Any]) -> plt.Figure:
    """Ours against theirs, a panel per (task, model, metric), a colour per test set; on the dashed line both are equal.

    Bars are our interval and their standard deviation; a cross where their number is not verified or has another
    protocol, which no verdict is given for.
    """
    if points.empty:
        return only_text("no published number to compare with")
    sets = list(dict.fromkeys(points["eval_set"]))
    colour_of = dict(zip(sets, colours(len(sets)), strict=True))
    figure, shown = panels(points.groupby(["task", "model", "metric"], sort=False), 6.0, 3.8)
    for ((task, model, metric), cell), axis in shown:
        unit = "nats" if metric == "nll" else "%"
        ends = [cell[["value", "published"]].min().min(), cell[["value", "published"]].max().max()]
        axis.plot(ends, ends, "--", color="0.55", linewidth=1, zorder=0)
        for name, rows in cell.groupby("eval_set", sort=False):
            judged = ~rows["verdict"].isin(["not verified", "other protocol"])
            for marker, part in (("o", rows[judged]), ("x", rows[~judged])):
                # A mean of a paper's own sets has no interval; few draws may give one that leaves out its value.
                ours = np.nan_to_num([part["value"] - part["low"], part["high"] - part["value"]]).clip(min=0)
                theirs = part["std"].fillna(0)
                axis.errorbar(
                    *(part["published"], part["value"], ours, theirs),
                    fmt=marker,
                    color=colour_of[name],
                    markersize=4.5,
                    elinewidth=0.8,
                )
            axis.plot([], [], "o", color=colour_of[name], label=story["titles"].get(name, published_name(name)))
        axis.set(
            title=f"{task}, {model}, {_metric_name(metric)}", xlabel=f"published ({unit})", ylabel=f"ours ({unit})"
        )
        axis.legend(**BESIDE)
        axis.grid(True)
    return figure


def _metric(story: dict[str, Any], task: str) -> str:
    return _metric_name(story["tasks"][task]["metric"])


def _metric_name(metric: str) -> str:
    words = {"top1": "top-1", "macro_f1": "macro F1", "nll": "NLL", "ece": "ECE"}
    return words.get(metric, metric.replace("_", " "))


def _logit(axis: plt.Axes) -> None:
    """Scale both axes by log(p / (1 - p)), on which accuracies of standard models lie on a line."""

    def forward(percent: np.ndarray) -> np.ndarray:
        p = np.clip(np.asarray(percent, float) / 100, 1e-4, 1 - 1e-4)
        return np.log(p / (1 - p))

    def inverse(z: np.ndarray) -> np.ndarray:
        return 100 / (1 + np.exp(-np.asarray(z, float)))

    axis.set_xscale("function", functions=(forward, inverse))
    axis.set_yscale("function", functions=(forward, inverse))
