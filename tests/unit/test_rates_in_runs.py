"""How the learning rate is spread in a run: the gradients that rules see, and what the factors do."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from surefoot import train
from surefoot.clip import Classifier
from surefoot.data import Data
from surefoot.layers import parts
from surefoot.method_entries import Augmentation, Recipe
from surefoot.objective import Objective
from surefoot.rates import Factors, Rates
from surefoot.train import Inputs, fit, probe
from surefoot.weights import Weights
from tests.tiny import RECIPE, Bench, clone, same_bytes

Gradients = dict[str, torch.Tensor]
# 24 images, so that an epoch is one full batch.
WHOLE = Recipe(learning_rate=1e-3, weight_decay=0, batch_size=100, epochs=3, warmup=0)


# The probe


def probed(
    classifier: Classifier, bench: Bench, per_image: bool, recipe: Recipe = RECIPE, **options: int
) -> list[Gradients]:
    """What a run's probe finds in its first epoch."""
    run = bench.run({"train": ["image", "head"], "options": options}, recipe)
    weights = Weights(classifier, run)
    inputs = Inputs(classifier, run, Objective(run.training.objective))
    return list(probe(weights, inputs, torch.from_numpy(run.examples.labels), 0, 0, per_image))


def test_the_probe_gives_the_gradients_of_the_first_batches(classifier: Classifier, bench: Bench, data: Data) -> None:
    found = probed(classifier, bench, False, probe_batches=2)
    examples = data.training(0)
    order = [indices for _, indices in zip(range(2), examples.shuffled(8, 0, 0), strict=False)]
    assert len(found) == 2
    for gradients, indices in zip(found, order, strict=True):
        loss = F.cross_entropy(
            classifier(bench.preprocess(examples.images(indices))), torch.tensor(examples.labels[indices])
        )
        named = {n: p for n, p in classifier.named_parameters() if n != "logit_scale"}
        expected = dict(zip(named, torch.autograd.grad(loss, named.values()), strict=True))
        assert gradients.keys() == expected.keys()
        for name in named:
            torch.testing.assert_close(gradients[name], expected[name], rtol=1e-4, atol=1e-6)


# a batch of one image takes the first random change of the step's stream, so per image all
# images are turned, shifted and scaled alike, and the noise among them is less than that of the batches in training.
@pytest.mark.parametrize("changes", [Augmentation(), Augmentation(rotate=20, scale=0.3, shift=0.2, mirror=0.5)])
def test_gradients_per_image_average_to_those_of_the_batch(
    classifier: Classifier, bench: Bench, changes: Augmentation
) -> None:
    recipe = RECIPE.model_copy(update={"augmentation": changes})
    [batch], images = (probed(classifier, bench, each, recipe, probe_batches=1) for each in (False, True))
    assert len(images) == 8
    for name, gradient in batch.items():
        torch.testing.assert_close(sum(image[name] for image in images) / 8, gradient, rtol=1e-4, atol=1e-6)


def test_the_probe_sees_what_sleeps_and_leaves_no_gradient_behind(classifier: Classifier, bench: Bench) -> None:
    run = bench.run({"train": ["image", "head"]})
    weights = Weights(classifier, run)
    weights.trained["head.weight"].requires_grad_(False)
    inputs = Inputs(classifier, run, Objective({"ce": 1}))
    found = list(probe(weights, inputs, torch.from_numpy(run.examples.labels), 0, 0, False))
    assert len(found) == 4 and all(g["head.weight"].any() for g in found), "an epoch has four batches, less than five"
    assert all(p.grad is None for p in classifier.parameters())


# In a run


def test_rgn_of_a_run_by_hand(classifier: Classifier, bench: Bench, data: Data) -> None:
    examples, start = data.training(0), clone(classifier.state_dict())
    history = fit(classifier, bench.run({"train": ["image", "head"], "rates": "rgn"}, WHOLE))
    other = Classifier(classifier.image, {"weight": start["head.weight"], "logit_scale": start["logit_scale"]})
    other.load_state_dict(start)
    everything = next(examples.batches(100))
    loss = F.cross_entropy(other(bench.preprocess(examples.images(everything))), torch.from_numpy(examples.labels))
    named = {n: p for n, p in other.named_parameters() if n != "logit_scale"}
    ratios = {
        name: float(gradient.norm() / start[name].norm())
        for (name, _), gradient in zip(named.items(), torch.autograd.grad(loss, named.values()), strict=True)
    }
    expected = {name: ratio / max(ratios.values()) for name, ratio in ratios.items()}
    assert history.factors[0] == {name: pytest.approx(f, rel=1e-4) for name, f in expected.items()}


