"""Trials: what a proposal changes, which trial wins, and files that say when they are broken or foreign."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from surefoot.files import UserError, sha256
from surefoot.trials import (
    Trial,
    changes,
    complete,
    dimensions_of,
    read_trials,
    running_best,
    value,
    winner,
    write_objective,
    write_trials,
)

RANGE = {"low": 1e-4, "high": 10.0, "log": True}


def trial(number: int, score: float = math.nan, **columns: Any) -> Trial:
    """A trial; without a score a failed one."""
    state = "failed" if math.isnan(score) else "done"
    own = {"proposal": {"learning_rate": 0.1 / (number + 1)}, "changes": {"objective.ce": None, "seed": number}}
    base = {"number": number, "round": number // 2, "state": state, "score": score, "reason": "", **own}
    return base | ({"reason": "the loss is nan"} if state == "failed" else {}) | columns


# What a proposal changes


@pytest.mark.parametrize(
    ("use", "trials", "final"),
    [("both", 0.5, 0.5), ("trials", 0.5, None), ("final", None, 0.5), ("nowhere", None, None)],
)
def test_a_value_is_used_where_the_dimension_says(use: str, trials: float | None, final: float | None) -> None:
    space = dimensions_of({"learning_rate": RANGE | {"use": use}})
    found = [changes(space, {"learning_rate": 0.5}, phase).get("learning_rate") for phase in ("trials", "final")]
    assert found == [trials, final]


def test_a_pinned_key_has_its_value_in_both_phases() -> None:
    space = dimensions_of({"objective.ce": 1, "learning_rate": RANGE})
    for phase in ("trials", "final"):
        assert changes(space, {"learning_rate": 0.1}, phase) == {"objective.ce": 1.0, "learning_rate": 0.1}


def test_a_term_that_is_off_leaves_the_objective_and_another_key_keeps_the_base_value() -> None:
    optional = RANGE | {"optional": True}
    space = dimensions_of({"objective.hinge": optional, "ema": {"low": 0.1, "high": 0.9, "optional": True}})
    assert changes(space, {"objective.hinge?": False, "ema?": False}, "final") == {"objective.hinge": None}
    on = {"objective.hinge?": True, "objective.hinge": 0.2, "ema?": True, "ema": 0.5}
    assert changes(space, on, "trials") == {"objective.hinge": 0.2, "ema": 0.5}


def test_a_term_that_is_off_says_nothing_in_a_phase_that_does_not_use_it() -> None:
    space = dimensions_of({"objective.ce": RANGE | {"optional": True, "use": "final"}})
    assert changes(space, {"objective.ce?": False}, "trials") == {}
    assert changes(space, {"objective.ce?": False}, "final") == {"objective.ce": None}


# Which trial wins


def test_the_highest_score_wins_and_failed_trials_never_do() -> None:
    assert winner([trial(0, 1.0), trial(1, 3.0), trial(2, 2.0), trial(3)])["number"] == 1
    assert winner([trial(0, -5.0), trial(1)])["number"] == 0, "a failed trial counts as the worst, and is later"
    assert winner([trial(0), trial(1)]) is None


@pytest.mark.parametrize("order", [1, -1])
def test_of_equal_trials_the_latest_wins(order: int) -> None:
    trials = [trial(0, 1.0), trial(1, 2.0), trial(2, 2.0), trial(3, 2.0), trial(4, 1.0)][::order]
    assert winner(trials)["number"] == 3


def test_a_trial_number_is_worth_1e_10() -> None:
    assert value(trial(7, 0.5)) == 0.5 + 7e-10
    assert (
        winner([trial(0, 5e-10), trial(4, 0.0)])["number"] == 0
        and winner([trial(0, 5e-10), trial(6, 0.0)])["number"] == 6
    )
    assert value(trial(2)) == -math.inf


def test_the_best_so_far_passes_over_failed_trials() -> None:
    found = running_best([math.nan, 2.0, math.nan, 1.0, 3.0])
    assert math.isnan(found[0]) and found[1:] == [2.0, 2.0, 2.0, 3.0]


# Files


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    trials = [trial(0, 0.1 + 0.2), trial(1), trial(2, -7.0, proposal={"ema?": False, "lr": 1e-5, "how": "constant"})]
    write_trials(tmp_path / "a.parquet", trials[2:], "mark", task="t", search_seed=3)
    write_trials(tmp_path / "b.parquet", trials[:2], "mark", task="t", search_seed=3)
    found = read_trials([tmp_path / "a.parquet", tmp_path / "b.parquet"], "mark")
    for one, other in zip(found, trials, strict=True):
        assert one.pop("task") == "t" and one.pop("search_seed") == 3 and one.pop("search") == "mark"
        assert repr(one) == repr(other), "the same values of the same kinds"


def test_a_shard_without_trials_is_a_file_too(tmp_path: Path) -> None:
    write_trials(tmp_path / "a.parquet", [], "mark")
    write_trials(tmp_path / "b.parquet", [trial(0, 1.0)], "mark")
    assert len(read_trials([tmp_path / "a.parquet", tmp_path / "b.parquet"])) == 1


@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
def test_a_file_that_was_cut_off_is_named(tmp_path: Path, part: float) -> None:
    path = tmp_path / "round-0" / "shard-1.parquet"
    write_trials(path, [trial(0, 1.0)], "mark")
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(UserError, match=r"round-0/shard-1\.parquet cannot be read .* delete it and rerun"):
        read_trials([path])


@pytest.mark.parametrize("mark", ["mine", None])
def test_trials_of_another_search_are_refused_with_their_file(tmp_path: Path, mark: str | None) -> None:
    for name, own in (("a", "mine"), ("b", "other")):
        write_trials(tmp_path / name, [trial(0, 1.0)], own)
    before = {path: sha256(path) for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=r"/b holds trials of another search .* delete the folder"):
        read_trials([tmp_path / "a", tmp_path / "b"], mark)
    assert {path: sha256(path) for path in tmp_path.iterdir()} == before


# The winner's file

SPACE = {
    "name": "mine",
    "metric": "top1",
    "eval_set": "ood_val",
    "dimensions": {"objective.ce": 1.0, "learning_rate": RANGE, "weight_decay": RANGE | {"use": "trials"}},
}


def test_the_objective_holds_the_winners_values_of_the_final_run(tmp_path: Path) -> None:
    path, rate = tmp_path / "objective.yaml", 0.1 + 0.2
    best = trial(1, 60.5, proposal={"learning_rate": rate, "weight_decay": 0.5})
    write_objective(path, [trial(0, 50.0), best, trial(2)], SPACE, {"task": "t", "validation_images": 9})
    assert yaml.safe_load(path.read_text()) == {
        "task": "t",
        "validation_images": 9,
        "space": "mine",
        "trials": 3,
        "failed": 1,
        "trial": 1,
        "score": 60.5,
        "metric": "top1",
        "eval_set": "ood_val",
        "changes": {"objective.ce": 1.0, "learning_rate": rate},
    }


def test_where_every_trial_failed_the_space_and_a_reason_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^spaces\.mine: all 2 trials failed, for instance: the loss is nan$"):
        write_objective(tmp_path / "objective.yaml", [trial(0), trial(1)], SPACE, {})
    assert not list(tmp_path.iterdir())


def test_a_search_is_complete_with_every_trial_once() -> None:
    trials = [trial(number) for number in range(3)]
    assert complete(trials, 3) == trials
    for wrong in (trials[:2], [*trials, trial(3)], [trials[0], trials[1], trials[1]], []):
        with pytest.raises(UserError, match=r"hold the trials \[.*\], not 0 to 2 once each"):
            complete(wrong, 3)
