"""The optimizer and the rate of every step: what the recipe, factors and decays say."""

import math

import pytest
import torch

from surefoot import train
from surefoot.clip import Classifier
from surefoot.data import Data
from surefoot.files import UserError
from surefoot.method_entries import Recipe, Training
from surefoot.train import fit, make_optimizer, rate
from tests.tiny import RECIPE, Bench, Spy, clone, same_bytes

BOTH = ("image", "head")


def test_rate_by_hand() -> None:
    cosine = Recipe(warmup=4)
    assert [rate(step, 100, cosine) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert rate(4, 100, cosine) == 1
    assert rate(52, 100, cosine) == pytest.approx(0.5)
    assert rate(99, 100, cosine) == pytest.approx(0.5 * (1 + math.cos(math.pi * 95 / 96)))
    assert rate(28, 100, cosine) == pytest.approx(0.5 * (1 + math.sqrt(0.5)))


def test_warm_up_takes_at_most_a_tenth_of_all_steps() -> None:
    assert [rate(step, 20, Recipe(warmup=500, schedule="constant")) for step in range(4)] == [0.5, 1.0, 1.0, 1.0]
    assert rate(0, 5, Recipe(warmup=500)) == 1


def test_a_warm_up_that_is_never_shortened_may_not_end() -> None:
    """AutoFT's released code: ten steps of a warm-up of 500 peak at 2 % of the rate, and 2e-7 of its 1e-5."""
    released = Recipe(warmup=500, warmup_share=1, learning_rate=1e-5)
    assert [rate(step, 10, released) for step in range(10)] == [(step + 1) / 500 for step in range(10)]
    assert rate(9, 10, released) * released.learning_rate == pytest.approx(2e-7)
    assert max(rate(step, 10, Recipe(warmup=500)) for step in range(10)) == 1
    assert [rate(step, 1000, released) for step in (499, 500, 750)] == [1, 1, pytest.approx(0.5)]


def test_warm_up_takes_at_most_its_share() -> None:
    half = Recipe(warmup=500, warmup_share=0.5, schedule="constant")
    assert [rate(step, 10, half) for step in range(10)] == [0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1, 1]
    assert rate(0, 10, half.model_copy(update={"warmup_share": 0.0})) == 1


def test_constant_schedule_stays_at_the_peak() -> None:
    assert {rate(step, 50, Recipe(warmup=0, schedule="constant")) for step in range(50)} == {1.0}


@pytest.mark.parametrize("factors", [[1.0], [0.5, 2.0]])
def test_the_loop_uses_the_rate_of_every_step_times_the_factor_of_every_group(
    classifier: Classifier, bench: Bench, data: Data, monkeypatch: pytest.MonkeyPatch, factors: list[float]
) -> None:
    Spy.used = []

    def make(trained: dict, found: dict, recipe: Recipe, decays: dict) -> Spy:
        tensors = list(trained.values())
        parts = [tensors[number :: len(factors)] for number in range(len(factors))]
        return Spy([{"params": p, "factor": f} for p, f in zip(parts, factors, strict=True)], lr=1.0)

    monkeypatch.setattr(train, "make_optimizer", make)
    fit(classifier, bench.run({"train": BOTH}))
    steps = 3 * math.ceil(len(data.training(0)) / 8)
    peaks = [RECIPE.learning_rate * rate(step, steps, RECIPE) for step in range(steps)]
    assert Spy.used == [pytest.approx([peak * factor for factor in factors], rel=1e-15) for peak in peaks]


@pytest.mark.parametrize(
    ("name", "kind", "key", "value"),
    [
        ("adamw", torch.optim.AdamW, "betas", (0.9, 0.999)),
        ("adam", torch.optim.Adam, "betas", (0.9, 0.999)),
        ("sgd", torch.optim.SGD, "momentum", 0.9),
    ],
)
def test_optimizer_follows_the_recipe(name: str, kind: type, key: str, value: object) -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    recipe = Recipe(optimizer=name, learning_rate=0.1, weight_decay=0.2)
    [group] = (optimizer := make_optimizer({"w": weight}, {"w": 1.0}, recipe)).param_groups
    assert type(optimizer) is kind and group["lr"] == 0.1 and group["weight_decay"] == 0.2 and group[key] == value


def test_adam_adds_decay_to_the_gradient_and_adamw_shrinks_the_weight() -> None:
    """Without a gradient Adam's step has the size of the learning rate; AdamW's is the weight's share."""
    moved = {}
    for name in ("adam", "adamw"):
        weight = torch.nn.Parameter(torch.tensor([5.0]))
        optimizer = make_optimizer(
            {"w": weight}, {"w": 1.0}, Recipe(optimizer=name, learning_rate=0.1, weight_decay=0.2)
        )
        weight.grad = torch.zeros(1)
        optimizer.step()
        moved[name] = 5 - weight.item()
    assert moved["adam"] == pytest.approx(0.1, rel=1e-5) and moved["adamw"] == pytest.approx(0.1 * 0.2 * 5, rel=1e-5)


def test_groups_hold_the_tensors_of_a_factor_and_none_with_factor_0() -> None:
    tensors = {name: torch.nn.Parameter(torch.ones(1)) for name in "abcd"}
    tensors["d"].grad = torch.ones(1)
    optimizer = make_optimizer(tensors, {"a": 0.5, "b": 1.0, "c": 0.5, "d": 0.0}, Recipe())
    groups = {group["factor"]: group["params"] for group in optimizer.param_groups}
    assert groups == {0.5: [tensors["a"], tensors["c"]], 1.0: [tensors["b"]]}
    assert [tensor.requires_grad for tensor in tensors.values()] == [True, True, True, False]
    assert tensors["d"].grad is None, "a gradient that stays would be clipped together with the others"


def test_groups_differ_in_rate_and_decay() -> None:
    """The decay of a group is the recipe's times its factor; a decay of 0 does not freeze."""
    tensors = {name: torch.nn.Parameter(torch.ones(1)) for name in "abcd"}
    rates, decays = {"a": 1.0, "b": 1.0, "c": 2.0, "d": 0.0}, {"a": 0.0, "b": 3.0, "c": 3.0, "d": 1.0}
    optimizer = make_optimizer(tensors, rates, Recipe(weight_decay=0.5), decays)
    groups = [(group["factor"], group["weight_decay"], group["params"]) for group in optimizer.param_groups]
    assert groups == [(1.0, 0.0, [tensors["a"]]), (1.0, 1.5, [tensors["b"]]), (2.0, 1.5, [tensors["c"]])]


def test_decays_of_parts_reach_a_run(classifier: Classifier, bench: Bench) -> None:
    """Where the loss has next to no gradient, SGD shrinks weights by the decay, twice as fast with factor 2."""
    start = clone(classifier.state_dict())
    recipe = RECIPE.model_copy(update={"optimizer": "sgd", "weight_decay": 0.5, "warmup": 0, "schedule": "constant"})
    training = {"train": BOTH, "objective": {"l2init": 1e-30}, "decays": {"head": 2.0, "embedding": 0.0}}
    fit(classifier, bench.run(training, recipe))
    end = clone(classifier.state_dict())
    assert same_bytes(end["image.conv1.weight"], start["image.conv1.weight"])
    moved = {name: (start[name] - end[name]).norm() / start[name].norm() for name in ("head.weight", "image.proj")}
    assert moved["head.weight"] > 1.9 * moved["image.proj"] > 0


def test_a_part_of_decays_that_is_not_trained_is_named(classifier: Classifier, bench: Bench) -> None:
    with pytest.raises(UserError, match=r"methods\.mine\.decays: no part 'head' among what is trained"):
        fit(classifier, bench.run({"train": ["image"], "decays": {"head": 2.0}}))


def test_gradients_are_clipped_to_a_global_norm(
    classifier: Classifier, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One SGD step from rest is the clipped gradient times the learning rate."""
    steps = []
    for clip in (1e-3, None):
        start = clone(classifier.state_dict())
        recipe = Recipe(
            optimizer="sgd", learning_rate=0.1, weight_decay=0, batch_size=64, epochs=1, warmup=0, clip_norm=clip
        )
        fit(classifier, bench.run({"train": BOTH}, recipe, progress=str(clip)))
        end = clone(classifier.state_dict())
        steps.append(torch.cat([(end[key] - start[key]).flatten() for key in start]) / -0.1)
        classifier.load_state_dict(start)
    clipped, whole = steps
    assert clipped.norm() == pytest.approx(1e-3, rel=1e-2) and whole.norm() > 0.1
    torch.testing.assert_close(clipped, whole * (1e-3 / whole.norm()), rtol=0, atol=1e-5)


def test_label_smoothing_of_the_recipe_reaches_the_loss(classifier: Classifier, bench: Bench) -> None:
    ends = []
    for smoothing in (0.0, 0.4):
        recipe = RECIPE.model_copy(update={"label_smoothing": smoothing, "learning_rate": 1e-30, "weight_decay": 0.0})
        ends.append(fit(classifier, bench.run({"train": ["head"]}, recipe, progress=str(smoothing))).terms[0]["ce"])
    examples = bench.data.training(0)
    with torch.no_grad():
        logits = classifier(bench.preprocess(examples.images(next(examples.batches(100)))))
        uniform = -logits.log_softmax(-1).mean().item()
    assert ends[1] == pytest.approx(0.6 * ends[0] + 0.4 * uniform, rel=1e-4)


def test_a_part_that_the_model_lacks_is_named_with_the_entry(classifier: Classifier, bench: Bench) -> None:
    with pytest.raises(UserError, match=r"methods\.mine\.train: this model has no part 'block-9'"):
        fit(classifier, bench.run(Training(train=["block-9"])))
