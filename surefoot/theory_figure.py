"""The figure of the two-layer demonstration: a panel per shift, a line per arm, a band over seeds."""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from surefoot.plots import colours, panels, save_figure

TITLES = {
    "rotated_input": "Input change: rotation",
    "scaled_input": "Input change: scaling",
    "flipped_block": "Input change: one block flipped",
    "label": "Label change: sign flipped",
    "noise_first": "Noise in the first layer",
    "noise_last": "Noise in the last layer",
}
LABELS = {"none": "no tuning", "first": "first layer", "last": "last layer", "both": "both layers"}
# A loss below this is rounding error or a few steps from it; drawn as it is, it would squeeze everything else.
FLOOR = 1e-8


def theory_points(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per (shift, arm, examples): quartiles over seeds of the test loss at the rate chosen on validation."""
    chosen = rows[rows["chosen"]].groupby(["shift", "arm", "examples"], sort=False)["test_loss"]
    parts = {"low": chosen.quantile(0.25), "median": chosen.median(), "high": chosen.quantile(0.75)}
    return pd.DataFrame({**parts, "seeds": chosen.size()}).reset_index()


def draw_theory(table: Path, folder: Path) -> None:
    """Draw theory.svg and theory.png from the table of the demonstration, with theory.csv, which holds their points."""
    points = theory_points(pd.read_csv(table))
    save_figure(folder, "theory", points, draw_panels)


def draw_panels(points: pd.DataFrame) -> plt.Figure:
    """Test loss against the number of target examples, both on log scales; three panels a row."""
    shifts = list(dict.fromkeys(points["shift"]))
    colour_of = dict(zip(("first", "last", "both"), colours(3), strict=True))
    markers = {"first": "o", "last": "s", "both": "^"}
    ticks = sorted(set(points["examples"]))
    figure, shown = panels(shifts, 2.8, 2.5, columns=3, sharex=True, sharey=True)
    for letter, (shift, axis) in zip("abcdefghi", shown, strict=False):
        for arm, line in points[points["shift"] == shift].groupby("arm", sort=False):
            low, median, high = (line[column].clip(lower=FLOOR) for column in ("low", "median", "high"))
            if arm == "none":
                axis.plot(line["examples"], median, "--", color="0.45", linewidth=1.1, label=LABELS[arm], zorder=1)
                continue
            axis.fill_between(line["examples"], low, high, color=colour_of[arm], alpha=0.18, linewidth=0)
            axis.plot(
                line["examples"],
                median,
                marker=markers[arm],
                color=colour_of[arm],
                markersize=3.5,
                linewidth=1.4,
                label=LABELS[arm],
                clip_on=False,
            )
        axis.set(xscale="log", yscale="log", ylim=(FLOOR, 10))
        axis.set_title(f"{letter}  {TITLES[shift]}", loc="left")
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.set_yticks([1e-8, 1e-6, 1e-4, 1e-2, 1], ["$\\leq 10^{-8}$", "$10^{-6}$", "$10^{-4}$", "$10^{-2}$", "$1$"])
        axis.minorticks_off()
        axis.grid(True)
    figure.supxlabel("target examples", fontsize=9)
    figure.supylabel("relative test loss", fontsize=9)
    figure.legend(*shown[0][1].get_legend_handles_labels(), loc="outside upper center", ncols=len(LABELS))
    return figure
