"""Trials that fail are recorded with their reason; what says nothing of a trial ends the search."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from surefoot import gradients, search
from surefoot.files import UserError
from surefoot.trials import read_trials, write_objective
from tests.search.searching import BOTH, STEPS, TUNE, Enter, entry, run

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@pytest.mark.fault(
    "numbers",
    "a trial of a search ends in NaN",
    "a record with its reason; the search goes on and learns from it",
)
@pytest.mark.parametrize(("training", "steps"), [(TUNE, 1), (TUNE, 3), (BOTH, 1), (BOTH, 3), ({"train": ["head"]}, 3)])
def test_a_trial_that_ends_in_nan_is_recorded_as_failed_and_the_search_goes_on(
    enter: Enter, training: dict, steps: int
) -> None:
    """Also where the last step alone did the damage, after the last look at the loss."""
    rates = {"learning_rate": {"choices": [1e-3, 1e30]}}
    recipe = {"clip_norm": None, "optimizer": "sgd"}
    space = entry(training, recipe, dimensions=rates, sampler="random", trial=STEPS | {"steps": steps})
    trials = read_trials(run(enter(space), trials=8, size=8))
    assert {trial["state"] for trial in trials} == {"done", "failed"}
    for trial in trials:
        good = trial["proposal"]["learning_rate"] == 1e-3
        assert trial["state"] == ("done" if good else "failed") and math.isfinite(trial["score"]) is good
        assert bool(trial["reason"]) is not good
        assert good or "learning_rate" in trial["reason"]


def test_a_search_learns_from_its_failures(enter: Enter) -> None:
    """Above some rate no trial works; once the random start is over, few proposals lie there."""
    rates = {"learning_rate": {"low": 1e-4, "high": 1e30, "log": True}}
    space = entry(recipe={"clip_norm": None}, dimensions=rates, trial={"steps": 1}, images=9, metric="nll")
    failed = [trial["state"] == "failed" for trial in read_trials(run(enter(space), trials=40, size=1))]
    assert np.mean(failed[:10]) > 0.5 and np.mean(failed[20:]) < 0.2


@pytest.mark.parametrize(
    ("training", "key", "value", "words"),
    [
        (TUNE, "objective.ce", 0.0, "every weight is 0"),
        (TUNE, "ema", 1.0, "ema: Input should be less than 1"),
        ({"train": ["head"]}, "rates.head", 0.0, "spaces.mine.rates: every factor is 0"),
        ({"train": ["head"], "objective": {"flyp": 1}}, "weight_decay", 0.1, "no term of the objective depends on"),
    ],
)
def test_values_without_meaning_fail_a_trial_with_their_reason(
    enter: Enter, training: dict, key: str, value: float, words: str
) -> None:
    trial = enter(entry(training, dimensions={key: {"low": 0, "high": 9}})).run(0, {key: value})
    assert trial["state"] == "failed" and math.isnan(trial["score"]) and words in trial["reason"]


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("rates.block-9", "spaces.mine.rates: this model has no part 'block-9'"),
        ("rates.text", "no part 'text'"),
        ("objective.l2init@logit_scale", "spaces.mine.objective.l2init@logit_scale: no part"),
    ],
)
def test_a_part_that_the_model_lacks_is_a_mistake_in_the_config_and_no_bad_trial(
    enter: Enter, key: str, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        enter(entry(dimensions={key: {"low": 0, "high": 9}})).run(0, {key: 1.0})


@pytest.mark.parametrize("key", ["batch_size", "accumulation", "learning_rate"])
@pytest.mark.parametrize(("training", "how"), [(TUNE, "stop"), (BOTH, "halve")])
def test_a_trial_that_asks_for_too_large_a_batch_fails_by_itself(
    enter: Enter, monkeypatch: pytest.MonkeyPatch, key: str, training: dict, how: str
) -> None:
    """Where the batch is searched; else another GPU is needed, and the search ends. Steps with flyp stay whole."""
    arena = enter(entry(training, {"out_of_memory": how}, dimensions={key: {"choices": [1, 2]}}))
    full = torch.OutOfMemoryError("CUDA out of memory")
    monkeypatch.setattr(gradients.Gradients, "_in_parts", lambda *_: (_ for _ in ()).throw(full))
    if key != "learning_rate":
        reason = arena.run(0, {key: 2})["reason"]
        assert reason.startswith("no memory left on the GPU (") and "CUDA out of memory" in reason
    else:
        with pytest.raises(UserError, match="does not fit into the memory"):
            arena.run(0, {key: 2})


@pytest.mark.parametrize(
    ("error", "seen", "words"),
    [
        (UserError("shared/cat.jpg cannot be read"), UserError, r"^shared/cat\.jpg cannot be read"),
        (torch.OutOfMemoryError("CUDA out of memory"), UserError, "trial 0 does not fit into the memory of the GPU"),
        (ZeroDivisionError("ours"), ZeroDivisionError, "ours"),
    ],
)
def test_what_says_nothing_of_a_trial_ends_the_search_and_records_nothing(
    enter: Enter, monkeypatch: pytest.MonkeyPatch, error: Exception, seen: type[Exception], words: str
) -> None:
    """A disk may come back, another GPU has more memory, and our own mistake is no fault of a trial: all of them run
    again after the next start."""
    arena = enter()
    monkeypatch.setattr(search, "fit", lambda *_: (_ for _ in ()).throw(error))
    with pytest.raises(seen, match=words):
        run(arena)
    assert not [*Path("results").rglob("*.parquet"), *Path("results").rglob("trial-*.pt")]


@pytest.mark.fault(
    "numbers",
    "every trial of a search fails",
    "the job ends and names the space",
)
def test_where_every_trial_failed_the_space_is_named(enter: Enter) -> None:
    rates = {"learning_rate": {"low": 1e29, "high": 1e30}}
    space = entry(recipe={"clip_norm": None}, dimensions=rates)
    trials = read_trials(run(enter(space), trials=4))
    with pytest.raises(UserError, match=r"^spaces\.mine: all 4 trials failed, for instance: .*learning_rate"):
        write_objective(Path("objective.yaml"), trials, space, {})
