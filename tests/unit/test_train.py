"""The training loop: what moves, what stays, and that a run is fixed by its seed alone."""

import math
import os
import signal
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from surefoot import resume, train
from surefoot.augment import augment
from surefoot.clip import Classifier, Preprocess, State
from surefoot.data import Data
from surefoot.files import UserError
from surefoot.method_entries import Augmentation, Recipe, Training
from surefoot.objective import Objective
from surefoot.train import check_finite, fit, make_optimizer, rate
from surefoot.weights import Weights
from tests.tiny import RECIPE, Bench, clone, same_bytes, same_state

CHANGES = Augmentation(rotate=10, scale=0.1, shift=0.1, mirror=0.5)
BOTH = ("image", "head")


def run(
    classifier: Classifier,
    bench: Bench,
    parts: tuple[str, ...] = BOTH,
    seed: int = 0,
    recipe: Recipe = RECIPE,
    progress: str = "progress",
) -> State:
    """Train and return the final state."""
    fit(classifier, bench.run({"train": list(parts)}, recipe, seed, progress))
    return clone(classifier.state_dict())


@pytest.mark.parametrize(
    ("parts", "prefixes"),
    [
        (("head",), ("head.",)),
        (("image",), ("image.",)),
        (("logit_scale",), ("logit_scale",)),
        (("image", "head"), ("image.", "head.")),
        (("image", "head", "logit_scale"), ("image.", "head.", "logit_scale")),
    ],
)
def test_exactly_the_trained_parts_move(classifier: Classifier, bench: Bench, parts: tuple, prefixes: tuple) -> None:
    before = clone(classifier.state_dict())
    after = run(classifier, bench, parts)
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert moved == {key for key in before if key.startswith(prefixes)}
    assert same_state(*({k: s[k] for k in before if not k.startswith(prefixes)} for s in (before, after)))


def test_the_classifier_holds_no_text_tower(classifier: Classifier) -> None:
    assert {key.split(".")[0] for key in classifier.state_dict()} == {"image", "head", "logit_scale"}


def test_training_lowers_the_loss_and_reports_it_per_epoch(classifier: Classifier, bench: Bench) -> None:
    history = fit(classifier, bench.run({"train": BOTH}, RECIPE.model_copy(update={"epochs": 8})))
    assert [set(epoch) for epoch in history.terms] == [{"ce"}] * 8
    assert history.terms[-1]["ce"] < 0.7 * history.terms[0]["ce"]
    assert history.factors == [] and history.watched == []


def test_reported_loss_is_the_mean_over_images(
    classifier: Classifier, bench: Bench, data: Data, preprocess: Preprocess
) -> None:
    """At a learning rate of nothing it equals the loss on all images at once, though the last batch is smaller."""
    examples = data.training(0)
    recipe = RECIPE.model_copy(update={"learning_rate": 1e-30, "weight_decay": 0.0, "batch_size": 7, "epochs": 1})
    assert len(examples) % 7
    [epoch] = fit(classifier, bench.run({"train": ["head"], "objective": {"ce": 3, "hinge": 1}}, recipe)).terms
    everything = next(examples.batches(len(examples)))
    logits, labels = classifier(preprocess(examples.images(everything))), torch.from_numpy(examples.labels)
    assert epoch["ce"] == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)
    hinge = 3 * torch.nn.functional.multi_margin_loss(logits, labels)
    assert epoch["hinge"] == pytest.approx(hinge.item(), rel=1e-5)


