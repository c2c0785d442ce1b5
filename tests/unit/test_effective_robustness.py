"""The line of standard models, and the distance of a method to it."""

import numpy as np
import pandas as pd
import pytest
import yaml

from surefoot.results import AVERAGE, Results, System
from surefoot.tables import (
    main_table,
)
from surefoot.task_entries import AnyTask, Line
from tests.toy import FT, STORY, percent, records, toy


def with_baselines() -> Results:
    """The toy with two models from scratch: 25 and 75 % in distribution, 12.5 and 50 % under shift."""
    weak = {"id_test": [(2, 0)], "line": [(1, 0)], "glyph": [(1, 0)]}
    strong = {"id_test": [(2, 2)], "line": [(2, 1)], "glyph": [(2, 1)]}
    found = {name: records(name, rights, alphas=(1.0,)) for name, rights in (("weak", weak), ("strong", strong))}
    base = toy()
    story = STORY | {"baselines": list(found), "labels": STORY["labels"] | {"weak": "Weak", "strong": "Strong"}}
    metrics = pd.concat([base.metrics, *(m for m, _ in found.values())], ignore_index=True)
    predictions = base.predictions | {name: p for name, (_, p) in found.items()}
    return Results("toy", "m", "mean_per_class", story, metrics, predictions)


def test_effective_robustness_is_the_distance_to_the_line_of_the_baselines() -> None:
    """Logits by hand: the line goes through (ln 1/3, ln 1/7) and (ln 3, 0)."""
    results = with_baselines()
    third, seventh = np.log(1 / 3), np.log(1 / 7)
    slope = -seventh / (-2 * third)
    intercept = slope * third
    row = main_table(results).query("label == 'Zero-shot' and eval_set == 'effective'").iloc[0]
    x = np.log(50 / 50)  # zero-shot has 50 % in distribution
    expected = 100 / (1 + np.exp(-(slope * x + intercept)))
    shifted = (percent(FT["line"][0]) + percent(FT["glyph"][0])) / 2
    assert row["value"] == pytest.approx(shifted - expected, rel=1e-4)
    assert row["low"] <= row["value"] <= row["high"]


def test_baselines_are_no_rows_of_the_main_table_and_lie_on_their_line() -> None:
    results = with_baselines()
    assert not {"Weak", "Strong"} & set(main_table(results)["label"])
    for name in ("weak", "strong"):
        cell_of = results.effective_robustness(System(name, name, (results.constant(name, 1.0),)))
        assert cell_of["value"] == pytest.approx(0, abs=1e-3)


def test_a_published_line_serves_where_there_are_no_baselines() -> None:
    results = toy()
    results.story = STORY | {
        "tasks": {"toy": {"metric": "mean_per_class", "baseline_line": {"slope": 1, "intercept": 0}, "metrics": {}}}
    }
    system = System("ft", "FT", (results.constant("ft", 1.0),))
    shifted = (percent(FT["line"][2]) + percent(FT["glyph"][2])) / 2
    # 100 % in distribution is clipped to 99.9 %.
    assert results.effective_robustness(system)["value"] == pytest.approx(shifted - 99.9, abs=1e-3)


def with_line(slope: float, intercept: float) -> Results:
    """The toy records with a published line."""
    results = toy()
    line = {"slope": slope, "intercept": intercept}
    results.story = STORY | {"tasks": {"toy": {"metric": "mean_per_class", "baseline_line": line, "metrics": {}}}}
    return results


def test_a_published_line_is_read_as_its_paper_draws_it() -> None:
    """WiSE-FT's figure 1, by hand: x and y are natural logits, y of the mean over the shifts, not the mean of logits.

    FT at alpha 0.5 has 87.5 % in distribution: 1.25 ln 7 - 2.18 = 0.25239, so 56.276 % are expected; it has 50 and 75.
    """
    results = with_line(1.25, -2.18)
    cell = results.effective_robustness(System("ft", "FT", (results.constant("ft", 0.5),)))
    assert cell["value"] == pytest.approx(62.5 - 56.276, abs=1e-3)


def test_effective_robustness_of_the_zero_shot_model_of_the_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    """L/14@336 has 76.56 % on ImageNet, where the line of the strong standard models gives 33.6 %; shifted 73.3 %."""
    results = with_line(1.218, -2.123)
    values = {results.id_test: 76.56, AVERAGE: 73.3}
    monkeypatch.setattr(results, "draws", lambda system, eval_set: np.full(201, values[eval_set]))
    cell = results.effective_robustness(System("zeroshot", "Zero-shot", ({0: 0.0},)))
    assert cell["value"] == pytest.approx(39.7, abs=0.05)


def test_the_line_that_the_reference_names_is_one() -> None:
    description = AnyTask.model_fields["baseline_line"].description
    line = Line.model_validate(yaml.safe_load("{" + description.split("{")[1].split("}")[0] + "}"))
    assert (line.slope, line.intercept) == (1.25, -2.18)


def test_without_a_line_there_is_no_column() -> None:
    assert "effective" not in set(main_table(toy())["eval_set"])


def test_a_line_of_standard_models_needs_a_shifted_test_set() -> None:
    alone = toy({name: rights for name, rights in FT.items() if name in ("id_val", "id_test")})
    tasks = {"toy": {"metric": "mean_per_class", "baseline_line": {"slope": 1.0, "intercept": 0.0}, "metrics": {}}}
    alone.story = STORY | {"tasks": tasks}
    assert not alone.has_line and "effective" not in set(main_table(alone)["eval_set"])
