"""Tables are pure functions of records: cells by hand, nothing filled in, nothing chosen on test records."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from surefoot.figures import frontier_points
from surefoot.files import UserError, write_json
from surefoot.layouts import layout, with_interval, write_tables
from surefoot.results import AVERAGE, Results, System
from surefoot.tables import (
    alpha_table,
    cost_table,
    effects_table,
    ensembles_table,
    main_table,
    metrics_table,
    shifts_table,
)
from tests.toy import FT, ROLES, STORY, cell, percent, records, toy


@pytest.fixture(scope="module")
def results() -> Results:
    """Shared: tables do not change it."""
    return toy()


def test_main_table_by_hand(results: Results) -> None:
    table = main_table(results)
    assert list(dict.fromkeys(table["eval_set"])) == ["id_test", "line", "glyph", AVERAGE]
    rows = {"Zero-shot": 0, "FT": 2, "FT + WiSE (0.5)": 1, "FT + WiSE (ood_val)": 1}
    assert list(dict.fromkeys(table["label"])) == list(rows)
    for label, index in rows.items():
        for name in ("id_test", "line", "glyph"):
            assert cell(table, label, name) == pytest.approx(percent(FT[name][index]), rel=1e-5)
        average = (percent(FT["line"][index]) + percent(FT["glyph"][index])) / 2
        assert cell(table, label, AVERAGE) == pytest.approx(average, rel=1e-5)


def test_a_worst_group_of_one_is_no_score() -> None:
    """Tables are the last place to see it, where a table of the user's own data names a single group."""
    found = toy()
    found.metric = "worst_group"
    for table in found.predictions.values():
        table["group"] = "day"
    with pytest.raises(UserError, match=r"tasks\.toy\.metric: metric worst_group needs"):
        main_table(found)
    found = toy()
    found.metric, found.metrics = "worst_group", found.metrics.assign(metric="worst_group")
    for table in found.predictions.values():
        table["group"] = np.where(table["eval_set"] == "line", [f"g{k % 2}" for k in range(len(table))], "day")
    assert len(main_table(found))


def test_shifted_sets_of_all_tasks_by_hand(results: Results) -> None:
    """Two tasks with two shifted sets each; the second lost FT on one of them, and has a method of its own."""
    worse = FT | {"line": [(3, 1), (2, 1), (0, 0)]}
    other = toy(worse)
    story = STORY | {"tasks": STORY["tasks"] | {"other": STORY["tasks"]["toy"]}}
    story["labels"] = STORY["labels"] | {"own": "Own"}
    metrics, predictions = records("own", worse)
    other = Results(
        "other",
        "m",
        "mean_per_class",
        story,
        pd.concat([other.metrics, metrics], ignore_index=True),
        other.predictions | {"own": predictions},
    )
    table = shifts_table([results, other])
    assert list(dict.fromkeys(table["label"])) == ["Zero-shot", "FT", "FT + WiSE (0.5)", "FT + WiSE (ood_val)"]
    fine_tuned = table[table["label"] == "FT"]
    assert list(zip(fine_tuned["task"], fine_tuned["eval_set"], strict=True)) == [
        *(("toy", "line"), ("toy", "glyph"), ("other", "line"), ("other", "glyph"), ("", AVERAGE))
    ]
    expected = [percent(r) for r in ((0, 1), (1, 0), (0, 0), (1, 0))]
    assert list(fine_tuned["value"]) == pytest.approx([*expected, np.mean(expected)], rel=1e-5)
    assert ((table["low"] <= table["value"]) & (table["value"] <= table["high"])).all()
    shown = layout("shifts", table, {"titles": {"line": "Line"}})
    assert list(shown.columns) == ["method", "toy: Line", "toy: glyph", "other: Line", "other: glyph", AVERAGE]
    assert len(shown) == 4
    assert fine_tuned["alpha"].isna().tolist() == [False] * 4 + [True]


def test_tasks_that_choose_alpha_on_different_sets_still_share_a_row(results: Results) -> None:
    """Without shifted validation images a task chooses on id_val, where FT is best at alpha 1."""
    other = toy({name: rights for name, rights in FT.items() if name != "ood_val"})
    assert {results.chooser, other.chooser} == {"ood_val", "id_val"}
    table = shifts_table([results, other])
    assert list(dict.fromkeys(table["label"])) == ["Zero-shot", "FT", "FT + WiSE (0.5)", "FT + WiSE (chosen)"]
    chosen = table[table["label"] == "FT + WiSE (chosen)"]
    expected = [percent(FT[name][place]) for place in (1, 2) for name in ("line", "glyph")]
    assert list(chosen["value"]) == pytest.approx([*expected, np.mean(expected)], rel=1e-5)


def test_intervals_hold_the_value_and_have_a_width(results: Results) -> None:
    table = main_table(results)
    assert ((table["low"] <= table["value"]) & (table["value"] <= table["high"])).all()
    assert (table["high"] > table["low"]).any()