def test_linear_probe_encodes_every_image_once(
    classifier: Classifier, bench: Bench, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = []
    encode = Classifier.encode
    monkeypatch.setattr(Classifier, "encode", lambda self, x: encoded.append(len(x)) or encode(self, x))
    run(classifier, bench, ("head",))
    assert sum(encoded) == len(data.training(0))


def test_linear_probe_on_kept_features_equals_forward_passes_at_every_step(
    classifier: Classifier, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = clone(classifier.state_dict())
    kept = run(classifier, bench, ("head",), progress="kept")

    class WithoutFeatures(train.Inputs):
        def __init__(self, *args: object) -> None:
            super().__init__(*args)
            assert self.features is not None
            self.features = None

    monkeypatch.setattr(train, "Inputs", WithoutFeatures)
    classifier.load_state_dict(start)
    passed = run(classifier, bench, ("head",), progress="passed")
    for key in kept:
        torch.testing.assert_close(kept[key], passed[key], rtol=1e-4, atol=1e-6)
    assert not torch.equal(start["head.weight"], kept["head.weight"])


def inputs_of(classifier: Classifier, bench: Bench, training: dict, recipe: Recipe, seed: int = 0) -> train.Inputs:
    """The inputs of a run that is about to start."""
    run = bench.run(training, recipe, seed)
    Weights(classifier, run)
    return train.Inputs(classifier, run, Objective(run.training.objective))


def test_features_are_not_kept_where_the_images_change(classifier: Classifier, bench: Bench, data: Data) -> None:
    recipe = RECIPE.model_copy(update={"augmentation": CHANGES})
    inputs, other_seed = (inputs_of(classifier, bench, {"train": ["head"]}, recipe, seed) for seed in (0, 1))
    order = next(data.training(0).batches(8))
    assert inputs.features is None
    assert not torch.equal(inputs.batch(order, 0), inputs.batch(order, 1))
    assert torch.equal(inputs.batch(order, 1), inputs.batch(order, 1))
    assert not torch.equal(inputs.batch(order, 1), other_seed.batch(order, 1))


@pytest.mark.parametrize(
    ("parts", "objective", "kept"),
    [
        (["head"], {"ce": 1}, True),
        (["logit_scale"], {"hinge": 1, "l2init": 1}, True),
        (["text"], {"flyp": 1}, True),
        (["image"], {"ce": 1}, False),
        (["embedding"], {"ce": 1}, False),
        (["head"], {"ce": 1, "kd": 1}, False),
        (["head"], {"ce": 1, "lipsum": 1}, False),
        (["head"], {"ce": 1, "carft": 1}, False),
    ],
)
def test_features_are_kept_exactly_where_nothing_but_them_is_needed(
    classifier: Classifier, bench: Bench, parts: list, objective: dict, kept: bool
) -> None:
    inputs = inputs_of(classifier, bench, {"train": parts, "objective": objective}, RECIPE)
    assert (inputs.features is not None) is kept


def test_same_seed_same_bytes_and_another_seed_other_bytes(classifier: Classifier, bench: Bench) -> None:
    start, recipe = clone(classifier.state_dict()), RECIPE.model_copy(update={"augmentation": CHANGES})
    ends = []
    for number, seed in enumerate((0, 0, 1)):
        classifier.load_state_dict(start)
        torch.rand(number + 1)  # the global generator must not matter
        ends.append(run(classifier, bench, seed=seed, recipe=recipe, progress=str(number)))
    assert same_state(ends[0], ends[1])
    assert not same_state(ends[0], ends[2])


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("step", [1, 5, 8, 11])
def test_killed_and_resumed_equals_uninterrupted(
    classifier: Classifier,
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
    optimizer: str,
) -> None:
    """30 images in batches of 8 make 4 steps an epoch; kills fall into every epoch, and on first and last steps."""
    recipe = RECIPE.model_copy(update={"augmentation": CHANGES, "optimizer": optimizer})
    start = clone(classifier.state_dict())
    whole = run(classifier, bench, recipe=recipe, progress="whole")

    def killing(images: torch.Tensor, how: Augmentation, stream: torch.Generator) -> torch.Tensor:
        calls.append(1)
        if len(calls) == step + 1:
            raise KeyboardInterrupt
        return augment(images, how, stream)

    calls: list[int] = []
    monkeypatch.setattr(resume, "SAVE_SECONDS", -1)
    monkeypatch.setattr(resume, "LARGEST_SHARE", math.inf)
    monkeypatch.setattr(train, "augment", killing)
    classifier.load_state_dict(start)
    with pytest.raises(KeyboardInterrupt):
        run(classifier, bench, recipe=recipe, progress="killed")
    done = len(calls) - 1
    classifier.load_state_dict(start)
    resumed = run(classifier, bench, recipe=recipe, progress="killed")
    assert same_state(whole, resumed)
    assert len(calls) - 1 - done == 12 - step, "a resumed run repeats no finished step"


@pytest.mark.fault(
    "interruption",
    "TERM, as of a batch system whose time is up, in the middle of a step",
    "the step ends, its state is saved, the job ends with 143; a retry repeats no step",
)
@pytest.mark.parametrize("batches", ["epochs", "draws"])
@pytest.mark.parametrize("step", [1, 4, 7])
def test_a_run_that_gets_term_saves_its_last_step_and_goes_on(
    classifier: Classifier,
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    keeps_term: Any,
    step: int,
    batches: str,
) -> None:
    """What a batch system does to a job whose time is up; 4 steps make an epoch."""
    recipe = RECIPE.model_copy(update={"augmentation": CHANGES, "batches": batches})
    start = clone(classifier.state_dict())
    whole = run(classifier, bench, recipe=recipe, progress="whole")

    def terminated(images: torch.Tensor, how: Augmentation, stream: torch.Generator) -> torch.Tensor:
        calls.append(1)
        if len(calls) == step:
            os.kill(os.getpid(), signal.SIGTERM)  # in the middle of a step, which ends first
        return augment(images, how, stream)

    calls: list[int] = []
    monkeypatch.setattr(train, "augment", terminated)
    classifier.load_state_dict(start)
    with pytest.raises(SystemExit) as stop:
        run(classifier, bench, recipe=recipe, progress="terminated")
    assert stop.value.code == 143 and len(calls) == step
    signal.signal(signal.SIGTERM, keeps_term)  # the next process
    classifier.load_state_dict(start)
    assert same_state(whole, run(classifier, bench, recipe=recipe, progress="terminated"))
    assert len(calls) == 12, "every step is made once"
    assert signal.getsignal(signal.SIGTERM) == keeps_term


def test_a_finished_run_is_not_trained_again(
    classifier: Classifier, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = clone(classifier.state_dict())
    once = run(classifier, bench)
    classifier.load_state_dict(start)
    monkeypatch.setattr(Classifier, "encode", lambda self, x: pytest.fail("an image was encoded"))
    assert same_state(once, run(classifier, bench))


def test_a_loss_that_is_not_finite_is_a_users_mistake(classifier: Classifier, bench: Bench) -> None:
    recipe = RECIPE.model_copy(update={"learning_rate": 1e30, "clip_norm": None, "warmup": 0})
    with pytest.raises(UserError, match=r"mine seed 0: the loss is (nan|inf).*learning_rate"):
        run(classifier, bench, recipe=recipe)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_check_finite_refuses(bad: float) -> None:
    check_finite(torch.tensor(1e30), "x", 0)
    with pytest.raises(UserError, match="step 7"):
        check_finite(torch.tensor(bad), "x", 7)


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


# A number of steps


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Notes every step of the optimizer."""
    steps: list[int] = []

    class Counting(torch.optim.AdamW):
        def step(self, closure: None = None) -> None:
            steps.append(1)
            super().step()

    monkeypatch.setattr(torch.optim, "AdamW", Counting)
    return steps


@pytest.mark.parametrize("batches", ["epochs", "draws"])
@pytest.mark.parametrize(("steps", "epochs"), [(1, 1), (3, 1), (4, 1), (5, 2), (12, 3), (19, 5), (None, 3)])
def test_a_run_takes_as_many_steps_as_it_is_told(
    classifier: Classifier, bench: Bench, counted: list[int], steps: int | None, epochs: int, batches: str
) -> None:
    """An epoch has four steps and the recipe three epochs; a number of steps overrules them, within an epoch too."""
    recipe = RECIPE.model_copy(update={"steps": steps, "batches": batches})
    history = fit(classifier, bench.run({"train": BOTH}, recipe))
    assert len(counted) == (steps or 12) and len(history.terms) == epochs


def test_all_steps_of_the_epochs_are_the_run_of_these_epochs(classifier: Classifier, bench: Bench) -> None:
    start, ends = clone(classifier.state_dict()), []
    for steps, epochs in ((None, 3), (12, 1), (12, 40)):
        classifier.load_state_dict(start)
        recipe = RECIPE.model_copy(update={"steps": steps, "epochs": epochs})
        ends.append(run(classifier, bench, recipe=recipe, progress=f"{steps} {epochs}"))
    assert same_state(ends[0], ends[1]) and same_state(ends[0], ends[2])


def test_the_schedule_ends_with_the_steps(
    classifier: Classifier, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    Spy.used = []
    monkeypatch.setattr(
        train, "make_optimizer", lambda trained, *_: Spy([{"params": list(trained.values()), "factor": 1}], lr=1.0)
    )
    recipe = RECIPE.model_copy(update={"steps": 6, "warmup": 0})
    fit(classifier, bench.run({"train": BOTH}, recipe))
    assert Spy.used == [[pytest.approx(3e-3 * 0.5 * (1 + math.cos(math.pi * step / 6)))] for step in range(6)]


def test_the_loss_of_a_part_of_an_epoch_is_that_of_its_images(
    classifier: Classifier, bench: Bench, data: Data, preprocess: Preprocess
) -> None:
    recipe = RECIPE.model_copy(update={"learning_rate": 1e-30, "weight_decay": 0.0, "steps": 2})
    [epoch] = fit(classifier, bench.run({"train": ["head"]}, recipe)).terms
    examples = data.training(0)
    seen = torch.cat([torch.from_numpy(b) for b in list(examples.shuffled(8, 0, 0))[:2]]).numpy()
    logits, labels = classifier(preprocess(examples.images(seen))), torch.from_numpy(examples.labels[seen])
    assert epoch["ce"] == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)


@pytest.mark.parametrize("batches", ["epochs", "draws"])
def test_a_run_of_steps_goes_on_where_it_was_killed(
    classifier: Classifier, bench: Bench, monkeypatch: pytest.MonkeyPatch, batches: str
) -> None:
    """Ten steps of four an epoch, killed in the third epoch."""
    recipe = RECIPE.model_copy(update={"steps": 10, "batches": batches})
    start = clone(classifier.state_dict())
    whole = run(classifier, bench, recipe=recipe, progress="whole")
    calls: list[int] = []

    def killing(images: torch.Tensor, how: Augmentation, stream: torch.Generator) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 10:
            raise KeyboardInterrupt
        return images

    monkeypatch.setattr(resume, "SAVE_SECONDS", -1)
    monkeypatch.setattr(resume, "LARGEST_SHARE", math.inf)
    monkeypatch.setattr(train, "augment", killing)
    classifier.load_state_dict(start)
    with pytest.raises(KeyboardInterrupt):
        run(classifier, bench, recipe=recipe, progress="killed")
    classifier.load_state_dict(start)
    assert same_state(whole, run(classifier, bench, recipe=recipe, progress="killed")) and len(calls) == 11


def test_an_epoch_shows_every_image_once_and_draws_show_some_again(bench: Bench) -> None:
    """AutoFT's released code shuffles anew before every step."""
    seen = {}
    for how in ("epochs", "draws"):
        run = bench.run({"train": ["head"]}, RECIPE.model_copy(update={"batches": how}))
        seen[how] = [[list(b) for b in train.batches(run, epoch, 4 * epoch)] for epoch in (0, 1)]
    assert [len(batch) for batch in seen["epochs"][0]] == [8, 8, 8, 6]
    assert [len(batch) for batch in seen["draws"][0]] == [8, 8, 8, 8]
    for epoch in (0, 1):
        assert sorted(np.concatenate(seen["epochs"][epoch])) == list(range(30))
        assert len(set(np.concatenate(seen["draws"][epoch]))) < 30
        assert all(len(set(batch)) == 8 for batch in seen["draws"][epoch]), "no image stands twice in a batch"
    assert not any(batch in seen["draws"][1] for batch in seen["draws"][0])


def test_a_draw_depends_on_seed_and_step_alone(bench: Bench) -> None:
    recipe = RECIPE.model_copy(update={"batches": "draws"})
    one, other = (bench.run({"train": ["head"]}, recipe, seed) for seed in (0, 0))
    third = list(train.batches(one, 0, 0))[2]
    assert list(next(train.batches(other, 5, 2))) == list(third)
    assert list(next(train.batches(replace(other, seed=1), 5, 2))) != list(third)


def test_an_objective_that_asks_for_nothing_that_is_trained_is_a_users_mistake(
    classifier: Classifier, bench: Bench
) -> None:
    with pytest.raises(UserError, match="mine seed 0: no term of the objective depends on what is trained"):
        fit(classifier, bench.run({"train": ["head"], "objective": {"flyp": 1}}))


def test_constant_schedule_stays_at_the_peak() -> None:
    assert {rate(step, 50, Recipe(warmup=0, schedule="constant")) for step in range(50)} == {1.0}


class Spy(torch.optim.SGD):
    """Notes the learning rate of every group at every step."""

    used: list[list[float]]

    def step(self, closure: None = None) -> None:
        self.used.append([group["lr"] for group in self.param_groups])
        super().step()


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
    run(classifier, bench)
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
        end = run(classifier, bench, recipe=recipe, progress=str(clip))
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


@pytest.mark.parametrize(
    ("train", "reached"),
    [(["image", "head"], {0, 1, 2}), (["embedding"], {0, 1, 2}), (["block-1", "head"], {1, 2}), (["head"], set())],
)
def test_gradients_stop_at_the_lowest_trained_block(
    classifier: Classifier, bench: Bench, train: list[str], reached: set[int]
) -> None:
    seen: set[int] = set()
    blocks = classifier.image.transformer.resblocks
    hooks = [block.register_full_backward_pre_hook(lambda *_, k=k: seen.add(k)) for k, block in enumerate(blocks)]
    fit(classifier, bench.run({"train": train}))
    for hook in hooks:
        hook.remove()
    assert len(blocks) == 3 and seen == reached
