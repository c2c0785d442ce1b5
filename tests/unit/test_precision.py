"""Towers in bfloat16: what is computed in it, and what stays in float32."""

import pytest
import torch

from surefoot.clip import Classifier, State
from surefoot.objective import TERMS, Context, Objective
from surefoot.train import fit
from surefoot.weights import Weights
from tests.tiny import RECIPE, Bench, clone, same_state

BOTH = ["image", "head"]
HALF = RECIPE.model_copy(update={"precision": "bfloat16"})


def context_of(classifier: Classifier, bench: Bench, precision: str) -> Context:
    """A first step on all training images, with the zero-shot model as its start."""
    run = bench.run({"train": BOTH, "objective": dict.fromkeys(TERMS, 1.0)})
    weights, examples = Weights(classifier, run), run.examples
    run.references.remember_start(weights.trained)
    indices = next(examples.shuffled(len(examples), 0, 0))
    x, y = run.preprocess(examples.images(indices)), torch.from_numpy(examples.labels)[indices]
    return Context(classifier, x, y, 0.1, weights.trained, run.references, precision=precision)


def test_towers_are_rounded_and_what_follows_is_not(classifier: Classifier, bench: Bench) -> None:
    whole, half = (context_of(classifier, bench, precision) for precision in ("float32", "bfloat16"))
    for name in ("features", "zero_shot_features", "caption_features"):
        exact, rounded = getattr(whole, name), getattr(half, name)
        assert rounded.dtype == torch.float32
        assert 0 < (exact - rounded).abs().max() < 0.03  # bfloat16 has a relative error of up to 1/256
    torch.testing.assert_close(half.logits, classifier.classify(half.features), rtol=0, atol=0)
    assert half.logits.dtype == torch.float32


def test_lipsum_is_still_zero_at_the_start(classifier: Classifier, bench: Bench) -> None:
    assert Objective({"lipsum": 1.0})(context_of(classifier, bench, "bfloat16"))[0] == 0


@pytest.mark.parametrize("term", sorted(TERMS))
def test_every_term_is_close_to_what_it_is_in_float32(classifier: Classifier, bench: Bench, term: str) -> None:
    whole, half = (
        float(Objective({term: 1.0})(context_of(classifier, bench, precision))[0].detach())
        for precision in ("float32", "bfloat16")
    )
    assert half == pytest.approx(whole, rel=0.05, abs=1e-4)


def trained(classifier: Classifier, bench: Bench, start: State, recipe: object, progress: str) -> State:
    classifier.load_state_dict(start)
    fit(classifier, bench.run({"train": BOTH, "objective": {"ce": 1.0, "lipsum": 0.1}}, recipe, progress=progress))
    return clone(classifier.state_dict())


def test_training_in_bfloat16_moves_float32_weights_and_is_repeatable(classifier: Classifier, bench: Bench) -> None:
    start = clone(classifier.state_dict())
    whole = trained(classifier, bench, start, RECIPE, "whole")
    half, again = (trained(classifier, bench, start, HALF, name) for name in ("half", "again"))
    assert same_state(half, again) and not same_state(half, whole)
    assert {tensor.dtype for tensor in half.values()} == {tensor.dtype for tensor in start.values()}
    way = {name: whole[name] - start[name] for name in start if whole[name].is_floating_point()}
    along = sum(((half[name] - start[name]) * step).sum() for name, step in way.items())
    lengths = [sum(((end[name] - start[name]) ** 2).sum() for name in way) ** 0.5 for end in (whole, half)]
    assert along / (lengths[0] * lengths[1]) > 0.9  # the cosine between the two ways


def test_a_text_tower_trains_in_bfloat16(classifier: Classifier, bench: Bench) -> None:
    training = {"train": ["image", "text"], "objective": {"flyp": 1.0}}
    ends = []
    for precision in ("float32", "bfloat16"):
        recipe = RECIPE.model_copy(update={"precision": precision, "steps": 1})
        run = bench.run(training, recipe, progress=precision)
        fit(classifier, run)
        ends.append(clone(run.references.trained_text.state_dict()))
    first = run.references._first_text
    assert not same_state(ends[1], ends[0]) and not same_state(ends[1], first)
    assert all(tensor.dtype == first[name].dtype for name, tensor in ends[1].items())