def test_seeds_are_averaged() -> None:
    """Seed 0 at 100 and seed 1 at 0 per cent make 50."""
    good, bad = (
        records("ft", {name: [right] * 3 for name in ROLES}, (seed,)) for seed, right in ((0, (4, 2)), (1, (0, 0)))
    )
    metrics, predictions = (pd.concat(pair, ignore_index=True) for pair in zip(good, bad, strict=True))
    results = Results("toy", "m", "mean_per_class", STORY, metrics, {"ft": predictions})
    assert set(main_table(results)["value"]) == {50.0}


def test_alpha_rules_by_hand(results: Results) -> None:
    table = alpha_table(results)
    chosen = table.drop_duplicates("rule").set_index("rule")["alpha"].to_dict()
    # id_val is best at 1 and ood_val at 0.5; the averages under shift are 56.25, 62.5 and 18.75.
    averages = [(percent(a) + percent(b)) / 2 for a, b in zip(FT["line"], FT["glyph"], strict=True)]
    assert averages == [56.25, 62.5, 18.75]
    assert chosen == {
        "alpha 0 (zero-shot)": 0.0,
        "alpha 1 (fine-tuned)": 1.0,
        "fixed 0.5": 0.5,
        "best on id_val": 1.0,
        "best on ood_val": 0.5,
        "oracle (best on test)": 0.5,
    }
    gaps = table[table["eval_set"] == "gap to oracle"].set_index("rule")["value"]
    assert gaps["oracle (best on test)"] == 0
    assert gaps["best on id_val"] == pytest.approx(averages[2] - max(averages), rel=1e-5)


def test_test_records_do_not_move_the_chosen_alphas() -> None:
    """Opposite test results, in every table that chooses: only the oracle follows them."""
    answers = []
    for test in ([(4, 2), (0, 0), (0, 0)], [(0, 0), (0, 0), (4, 2)]):
        results = toy(FT | dict.fromkeys(("id_test", "line", "glyph"), test))
        tables = alpha_table(results), main_table(results), ensembles_table(results)
        rules = [table.set_index("rule" if "rule" in table else "label")["alpha"] for table in tables]
        answers.append(pd.concat(rules).groupby(level=0).first().to_dict())
    first, second = answers
    assert {name for name in first if first[name] != second[name]} == {"oracle (best on test)"}
    assert first["FT + WiSE (ood_val)"] == first["best on ood_val"] == 0.5


def test_difference_of_a_system_with_itself_is_zero(results: Results) -> None:
    system = System("ft", "FT", (results.constant("ft", 1.0),))
    assert results.difference(system, system, AVERAGE) == (0, 0, 0)


def test_effects_are_paired_differences(results: Results) -> None:
    table = effects_table(results)
    row = table[(table["effect"] == "1 fine-tuning, in distribution") & (table["eval_set"] == "id_test")].iloc[0]
    assert row["value"] == pytest.approx(percent((4, 2)) - percent((2, 1)))
    verdicts = {"higher": table["low"] > 0, "lower": table["high"] < 0}
    for verdict, holds in verdicts.items():
        assert ((table["verdict"] == verdict) == holds).all()
    assert {"higher", "lower"} <= set(table["verdict"])


def test_a_pair_of_seeds_is_compared_with_the_mean_of_each_alone(results: Results) -> None:
    table = ensembles_table(results)
    alone = (percent(FT["line"][0]) + percent(FT["line"][2])) / 2
    assert cell(table, "FT, two seeds, each alone (mean)", "line") == pytest.approx(alone, rel=1e-5)
    assert cell(table, "FT, two seeds, weight-space 0.5", "line") == pytest.approx(percent(FT["line"][1]), rel=1e-5)


def test_metrics_table_averages_seeds_and_ood_tests(results: Results) -> None:
    table = metrics_table(results)
    ft = table[(table["method"] == "ft") & (table["space"] == "weights") & (table["alpha"] == 1)].set_index("eval_set")
    assert ft.loc["line", "value"] == percent(FT["line"][2]) and ft.loc["line", "seeds"] == 2
    assert ft.loc[AVERAGE, "value"] == (percent(FT["line"][2]) + percent(FT["glyph"][2])) / 2


def test_printed_cells_are_the_tidy_ones_and_gaps_stay_empty(results: Results) -> None:
    table = main_table(results)
    missing = (table["label"] == "FT") & (table["eval_set"] == "line")
    printed = layout("main", table[~missing], {}).set_index("method")
    assert list(printed.columns) == ["alpha", "id_test", "line", "glyph", AVERAGE]
    assert pd.isna(printed.loc["FT", "line"])
    kept = table[~missing]
    for _, row in kept.iterrows():
        assert printed.loc[row["label"], row["eval_set"]] == with_interval(row)


def test_missing_predictions_are_an_error_not_an_average_of_the_rest(results: Results) -> None:
    whole = results.predictions["ft"]
    cut = whole[~((whole["seed"] == 1) & (whole["eval_set"] == "line"))]
    broken = Results("toy", "m", "mean_per_class", STORY, results.metrics, results.predictions | {"ft": cut})
    with pytest.raises(ValueError):
        main_table(broken)


