"""What all figures share: style, panels, repeated settings, and how they are saved."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd

from surefoot.files import atomic

matplotlib.use("agg")

import matplotlib.pyplot as plt
import seaborn as sns

STYLE = {
    "svg.hashsalt": "surefoot",
    "svg.fonttype": "path",
    "font.size": 9,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "0.93",
    "grid.linewidth": 0.7,
}
BESIDE = {"fontsize": 8, "loc": "center left", "bbox_to_anchor": (1, 0.5)}  # a legend to the right of its axis


def save_figure(folder: Path, name: str, points: pd.DataFrame, draw: Callable[..., plt.Figure], *given: Any) -> None:
    """Save `points` as CSV, and `draw(points, *given)` as SVG and PNG that are the same bytes every time."""
    with atomic(folder / f"{name}.csv") as partial:
        points.to_csv(partial, index=False, float_format="%.6g")
    # The style holds while saving too: it fixes the identifiers inside an SVG.
    with plt.rc_context({**sns.axes_style("ticks"), **STYLE}):
        figure = draw(points, *given)
        for form, stable in (("svg", {"Date": None}), ("png", {"Software": None})):
            with atomic(folder / f"{name}.{form}") as partial:
                figure.savefig(partial, format=form, dpi=200, bbox_inches="tight", metadata=stable)
    plt.close(figure)


def panels(cells: Iterable, width: float, height: float, columns: int = 4, **how: Any) -> tuple[plt.Figure, list]:
    """A figure, and a pair of cell and axis for every cell; `width` and `height` are a panel's, in inches."""
    cells = list(cells)
    columns = min(len(cells), columns)
    lines = -(-len(cells) // columns)
    size = (width * columns, height * lines)
    figure, axes = plt.subplots(lines, columns, figsize=size, squeeze=False, layout="constrained", **how)
    for axis in axes.flat[len(cells) :]:
        axis.set_axis_off()
    return figure, list(zip(cells, axes.flat, strict=False))


def only_text(text: str) -> plt.Figure:
    """A figure of nothing, which says why."""
    return plt.figure(figsize=(4, 1)).text(0.5, 0.5, text, ha="center").figure


def shared_legend(figure: plt.Figure, axis: plt.Axes) -> None:
    """One legend to the right of all panels, with the handles of one of them."""
    figure.legend(*axis.get_legend_handles_labels(), fontsize=8, loc="outside right center")


GREY = 7  # place of grey among the ten hues of tab20


def colours(count: int) -> list:
    """Colours that stay apart: a palette for colour-blind people where it is long enough; never grey beyond it."""
    strong_and_pale = sns.color_palette("tab20")
    if count <= 10:
        return sns.color_palette("colorblind", count)
    named = [c for half in (strong_and_pale[::2], strong_and_pale[1::2]) for k, c in enumerate(half) if k != GREY]
    return named[:count] if count <= len(named) else sns.husl_palette(count, l=0.55)
