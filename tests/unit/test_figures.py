"""What figures show of their points."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from surefoot.figures import draw_alpha, draw_blocks, draw_frontier
from surefoot.search_figures import draw_learned, draw_lengths

STORY = {
    "labels": {
        "zeroshot": "Zero-shot",
        "ft": "FT",
        "kd": "KD",
        "scratch": "from nothing",
        "some": "Some",
        "all": "All",
    },
    "baselines": ["scratch", "scratch-2"],
    "fixed_alpha": 0.5,
    "logit_axes": False,
    "titles": {"id_test": "ID test", "average": "Average under shift"},
    "surgical": {"tasks": {"flip": "top1"}},
}


def points(*methods: str) -> pd.DataFrame:
    """Lines of three alphas from one start, and single models without alpha 0."""
    rows = [("zeroshot", 0.0, 40.0, 50.0)]
    for k, method in enumerate(methods):
        alphas = (1.0,) if method.startswith("scratch") else (0.0, 0.5, 1.0)
        rows += [(method, alpha, 40 + alpha * (k + 1), 50 - alpha * k) for alpha in alphas]
    table = pd.DataFrame(rows, columns=["method", "alpha", "in_distribution", "under_shift"])
    return table.assign(task="t", model="m")


def story(line: dict[str, float] | None = None) -> dict:
    return STORY | {"tasks": {"t": {"baseline_line": line, "metric": "top1", "metrics": {}}}}


@pytest.mark.parametrize(
    ("methods", "line", "panels"),
    [
        (("ft", "kd"), None, 1),
        (("ft", "kd", "scratch", "scratch-2"), None, 2),
        (("ft", "kd"), {"slope": 1.2, "intercept": -2.0}, 2),
    ],
)
def test_the_frontier_shows_the_line_of_standard_models_in_a_panel_of_its_own(
    methods: tuple[str, ...], line: dict[str, float] | None, panels: int
) -> None:
    figure = draw_frontier(points(*methods), story(line))
    axes = [axis for axis in figure.axes if axis.axison]
    assert len(axes) == panels
    close = [label for label in axes[0].get_legend_handles_labels()[1] if label in ("FT", "KD")]
    assert close == ["FT", "KD"] and "--" not in [c.get_linestyle() for c in axes[0].lines if len(c.get_xdata()) == 100]
    if panels == 2:
        assert [c.get_linestyle() for c in axes[1].lines if len(c.get_xdata()) == 100] == ["--"]
    plt.close(figure)


def test_panels_along_alpha_have_one_scale_a_task() -> None:
    """Of two methods on two tasks; on the second task all scores are far from those on the first."""
    rows = [
        (task, "m", method, alpha, "id_test", "id_test", base + alpha * gain)
        for task, base in (("t", 40.0), ("u", 80.0))
        for method, gain in (("ft", 1.0), ("kd", 9.0))
        for alpha in (0.0, 0.5, 1.0)
    ]
    columns = ["task", "model", "method", "alpha", "eval_set", "role", "value"]
    tasks = {task: {"baseline_line": None, "metric": "top1", "metrics": {}} for task in ("t", "u")}
    figure = draw_alpha(pd.DataFrame(rows, columns=columns), STORY | {"tasks": tasks})
    limits = [axis.get_ylim() for axis in figure.axes if axis.axison]
    assert limits[0] == limits[1] != limits[2] == limits[3]
    assert limits[0][0] <= 40 and limits[0][1] >= 49 and limits[2][0] > 49
    plt.close(figure)


def test_bars_of_blocks_are_of_the_largest_number_of_labels() -> None:
    columns = ["model", "shots", "method", "label", "eval_set", "value", "low", "high"]
    rows = [("m", shots, arm, arm, "flip", 10.0 * shots, 5.0, 40.0) for shots in (1, 3) for arm in ("Some", "All")]
    figure = draw_blocks(pd.DataFrame(rows, columns=columns), story())
    assert {bar.get_height() for bar in figure.axes[0].patches} == {30.0}
    plt.close(figure)


def test_a_space_that_switched_all_terms_off_on_a_task_leaves_its_panel_empty() -> None:
    rows = [("t", "autoft", "ce", 1.0), ("t", "autoft", "kd", 0.1), ("u", "autoft", "ce", 1.0)]
    rows += [("u", "wide", "ce", 2.0), ("u", "wide", "lipsum", 0.2)]
    learned = pd.DataFrame(rows, columns=["task", "space", "term", "weight"]).assign(model="m", search_seed=0)
    figure = draw_learned(learned, {"labels": {"autoft": "AutoFT", "wide": "Wide"}})
    assert [[len(line.get_xdata()) for line in axis.lines] for axis in figure.axes] == [[2, 0], [1, 2]]
    plt.close(figure)


def test_correlations_of_two_tasks_stand_in_panels_of_one_scale() -> None:
    rows = [
        (task, k, steps, sign * 0.1 * steps) for task, sign in (("t", 1), ("u", -1)) for k in (0, 1) for steps in (2, 8)
    ]
    table = pd.DataFrame(rows, columns=["task", "search_seed", "steps", "correlation"]).assign(model="m", space="a")
    figure = draw_lengths(table, {"labels": {"a": "A"}})
    assert len(figure.axes) == 2 and all(axis.get_ylim()[0] < -0.8 for axis in figure.axes)
    plt.close(figure)