def test_with_interval_by_hand() -> None:
    assert with_interval(pd.Series({"value": 12.345, "low": -1.26, "high": 20.0})) == "12.3 [-1.3, 20.0]"


def test_tables_are_written_in_three_forms_and_read_back(results: Results, tmp_path: Path) -> None:
    table = main_table(results)
    write_tables({"main": table}, {}, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"main.csv", "main.md", "main.tex"}
    read = pd.read_csv(tmp_path / "main.csv")
    np.testing.assert_allclose(read["value"], table["value"], rtol=1e-5)
    assert "FT + WiSE (0.5)" in (tmp_path / "main.md").read_text()


def test_cost_table_averages_runs_and_relates_inference(tmp_path: Path) -> None:
    meters = []
    for seed, seconds in enumerate((1.0, 3.0)):
        meters.append(tmp_path / f"finetune/toy/m/ft/seed-{seed}/meter.json")
        numbers = {"seconds": seconds, "cpu_seconds": 1, "images_per_second": 10, "peak_memory_mb": 5, "device": "CPU"}
        write_json(meters[-1], {**numbers, "resumed": False})
    adaptation = tmp_path / "adapt/toy/m/tune-all/meter.json"
    write_json(adaptation, {**numbers, "seconds": 7.0, "resumed": False})
    resumed = tmp_path / "adapt/toy/m/tune-head/meter.json"
    write_json(resumed, {**numbers, "resumed": True})
    inference = tmp_path / "evaluate/toy/m/ft/inference.json"
    write_json(inference, {"images": 10, "seconds": {"fine-tuned": 0.5, "output-space ensemble": 1.0}})
    search = tmp_path / "search/toy/m/autoft/search-0/meter.json"
    write_json(search, {**numbers, "seconds": 90.0, "cpu_seconds": 4.5})
    elsewhere = tmp_path / "search/toy/m/autoft/search-1/meter.json"
    write_json(elsewhere, {**numbers, "seconds": 1.0, "device": "GPU", "resumed": False})
    table = cost_table(meters, [adaptation, resumed], [search, elsewhere], [inference], "ft")
    assert table.query("device == 'GPU'")["relative_to_reference"].isna().all(), "FT did not run there"
    table = table.query("device != 'GPU'").set_index("what")
    assert set(table["method"]) == {"ft", "tune-all", "autoft"}, "a resumed job does not know what it cost"
    assert table.loc["search, all trials", "relative_to_reference"] == 4.5, "processor time: others may run beside"
    assert table.loc["training run", "relative_to_reference"] == 1
    assert set(table["task"]) == {"toy"}
    assert table.loc["adaptation, all seeds and rates", "seconds"] == 7
    assert table.loc["training run", "seconds"] == 2
    assert table.loc["inference, output-space ensemble", "relative_to_one_model"] == 2
    assert table.loc["inference, fine-tuned", "images_per_second"] == 20


def test_every_other_method_is_compared_with_the_reference() -> None:
    base = toy()
    other, per_image = records("l2", FT)
    story = STORY | {"labels": STORY["labels"] | {"l2": "L2"}}
    metrics = pd.concat([base.metrics, other], ignore_index=True)
    table = effects_table(Results("toy", "m", "mean_per_class", story, metrics, base.predictions | {"l2": per_image}))
    rows = table[table["effect"] == "3 method against FT"]
    assert set(rows["label"]) == {"L2"} and (rows["value"] == 0).all() and (rows["against"] == "FT").all()


def test_without_a_shifted_test_set_everything_is_about_the_distribution() -> None:
    """The same records less the shifted test sets: cells in distribution stay, and nothing is averaged."""
    whole, alone = toy(), toy({name: rights for name, rights in FT.items() if name in ("id_val", "id_test")})
    for build in (main_table, ensembles_table):
        kept = build(alone)
        assert set(kept["eval_set"]) == {"id_test"} and kept["value"].notna().all()
    for label in ("Zero-shot", "FT", "FT + WiSE (0.5)"):
        assert cell(main_table(alone), label, "id_test") == cell(main_table(whole), label, "id_test")
    assert "FT + WiSE (id_val)" in set(main_table(alone)["label"])
    alphas = alpha_table(alone)
    assert set(alphas["eval_set"]) == {"id_test", "gap to oracle"}
    # Of 50, 87.5 and 100 per cent the oracle takes the last, so the gap of zero-shot is 50 points.
    gaps = alphas[alphas["eval_set"] == "gap to oracle"].set_index("rule")["value"]
    assert gaps["alpha 0 (zero-shot)"] == -50 and gaps["oracle (best on test)"] == 0
    effects = effects_table(alone)
    assert set(effects["eval_set"]) == {"id_test"} and not effects["effect"].str.contains("under shift").any()
    assert AVERAGE not in set(metrics_table(alone)["eval_set"])
    assert frontier_points(metrics_table(alone), STORY).empty and not frontier_points(metrics_table(whole), STORY).empty
    assert not alone.has_line
