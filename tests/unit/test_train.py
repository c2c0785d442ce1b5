"""The training loop: what moves, what stays, and that a run is fixed by its seed alone."""

import math
from pathlib import Path

import pytest
import torch

from surefoot import train
from surefoot.augment import augment
from surefoot.clip import Classifier, Preprocess, State
from surefoot.config import Augmentation, Recipe, Stage
from surefoot.data import Data
from surefoot.files import UserError
from surefoot.resume import Resumable
from surefoot.train import check_finite, fit, make_optimizer, rate
from tests.tiny import clone, same_state

RECIPE = Recipe(learning_rate=3e-3, batch_size=8, epochs=3, warmup=2)
CHANGES = Augmentation(rotate=10, scale=0.1, shift=0.1, mirror=0.5)


def run(
    classifier: Classifier,
    data: Data,
    preprocess: Preprocess,
    folder: Path,
    parts: tuple[str, ...] = ("image", "head"),
    seed: int = 0,
    recipe: Recipe = RECIPE,
) -> State:
    """Train and return the final state."""
    stage = Stage(train=list(parts))
    fit(classifier, stage, recipe, data.training(0), preprocess, seed, Resumable(folder, "same job"), "stage")
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
def test_exactly_the_trained_parts_move(
    classifier: Classifier, data: Data, preprocess: Preprocess, tmp_path: Path, parts: tuple, prefixes: tuple
) -> None:
    before = clone(classifier.state_dict())
    after = run(classifier, data, preprocess, tmp_path, parts)
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert moved == {key for key in before if key.startswith(prefixes)}
    assert same_state(*({k: s[k] for k in before if not k.startswith(prefixes)} for s in (before, after)))


def test_the_classifier_holds_no_text_tower(classifier: Classifier) -> None:
    assert {key.split(".")[0] for key in classifier.state_dict()} == {"image", "head", "logit_scale"}


def test_training_lowers_the_loss_and_reports_it_per_epoch(
    classifier: Classifier, data: Data, preprocess: Preprocess, tmp_path: Path
) -> None:
    recipe = RECIPE.model_copy(update={"epochs": 8})
    stage, progress = Stage(train=["image", "head"]), Resumable(tmp_path, "job")
    history = fit(classifier, stage, recipe, data.training(0), preprocess, 0, progress, "stage")
    assert [set(epoch) for epoch in history] == [{"ce"}] * 8
    assert history[-1]["ce"] < 0.7 * history[0]["ce"]


def test_reported_loss_is_the_mean_over_images(
    classifier: Classifier, data: Data, preprocess: Preprocess, tmp_path: Path
) -> None:
    """At a learning rate of nothing it equals the loss on all images at once, though the last batch is smaller."""
    examples = data.training(0)
    recipe = RECIPE.model_copy(update={"learning_rate": 1e-30, "weight_decay": 0.0, "batch_size": 7, "epochs": 1})
    assert len(examples) % 7
    [epoch] = fit(classifier, Stage(train=["head"]), recipe, examples, preprocess, 0, Resumable(tmp_path, "job"), "s")
    everything = next(examples.batches(len(examples)))
    logits = classifier(preprocess(examples.images(everything)))
    expected = torch.nn.functional.cross_entropy(logits, torch.from_numpy(examples.labels))
    assert epoch["ce"] == pytest.approx(expected.item(), rel=1e-5)


