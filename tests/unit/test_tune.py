"""Tuning: every setting is scored on validation images only, and the table marks the best."""

from pathlib import Path

import pandas as pd
import pytest

from surefoot import tune
from surefoot.clip import State, save_state
from surefoot.config import parse_config
from surefoot.data import Data
from surefoot.files import UserError
from surefoot.finetune import Bench
from surefoot.method_entries import Recipe, Training
from surefoot.resume import Resumable
from surefoot.roles import VALIDATION_ROLES
from surefoot.tables import tuning_table
from tests.tiny import raw_config

POINTS = [{"learning_rate": rate} for rate in (1e-6, 1e-2)]


@pytest.fixture
def benches(model: Path, head: State, data: Data, tmp_path: Path) -> list[Bench]:
    """Two settings of a linear probe."""
    save_state(tmp_path / "head.safetensors", head)
    entries = [
        {
            "name": "lp",
            "training": Training(train=["head"]).model_dump(),
            "recipe": Recipe(**point, batch_size=8, epochs=2).model_dump(),
            "metric": "top1",
        }
        for point in POINTS
    ]
    return [Bench(model, tmp_path / "head.safetensors", data, entry) for entry in entries]


def test_every_setting_is_scored_on_validation_and_never_on_test(
    benches: list[Bench], data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    examples = Data.examples
    monkeypatch.setattr(
        Data, "examples", lambda self, parts, seed: seen.update(p.fold for p in parts) or examples(self, parts, seed)
    )
    trials = tune.tune(benches, POINTS, {0: None, 1: None}, data, Resumable(tmp_path / "state", "job"))
    assert seen == {"train", "val"}
    assert len(trials) == 2 * 2 * 2 and set(trials["role"]) == set(VALIDATION_ROLES)
    assert trials.groupby("point")["setting"].first().tolist() == ["learning_rate 1e-06", "learning_rate 0.01"]


def test_a_finished_setting_is_not_trained_again(
    benches: list[Bench], data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = Resumable(tmp_path / "state", "job")
    first = tune.tune(benches, POINTS, {0: None}, data, progress)
    monkeypatch.setattr(Bench, "run", lambda *_: pytest.fail("trained again"))
    pd.testing.assert_frame_equal(
        first, tune.tune(benches, POINTS, {0: None}, data, Resumable(tmp_path / "state", "job"))
    )


def test_the_table_marks_the_best_setting_of_each_method_on_the_set_that_chooses() -> None:
    rows = [
        {"task": "t", "model": "m", "method": method, "point": point, "setting": str(point), "seed": seed}
        | {"eval_set": name, "value": value + seed}
        for method, points in {"a": [(10, 30), (20, 20)], "b": [(5, 1), (5, 2)]}.items()
        for point, values in enumerate(points)
        for name, value in zip(("id_val", "ood_val"), values, strict=True)
        for seed in (0, 1)
    ]
    trials = pd.DataFrame(rows)
    for eval_set, chosen in (("id_val", [False, True, True, False]), ("ood_val", [True, False, False, True])):
        table = tuning_table(trials, eval_set)
        assert table["chosen"].tolist() == chosen
        assert table["id_val"].tolist() == [10.5, 20.5, 5.5, 5.5] and (table["seeds"] == 2).all()


def test_every_grid_has_the_same_budget() -> None:
    raw = raw_config()
    raw["methods"]["ft"]["grids"] = {"emoji": {"learning_rate": [1e-4, 1e-3]}}
    with pytest.raises(UserError, match=r"methods\.ft\.grids\.emoji: 2 settings, but every method tries 6"):
        parse_config(raw)


def test_a_grid_of_an_unknown_key_is_named() -> None:
    raw = raw_config()
    raw["methods"]["ft"]["grids"] = {"emoji": {"learning_rat": [1, 2, 3, 4, 5, 6]}}
    with pytest.raises(UserError, match=r"unknown key 'learning_rat'; did you mean 'learning_rate'"):
        parse_config(raw)


def test_settings_reach_single_values_inside_maps() -> None:
    parsed = parse_config(raw_config())
    training, recipe = parsed.resolve("lipsum-ft", "emoji", {"objective.lipsum": 0.25, "learning_rate": 2e-5})
    assert training.objective == {"ce": 1.0, "lipsum": 0.25} and recipe.learning_rate == 2e-5
    training, _ = parsed.resolve("tpgm", "emoji", {"tpgm.steps": 7.0})
    assert training.tpgm.steps == 7
