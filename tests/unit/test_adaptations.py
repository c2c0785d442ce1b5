"""Tables of surgical fine-tuning: cells, ranks and choices by hand."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from surefoot.adaptations import (
    AVERAGE_RANK,
    BEST_BLOCK,
    choices_table,
    factors_table,
    load_adaptations,
    online_table,
    surgical_effects,
    surgical_table,
    targets_table,
)
from surefoot.layouts import layout

TASKS = {"shake": "corrupt", "swap": "flip"}
STORY: dict[str, Any] = {
    "labels": {"none": "None", "first": "First", "head": "Head", "all": "All"},
    "bootstrap": {"draws": 200, "level": 0.95, "seed": 0},
    "surgical": {
        "tasks": dict.fromkeys(TASKS, "top1"),
        "shifts": TASKS,
        "methods": ["none", "first", "head", "all"],
        "blocks": {"first": ["first-blocks"], "head": ["head"]},
        "nothing": "none",
        "everything": "all",
        "learning_rates": [0.1],
    },
}
# Images of 10 that are right on target_test, and the value on target_val.
RIGHT = {"shake": {"none": 2, "first": 8, "head": 3, "all": 5}, "swap": {"none": 0, "first": 2, "head": 9, "all": 6}}
VALIDATION = {
    "shake": {"none": 20, "first": 70, "head": 70, "all": 99},
    "swap": {"none": 0, "first": 10, "head": 80, "all": 50},
}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, list[Path]]:
    """Records of four arms on two tasks with two seeds."""
    found: dict[str, list[Path]] = {"trials": [], "predictions": [], "factors": []}
    for task, arms in RIGHT.items():
        for arm, right in arms.items():
            folder = tmp_path / task / "m" / arm
            folder.mkdir(parents=True)
            trials, images = [], []
            for seed in (0, 1):
                where = {"seed": seed, "target": "t", "shots": 3, "task": task, "model": "m", "method": arm}
                where["images"] = 6 - seed  # of two classes, one of which has only two images under seed 1
                value = VALIDATION[task][arm]
                trials.append(where | {"learning_rate": 0.1, "validation": value, "epoch": 2, "chosen": True})
                trials.append(where | {"learning_rate": 0.2, "validation": value - 5, "epoch": 9, "chosen": False})
                images.append(
                    pd.DataFrame(
                        {
                            "seed": seed,
                            "target": "t",
                            "shots": 3,
                            "cluster": [f"{seed}-{i}" for i in range(10)],
                            "label": [0] * 5 + [1] * 5,
                            "group": ["seen"] * 5 + ["rare"] * 5,
                            "predicted": [(i >= 5) ^ (i >= right) for i in range(10)],
                        }
                    ).astype({"predicted": int})
                )
            factors = pd.DataFrame(
                {"seed": [0, 1], "target": "t", "shots": 3, "epoch": 1, "layer": "head", "factor": [0.2, 0.6]}
            )
            for kind, table in (
                ("trials", pd.DataFrame(trials)),
                ("predictions", pd.concat(images)),
                ("factors", factors),
            ):
                path = folder / f"{kind}.parquet"
                table.to_parquet(path, index=False)
                found[kind].append(path)
    return found


def cell(table: pd.DataFrame, method: str, eval_set: str) -> float:
    """The value of the one row of an arm and a column."""
    [value] = table[(table["method"] == method) & (table["eval_set"] == eval_set)]["value"]
    return value


def test_cells_and_ranks_by_hand(files: dict) -> None:
    table = surgical_table(load_adaptations(files["trials"], files["predictions"], STORY))
    for task, arms in RIGHT.items():
        for arm, right in arms.items():
            assert cell(table, arm, task) == pytest.approx(10 * right)
    # Ranks on shake: first 1, all 2, head 3, none 4; on swap: head 1, all 2, first 3, none 4.
    assert [cell(table, arm, AVERAGE_RANK) for arm in ("none", "first", "head", "all")] == [4, 2, 2, 2]
    assert ((table["low"] <= table["value"]) & (table["value"] <= table["high"])).all()


def test_tables_say_how_many_images_a_class_had_where_some_have_fewer(files: dict) -> None:
    found = load_adaptations(files["trials"], files["predictions"], STORY)
    table = surgical_table(found)
    assert (table["shots"] == 3).all() and (table["per_class"] == 2.75).all()
    assert set(layout("surgical", table, {})["images a class"]) == {"2.75"}
    assert set(choices_table(found)["images a class"]) == {"2.75"}
    assert "images a class" not in layout("surgical", table.assign(per_class=3.0), {})


def test_the_best_block_is_chosen_on_target_val_alone(files: dict) -> None:
    """On shake two blocks tie on target_val, so the first of them is taken; `all` is no block however good it is."""
    found = load_adaptations(files["trials"], files["predictions"], STORY)
    table = surgical_table(found)
    assert cell(table, BEST_BLOCK, "shake") == cell(table, "first", "shake")
    assert cell(table, BEST_BLOCK, "swap") == cell(table, "head", "swap")
    [records] = found.values()
    assert set(records.best_blocks("swap").values()) == {"head"}


def test_each_seed_chooses_its_block_alone(files: dict) -> None:
    """Under seed 1 `first` leads by more than `head` does under seed 0: pooled over seeds, it would win both."""
    for path in files["trials"]:
        if path.parts[-4:-1] == ("swap", "m", "first"):
            table = pd.read_parquet(path)
            table.loc[table["seed"] == 1, "validation"] = 200.0
            table.to_parquet(path)
    found = load_adaptations(files["trials"], files["predictions"], STORY)
    [records] = found.values()
    assert records.best_blocks("swap") == {("t", 0): "head", ("t", 1): "first"}
    assert cell(surgical_table(found), BEST_BLOCK, "swap") == pytest.approx((90 + 20) / 2)


def test_choices_count_chosen_rates_and_best_blocks(files: dict) -> None:
    table = choices_table(load_adaptations(files["trials"], files["predictions"], STORY)).set_index(["task", "method"])
    assert table.loc[("swap", "head"), "rates"] == "0.1 x 2"
    assert table.loc[("swap", "head"), "epoch"] == 2 and table.loc[("swap", "head"), "target_val"] == 80
    assert table.loc[("swap", "head"), "best block in"] == "2 of 2"
    assert (
        table.loc[("swap", "first"), "best block in"] == "0 of 2" and table.loc[("swap", "all"), "best block in"] == ""
    )


def test_effects_compare_every_block_with_all(files: dict) -> None:
    table = surgical_effects(load_adaptations(files["trials"], files["predictions"], STORY))
    rows = table.set_index(["task", "method"])
    assert (
        rows.loc[("shake", "first"), "value"] == pytest.approx(30)
        and rows.loc[("shake", "first"), "expected"] == "higher"
    )
    assert rows.loc[("shake", "head"), "value"] == pytest.approx(-20) and rows.loc[("shake", "head"), "expected"] == ""
    assert rows.loc[("swap", "head"), "expected"] == "higher" and rows.loc[("swap", "head"), "verdict"] == "higher"


def test_an_arm_that_is_no_part_is_compared_without_an_expectation(files: dict) -> None:
    story = STORY | {"surgical": STORY["surgical"] | {"blocks": {"first": ["first-blocks"]}}}
    rows = surgical_effects(load_adaptations(files["trials"], files["predictions"], story)).set_index(
        ["task", "method"]
    )
    assert set(rows.index.get_level_values("method")) == {"first", "head"}
    assert tuple(rows.loc[("swap", "head"), ["effect", "expected"]]) == ("5 another way, flip shift", "")


def test_targets_of_a_task_are_told_apart_where_it_has_several(files: dict) -> None:
    """Under seed 1 the target is another one: half of each arm's cases."""
    one = load_adaptations(files["trials"], files["predictions"], STORY)
    assert targets_table(one).empty
    for path in [*files["trials"], *files["predictions"]]:
        if path.parts[-4] == "shake":
            table = pd.read_parquet(path)
            table.loc[table["seed"] == 1, "target"] = "u"
            if path.parts[-2] == "first" and "predicted" in table:
                table.loc[table["target"] == "u", "predicted"] = -1
            table.to_parquet(path)
    table = targets_table(load_adaptations(files["trials"], files["predictions"], STORY))
    cells = table.set_index(["method", "eval_set"])["value"]
    assert set(table["method"]) == {"none", "first", "head", "all"} and set(table["eval_set"]) == {"t", "u"}
    assert (cells["first", "t"], cells["first", "u"], cells["head", "u"]) == pytest.approx((80, 0, 30))