def test_linear_probe_encodes_every_image_once(
    classifier: Classifier, data: Data, preprocess: Preprocess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = []
    encode = Classifier.encode
    monkeypatch.setattr(Classifier, "encode", lambda self, x: encoded.append(len(x)) or encode(self, x))
    run(classifier, data, preprocess, tmp_path, ("head",))
    assert sum(encoded) == len(data.training(0))


def test_linear_probe_on_kept_features_equals_forward_passes_at_every_step(
    classifier: Classifier, data: Data, preprocess: Preprocess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = clone(classifier.state_dict())
    kept = run(classifier, data, preprocess, tmp_path / "kept", ("head",))

    class WithoutFeatures(train.Inputs):
        def __init__(self, *args: object) -> None:
            super().__init__(*args)
            assert self.features is not None
            self.features = None

    monkeypatch.setattr(train, "Inputs", WithoutFeatures)
    classifier.load_state_dict(start)
    passed = run(classifier, data, preprocess, tmp_path / "passed", ("head",))
    for key in kept:
        torch.testing.assert_close(kept[key], passed[key], rtol=1e-4, atol=1e-6)
    assert not torch.equal(start["head.weight"], kept["head.weight"])


def test_features_are_not_kept_where_the_images_change(
    classifier: Classifier, data: Data, preprocess: Preprocess
) -> None:
    recipe = RECIPE.model_copy(update={"augmentation": CHANGES})
    stage, examples = Stage(train=["head"]), data.training(0)
    inputs, other_seed = (train.Inputs(classifier, stage, recipe, examples, preprocess, seed) for seed in (0, 1))
    order = next(examples.batches(8))
    assert inputs.features is None
    assert not torch.equal(inputs.batch(order, 0), inputs.batch(order, 1))
    assert torch.equal(inputs.batch(order, 1), inputs.batch(order, 1))
    assert not torch.equal(inputs.batch(order, 1), other_seed.batch(order, 1))


def test_same_seed_same_bytes_and_another_seed_other_bytes(
    classifier: Classifier, data: Data, preprocess: Preprocess, tmp_path: Path
) -> None:
    start, recipe = clone(classifier.state_dict()), RECIPE.model_copy(update={"augmentation": CHANGES})
    ends = []
    for number, seed in enumerate((0, 0, 1)):
        classifier.load_state_dict(start)
        torch.rand(number + 1)  # the global generator must not matter
        ends.append(run(classifier, data, preprocess, tmp_path / str(number), seed=seed, recipe=recipe))
    assert same_state(ends[0], ends[1])
    assert not same_state(ends[0], ends[2])


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("step", [1, 5, 8, 11])
def test_killed_and_resumed_equals_uninterrupted(
    classifier: Classifier,
    data: Data,
    preprocess: Preprocess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
    optimizer: str,
) -> None:
    """30 images in batches of 8 make 4 steps an epoch; kills fall into every epoch, and on first and last steps."""
    recipe = RECIPE.model_copy(update={"augmentation": CHANGES, "optimizer": optimizer})
    start = clone(classifier.state_dict())
    whole = run(classifier, data, preprocess, tmp_path / "whole", recipe=recipe)

    def killing(images: torch.Tensor, how: Augmentation, stream: torch.Generator) -> torch.Tensor:
        calls.append(1)
        if len(calls) == step + 1:
            raise KeyboardInterrupt
        return augment(images, how, stream)

    calls: list[int] = []
    monkeypatch.setattr(train, "SAVE_SECONDS", -1)
    monkeypatch.setattr(train, "augment", killing)
    classifier.load_state_dict(start)
    with pytest.raises(KeyboardInterrupt):
        run(classifier, data, preprocess, tmp_path / "killed", recipe=recipe)
    done = len(calls) - 1
    classifier.load_state_dict(start)
    resumed = run(classifier, data, preprocess, tmp_path / "killed", recipe=recipe)
    assert same_state(whole, resumed)
    assert len(calls) - 1 - done == 12 - 4 * (step // 4), "a resumed run repeats no finished epoch"


def test_a_finished_stage_is_not_trained_again(
    classifier: Classifier, data: Data, preprocess: Preprocess, tmp_path: Path
) -> None:
    start = clone(classifier.state_dict())
    once = run(classifier, data, preprocess, tmp_path)
    classifier.load_state_dict(start)
    assert same_state(once, run(classifier, data, preprocess, tmp_path))


def test_a_loss_that_is_not_finite_is_a_users_mistake(
    classifier: Classifier, data: Data, preprocess: Preprocess, tmp_path: Path
) -> None:
    recipe = RECIPE.model_copy(update={"learning_rate": 1e30, "clip_norm": None, "warmup": 0})
    with pytest.raises(UserError, match=r"stage: the loss is (nan|inf).*learning_rate"):
        run(classifier, data, preprocess, tmp_path, recipe=recipe)


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


def test_constant_schedule_stays_at_the_peak() -> None:
    assert {rate(step, 50, Recipe(warmup=0, schedule="constant")) for step in range(50)} == {1.0}


def test_the_loop_uses_the_rate_of_every_step(
    classifier: Classifier, data: Data, preprocess: Preprocess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []

    class Spy(torch.optim.SGD):
        def step(self, closure: None = None) -> None:
            used.append(self.param_groups[0]["lr"])
            super().step()

    monkeypatch.setattr(train, "make_optimizer", lambda parameters, recipe: Spy(parameters, lr=1.0))
    run(classifier, data, preprocess, tmp_path)
    steps = 3 * math.ceil(len(data.training(0)) / 8)
    assert used == [RECIPE.learning_rate * rate(step, steps, RECIPE) for step in range(steps)]


@pytest.mark.parametrize(
    ("name", "kind", "key", "value"),
    [("adamw", torch.optim.AdamW, "betas", (0.9, 0.999)), ("sgd", torch.optim.SGD, "momentum", 0.9)],
)
def test_optimizer_follows_the_recipe(name: str, kind: type, key: str, value: object) -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = make_optimizer([weight], Recipe(optimizer=name, learning_rate=0.1, weight_decay=0.2))
    [group] = optimizer.param_groups
    assert type(optimizer) is kind and group["lr"] == 0.1 and group["weight_decay"] == 0.2 and group[key] == value