def test_factors_are_found_anew_each_epoch_with_a_new_optimizer(
    classifier: Classifier, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    make = train.make_optimizer
    monkeypatch.setattr(train, "make_optimizer", lambda *given: made.append(given[1]) or make(*given))
    history = fit(classifier, bench.run({"train": ["image", "head"], "rates": "rgn"}, WHOLE))
    assert made == history.factors and len(made) == 3
    assert made[0] != made[1] and made[1] != made[2]


def test_one_rate_keeps_its_optimizer(classifier: Classifier, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    make = train.make_optimizer
    monkeypatch.setattr(train, "make_optimizer", lambda *given: made.append(given[1]) or make(*given))
    history = fit(classifier, bench.run({"train": ["image", "head"]}, WHOLE))
    assert len(made) == 1 and history.factors == []


def test_adam_moves_each_tensor_by_its_factor_times_the_rate(classifier: Classifier, bench: Bench) -> None:
    """The first step of Adam has the size of the learning rate, whatever the gradient."""
    before, recipe = clone(classifier.state_dict()), WHOLE.model_copy(update={"epochs": 1})
    rates = {"embedding": 0.5, "block-1": 0.0, "head": 3.0}
    fit(classifier, bench.run({"train": ["image", "head"], "rates": rates}, recipe))
    known, after = parts(before), classifier.state_dict()
    for part, factor in {"embedding": 0.5, "block-0": 1.0, "block-2": 1.0, "head": 3.0}.items():
        for name in known[part]:
            largest = (after[name] - before[name]).abs().max().item()
            assert largest == pytest.approx(factor * 1e-3, rel=0.02), name
    assert all(same_bytes(before[name], after[name]) for name in [*known["block-1"], "logit_scale"])


def test_a_tensor_with_factor_0_is_bit_identical_after_an_epoch(classifier: Classifier, bench: Bench) -> None:
    """In spite of weight decay, momentum and the running average."""
    before = clone(classifier.state_dict())
    recipe = Recipe(optimizer="sgd", learning_rate=1e-2, weight_decay=0.1, batch_size=8, epochs=1, warmup=0)
    rates = {"embedding": 0, "head": 0}
    fit(classifier, bench.run({"train": ["image", "head"], "rates": rates, "ema": 0.5}, recipe))
    known, after = parts(before), classifier.state_dict()
    for name in before:
        still = any(name in known[part] for part in rates)
        assert same_bytes(before[name], after[name]) is (still or name == "logit_scale"), name


def test_a_layer_that_sleeps_again_stops_at_once(
    classifier: Classifier, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frozen in the second of two epochs, a tensor ends where a run of one epoch ends, in spite of Adam's momentum."""
    monkeypatch.setattr(
        Rates, "at", lambda self, epoch, ask: {n: float(epoch == 0 or n != "head.weight") for n in self.trained}
    )
    recipe = RECIPE.model_copy(update={"schedule": "constant", "warmup": 0})
    start, ends = clone(classifier.state_dict()), []
    for epochs in (1, 2):
        classifier.load_state_dict(start)
        fit(
            classifier,
            bench.run({"train": ["image", "head"]}, recipe.model_copy(update={"epochs": epochs}), progress=str(epochs)),
        )
        ends.append(clone(classifier.state_dict()))
    assert same_bytes(ends[0]["head.weight"], ends[1]["head.weight"])
    assert not torch.equal(ends[0]["image.proj"], ends[1]["image.proj"])


# sleeping tensors are made to require gradients and stay so when the factors of the next
# epoch are the same, because only make_optimizer puts them back. Their gradients then add up step by step and enter the
# global norm that clips those of the others (a resumed run starts without them, so it ends with other bytes as well).
@pytest.mark.parametrize("rates", ["snr-released", "rgn"])
def test_a_sleeping_tensor_has_no_part_in_the_clipped_norm(
    classifier: Classifier, bench: Bench, monkeypatch: pytest.MonkeyPatch, rates: str
) -> None:
    def fixed(self: Rates, ask: Callable) -> Factors:
        list(ask(False))
        return {name: float(name == "head.weight") for name in self.trained}

    monkeypatch.setattr(Rates, "_snr_released", fixed)
    monkeypatch.setattr(Rates, "_rgn", fixed)
    start, ends = clone(classifier.state_dict()), []
    recipe = RECIPE.model_copy(update={"clip_norm": 1e-2, "optimizer": "sgd", "learning_rate": 1.0})
    for training in ({"train": ["image", "head"], "rates": rates}, {"train": ["head"]}):
        classifier.load_state_dict(start)
        fit(classifier, bench.run(training, recipe, progress=str(len(ends))))
        ends.append(clone(classifier.state_dict()))
    assert math.isclose(*[float((end["head.weight"] - start["head.weight"]).norm()) for end in ends], rel_tol=1e-3)
    torch.testing.assert_close(ends[0]["head.weight"], ends[1]["head.weight"], rtol=1e-3, atol=1e-5)