def test_every_main_metric_of_a_task_has_cells(files: dict) -> None:
    """Five images a group: where `right` of ten are right, the first ones, the worst group has `right` - 5 of 5."""
    story = deepcopy(STORY)
    story["surgical"]["tasks"] = dict(zip(RIGHT, ("worst_group", "macro_f1"), strict=True))
    (worst, arms), (mean, others) = RIGHT.items()
    table = surgical_table(load_adaptations(files["trials"], files["predictions"], story))
    for arm, right in arms.items():
        assert cell(table, arm, worst) == pytest.approx(20 * max(right - 5, 0))
    for arm, right in others.items():
        predicted = np.array([(i >= 5) ^ (i >= right) for i in range(10)], int)
        assert cell(table, arm, mean) == pytest.approx(100 * f1_score([0] * 5 + [1] * 5, predicted, average="macro"))
    online = online_table(files["predictions"], story)
    assert cell(online, "all", worst) == pytest.approx(20 * max(arms["all"] - 5, 0))


def test_factors_are_averaged_over_seeds(files: dict) -> None:
    table = factors_table(files["factors"])
    assert len(table) == 8 and np.allclose(table["factor"], 0.4)


def test_online_accuracy_by_hand(files: dict) -> None:
    table = online_table(files["predictions"], STORY)
    assert cell(table, "first", "shake") == pytest.approx(80) and cell(table, "head", "swap") == pytest.approx(90)
    assert set(table["seeds"]) == {2}
