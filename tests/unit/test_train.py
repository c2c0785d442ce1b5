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
from surefoot.method_entries import Augmentation, Recipe
from surefoot.objective import Objective
from surefoot.train import check_finite, fit
from surefoot.weights import Weights
from tests.tiny import RECIPE, Bench, Spy, clone, same_state

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
