"""Tables of the searches from hand-made records."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from surefoot.layouts import layout, write_tables
from surefoot.results import System
from surefoot.search_figures import draw_importances, importance_points
from surefoot.searched import (
    KEYS,
    costs_table,
    importances_table,
    learned_table,
    lengths_table,
    over_searches,
    without_table,
)
from surefoot.spaces import SEARCH_SEEDS
from surefoot.trials import running_best

ABOUT = {"task": "t", "model": "m", "space": "s", "search_seed": 0}


def parquet(path: Path, rows: list[dict]) -> Path:
    pd.DataFrame(rows).assign(**ABOUT).to_parquet(path, index=False)
    return path


def test_short_runs_are_ranked_against_full_ones_and_failures_come_last(tmp_path: Path) -> None:
    """After 5 steps the order is 0 < 1 < 2, in full 1 < 0 and 2 failed: ranks (1, 2, 3) against (3, 2, 1)."""
    short, full = [10.0, 20.0, 30.0], [50.0, 40.0, np.nan]
    rows = [{"number": n, "steps": 5, "score": score} for n, score in enumerate(short)]
    rows += [{"number": n, "steps": 0, "score": score} for n, score in enumerate(full)]
    [row] = lengths_table([parquet(tmp_path / "a.parquet", rows)]).to_dict("records")
    assert row["correlation"] == pytest.approx(-1) and row["proposals"] == 3
    assert (row["chosen"], row["best"]) == (40.0, 50.0), "short runs choose the one that failed: the worst"
    scores = {5: [-1.0, -2.0, np.nan], 0: [-1.5, -2.5, np.nan]}  # negative: of a metric where lower is better
    rows = [{"number": n, "steps": k, "score": s} for k, column in scores.items() for n, s in enumerate(column)]
    [row] = lengths_table([parquet(tmp_path / "b.parquet", rows)]).to_dict("records")
    assert row["correlation"] == pytest.approx(1) and (row["chosen"], row["best"]) == (-1.5, -1.5)


def test_leaving_out_a_term_is_paired_by_repeat(tmp_path: Path) -> None:
    scores = {("", 0): 40.0, ("", 1): 44.0, ("flyp", 0): 41.0, ("flyp", 1): 41.0}
    rows = [{"without": term, "repeat": repeat, "score": score} for (term, repeat), score in scores.items()]
    [row] = without_table([parquet(tmp_path / "a.parquet", rows)]).to_dict("records")
    assert (row["difference"], row["low"], row["high"]) == (-1.0, -3.0, 1.0)


def objective(folder: Path, changes: dict) -> Path:
    about = ABOUT | {"trial": 3, "score": 41.5, "eval_set": "ood_val", "metric": "top1", "trials": 6, "failed": 1}
    folder.mkdir(parents=True)
    (folder / "objective.yaml").write_text(yaml.safe_dump(about | {"validation_images": 50, "changes": changes}))
    return folder / "objective.yaml"


def test_what_was_learned_prints_numbers_and_words(tmp_path: Path) -> None:
    table = learned_table([objective(tmp_path / "search", {"schedule": "cosine", "learning_rate": 1e-4})])
    printed = layout("learned", table, {})
    assert printed["schedule"].tolist() == ["cosine"] and printed["learning_rate"].tolist() == [1e-4]


def test_the_steps_of_a_search_are_counted_in_final_runs(tmp_path: Path) -> None:
    """Ten epochs of ceil(30 / 8) = 4 steps are 40; the search took 100."""
    found = objective(tmp_path / "search", {"learning_rate": 1e-4})
    (tmp_path / "search/meter.json").write_text(json.dumps({"steps": 100}))
    record = tmp_path / "finetune/t/m/s@search-0/seed-0/record.json"
    record.parent.mkdir(parents=True)
    recipe = {"steps": None, "epochs": 10, "batch_size": 8, "keep": "best"}
    record.write_text(json.dumps({"method": {"recipe": recipe}, "training_images": 30}))
    [row] = costs_table([found], [tmp_path / "search/meter.json"], [record]).to_dict("records")
    assert row["steps_ratio"] == 2.5 and row["labelled_images"] == 50 and row["best_epoch"]


def test_the_best_so_far_passes_over_failures() -> None:
    nan = float("nan")
    assert running_best([nan, 2.0, nan, 1.0, 3.0])[1:] == [2.0, 2.0, 2.0, 3.0]
    assert np.isnan(running_best([nan, 2.0])[0])


def test_values_that_are_words_stand_beside_numbers_in_the_table_of_what_was_learned(tmp_path: Path) -> None:
    """A choice is a word or a truth value, and a term that is off has none."""
    found = [
        {"learning_rate": 0.00012345678, "schedule": "cosine", "objective.hinge": None, "head.normalised": True},
        {"learning_rate": 0.25, "schedule": "constant", "objective.hinge": 0.5},
    ]
    table = learned_table([objective(tmp_path / str(n), changes) for n, changes in enumerate(found)])
    table["search_seed"] = [0] * len(found[0]) + [1] * len(found[1])
    write_tables({"learned": table}, {}, tmp_path)
    read = pd.read_csv(tmp_path / "learned.csv", keep_default_na=False)
    assert dict(zip(read["key"], read["learned"], strict=True)) | {"head.normalised": "True"} == {
        "learning_rate": "0.25",
        "schedule": "constant",
        "objective.hinge": "0.5",
        "head.normalised": "True",
    }
    assert {"0.00012345678", "cosine", ""} < set(read["learned"])
    lines = (tmp_path / "learned.md").read_text().splitlines()
    head, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:])]
    seen = [{key: row[head.index(key)] for key in found[0]} for row in rows]
    assert seen == [
        {"learning_rate": "0.000123457", "schedule": "cosine", "objective.hinge": "", "head.normalised": "True"},
        {"learning_rate": "0.25", "schedule": "constant", "objective.hinge": "0.5", "head.normalised": ""},
    ]
    tex = (tmp_path / "learned.tex").read_text()
    assert "cosine" in tex and "constant" in tex and "nan" not in tex.lower() and "none" not in tex.lower()


def test_without_importances_the_figure_says_why() -> None:
    """All trials of a run on fabricated or hopeless data can have the same score."""
    points = importance_points(pd.DataFrame(columns=[*KEYS, "among", "key", "importance"]), {})
    (text,) = draw_importances(points, {}).texts
    assert "different scores" in text.get_text()


def judged(values: dict[str, dict[int, float]]) -> SimpleNamespace:
    """Results in which a run has the given value, whatever is resampled. `values`: method -> seed -> value."""

    def draws(system: System, eval_set: str) -> np.ndarray:
        return np.full(3, np.mean([values[system.method][seed] for alphas in system.alphas for seed in alphas]))

    return SimpleNamespace(level=0.95, draws=draws)


def system(method: str, seeds: list[int]) -> System:
    return System(method, method, (dict.fromkeys(seeds, 1.0),))


def test_every_search_is_one_observation_whatever_its_final_runs() -> None:
    """Gaps 1, 2 and 6, the second with two final runs: 3 +- 4.303 * sqrt(7 / 3), as by scipy's paired t-test. Further
    runs of the other count for nothing."""
    own = {0: 11.0, 1: 11.0, 1 + SEARCH_SEEDS: 13.0, 2: 16.0}
    results = judged({"a": own, "b": {0: 10.0, 1: 10.0, 2: 10.0, 3: 90.0}})
    low, high = over_searches(results, system("a", list(own)), system("b", [0, 1, 2, 3]), "test")
    expected = stats.ttest_rel([11, 12, 16], [10, 10, 10]).confidence_interval(0.95)
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert high - 3 == pytest.approx(4.302653 * (7 / 3) ** 0.5, rel=1e-6)


@pytest.mark.parametrize(("own", "beside"), [([0], [0]), ([0, 1], [0]), ([0, SEARCH_SEEDS], [0])])
def test_one_search_or_one_without_a_partner_has_no_interval(own: list[int], beside: list[int]) -> None:
    results = judged({"a": dict.fromkeys(own, 1.0), "b": dict.fromkeys(beside, 0.0)})
    assert over_searches(results, system("a", own), system("b", beside), "test") is None


def test_what_ruins_a_trial_is_not_what_decides_between_good_ones(tmp_path: Path) -> None:
    """The rate ruins a third of the trials; among the others the weight alone matters."""
    rng = np.random.default_rng(0)
    rates, weights = rng.uniform(size=90), rng.uniform(size=90)
    scores = np.where(rates > 0.67, 5.0, 40 + 10 * weights)
    rows = [
        {"number": n, "round": 0, "state": "done", "score": score, "reason": "", "search": "mark"}
        | {"proposal": json.dumps({"learning_rate": r, "objective.flyp": w}), "changes": "{}"}
        for n, (score, r, w) in enumerate(zip(scores, rates, weights, strict=True))
    ]
    free = {"low": 0.0, "high": 1.0}
    story = {"search": {"spaces": {"s": {"dimensions": {"t": {"learning_rate": free, "objective.flyp": free}}}}}}
    table = importances_table([parquet(tmp_path / "trials.parquet", rows)], story)
    shares = table.set_index(["among", "key"])["importance"]
    assert shares["all trials", "learning_rate"] > 0.9 and shares["better half", "objective.flyp"] > 0.9
    assert table.groupby("among")["importance"].sum().tolist() == pytest.approx([1, 1])


def test_a_half_of_ties_has_no_importances(tmp_path: Path) -> None:
    rows = [
        {"number": n, "round": 0, "state": "done", "score": float(n if n < 20 else 50), "reason": "", "search": "mark"}
        | {"proposal": json.dumps({"learning_rate": n / 60}), "changes": "{}"}
        for n in range(60)
    ]
    story = {"search": {"spaces": {"s": {"dimensions": {"t": {"learning_rate": {"low": 0.0, "high": 1.0}}}}}}}
    table = importances_table([parquet(tmp_path / "trials.parquet", rows)], story)
    assert set(table["among"]) == {"all trials"}
