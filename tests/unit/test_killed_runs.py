"""A run that was killed after any step and went on ends as one that was not."""

import math
from collections.abc import Callable

import pytest

from surefoot import resume
from surefoot.clip import Classifier, State, load_clip, zero_shot_classifier
from surefoot.method_entries import Recipe
from surefoot.rates import Rates
from surefoot.train import History, fit
from surefoot.weights import Weights
from tests.tiny import RECIPE, Bench, clone, same_state

FLYP = {"train": ["image", "text", "logit_scale"], "objective": {"flyp": 1}}

SMALL = {"lipsum_texts": 4, "lipsum_length": 4, "probe_batches": 1}


def kill_and_resume(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, training: dict, recipe: Recipe, step: int
) -> tuple[tuple[State, History], tuple[State, History]]:
    """Weights and history of a run, and of one that was killed after a step and went on."""

    def near(classifier: Classifier) -> float:
        """The first epoch is the best."""
        start = bench.head["weight"] if "text" in training["train"] else load_clip(bench.model).visual.proj
        now = classifier.head.weight if "text" in training["train"] else classifier.image.proj
        return -float((now - start).detach().norm())

    def ended(progress: str, kill: int | None = None) -> tuple[State, History]:
        run = bench.run(training, recipe, progress=progress, watch=near)
        classifier, steps, after_step = zero_shot_classifier(bench.model, bench.head), [], Weights.after_step

        def killing(self: Weights) -> None:
            steps.append(1)
            after_step(self)
            if len(steps) == kill:
                raise KeyboardInterrupt

        monkeypatch.setattr(Weights, "after_step", killing)
        try:
            history = fit(classifier, run)
        finally:
            monkeypatch.setattr(Weights, "after_step", after_step)
            counts.append(len(steps))
        state = clone(classifier.state_dict())
        if "text" in training["train"]:
            state |= {
                f"text.{name}": t.clone()
                for name, t in (run.references.trained_text or run.references.text).state_dict().items()
            }
        return state, history

    counts: list[int] = []
    monkeypatch.setattr(resume, "SAVE_SECONDS", -1)
    monkeypatch.setattr(resume, "LARGEST_SHARE", math.inf)
    whole = ended("whole")
    with pytest.raises(KeyboardInterrupt):
        ended("killed", step)
    resumed = ended("killed")
    assert counts == [12, step, 12 - (step - 1)], "a resumed run repeats no step that was saved"
    return whole, resumed


@pytest.mark.parametrize(
    ("training", "keep", "step"),
    [
        ({"train": ["image", "head"], "ema": 0.8}, "last", 5),
        ({"train": ["image", "head"]}, "best", 11),
        ({"train": ["image", "head"], "ema": 0.8, "rates": "rgn"}, "best", 5),
        ({"train": ["image", "head"], "rates": "snr"}, "last", 5),
        ({"train": ["image", "head"], "rates": "gradual-last"}, "last", 11),
        (
            {"train": ["image", "head"], "objective": {"ce": 1, "l2init": 100, "lipsum": 1, "kd": 1, "carft": 1}},
            "last",
            5,
        ),
        (FLYP, "last", 3),
        (FLYP | {"ema": 0.8}, "best", 11),
        (FLYP | {"objective": {"flyp": 1, "l1init": 10, "kd": 1}}, "last", 5),
    ],
    ids=str,
)
def test_killed_and_resumed_equals_uninterrupted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, training: dict, keep: str, step: int
) -> None:
    recipe = RECIPE.model_copy(update={"keep": keep})
    whole, resumed = kill_and_resume(bench, monkeypatch, {**training, "options": SMALL}, recipe, step)
    assert same_state(whole[0], resumed[0])
    assert vars(whole[1]) == vars(resumed[1])


def test_contexts_of_a_trained_text_tower_survive_a_kill(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are of the tower as it is when they are first asked for; a resumed run has a tuned one by then."""
    training = FLYP | {"objective": {"flyp": 1, "carft": 10}, "options": SMALL}
    whole, resumed = kill_and_resume(bench, monkeypatch, training, RECIPE, 5)
    assert same_state(whole[0], resumed[0])


def test_factors_that_stay_the_same_survive_a_kill(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients of sleeping tensors, were they to add up, would be lost by a kill."""

    def fixed(self: Rates, ask: Callable) -> dict[str, float]:
        list(ask(False))
        return {name: float(name == "head.weight") for name in self.trained}

    monkeypatch.setattr(Rates, "_snr_released", fixed)
    training = {"train": ["image", "head"], "rates": "snr-released"}
    recipe = RECIPE.model_copy(update={"clip_norm": 1.0, "optimizer": "sgd", "learning_rate": 0.1})
    whole, resumed = kill_and_resume(bench, monkeypatch, training, recipe, 9)
    assert same_state(whole[0], resumed[0])
