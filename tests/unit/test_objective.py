"""The training objective."""

import math

import pytest
import torch
import torch.nn.functional as F

from surefoot import method_entries, objective
from surefoot.clip import Classifier
from surefoot.objective import TERMS, Context, Objective

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]])
LABELS = torch.tensor([0, 1])


class Fixed:
    """Stands for a classifier: counts what it is asked."""

    def __init__(self) -> None:
        self.encoded = self.classified = 0

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        self.encoded += 1
        return images.flatten(1)

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        self.classified += 1
        return LOGITS


def context(smoothing: float = 0, inputs: torch.Tensor | None = None) -> Context:
    """A context with fixed logits."""
    return Context(Fixed(), torch.zeros(2, 3, 4, 4) if inputs is None else inputs, LABELS, smoothing)


def test_term_names_of_the_config_are_the_registered_ones() -> None:
    assert tuple(TERMS) == method_entries.TERM_NAMES


def test_cross_entropy_by_hand() -> None:
    first = math.log(math.exp(2) + 1 + math.exp(-1)) - 2
    second = math.log(2 * math.exp(0.5) + math.exp(3)) - 0.5
    assert TERMS["ce"](context()).item() == pytest.approx((first + second) / 2)
    assert TERMS["ce"](context()).item() == pytest.approx(F.cross_entropy(LOGITS, LABELS).item())


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_label_smoothing_spreads_a_part_over_all_classes(smoothing: float) -> None:
    log_p = LOGITS.log_softmax(-1)
    expected = (1 - smoothing) * -log_p[[0, 1], LABELS].mean() + smoothing * -log_p.mean()
    assert TERMS["ce"](context(smoothing)).item() == pytest.approx(expected.item(), rel=1e-6)


def test_sum_is_weighted_and_reported_values_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.nn.Parameter(torch.tensor(3.0))
    monkeypatch.setitem(TERMS, "square", lambda _: weight**2)
    total, values = Objective({"ce": 2.0, "square": 0.5})(context())
    ce = F.cross_entropy(LOGITS, LABELS)
    assert total.item() == pytest.approx(2 * ce.item() + 0.5 * 9)
    assert {name: value.item() for name, value in values.items()} == {"ce": pytest.approx(ce.item()), "square": 9}
    total.backward()
    assert weight.grad.item() == pytest.approx(0.5 * 6)
    assert not any(value.requires_grad for value in values.values())


def test_a_term_of_weight_0_is_not_computed_and_not_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TERMS, "nothing", lambda _: pytest.fail("a term of weight 0 was computed"))
    without = Objective({"ce": 2.0, "nothing": 0.0})
    total, values = without(context())
    assert total.item() == pytest.approx(2 * F.cross_entropy(LOGITS, LABELS).item()) and set(values) == {"ce"}
    assert not without.asks_for({"nothing"}) and without.asks_for({"ce"})


def test_nothing_is_computed_before_a_term_asks_and_then_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TERMS, "nothing", lambda _: torch.tensor(1.0))
    monkeypatch.setitem(TERMS, "features", lambda c: c.features.sum())
    lazy = context()
    Objective({"nothing": 1.0})(lazy)
    assert (lazy.classifier.encoded, lazy.classifier.classified) == (0, 0)
    Objective({"features": 1.0})(lazy)
    assert (lazy.classifier.encoded, lazy.classifier.classified) == (1, 0)
    Objective({"ce": 1.0, "features": 1.0, "nothing": 1.0})(lazy)
    assert (lazy.classifier.encoded, lazy.classifier.classified) == (1, 1)


def test_features_that_are_given_are_not_encoded_again() -> None:
    given = context(inputs=torch.ones(2, 5))
    assert given.features is given.inputs
    assert TERMS["ce"](given).isfinite() and given.classifier.encoded == 0


def test_gradient_reaches_tower_and_head(classifier: Classifier) -> None:
    total, _ = Objective({"ce": 1.0})(Context(classifier, torch.rand(2, 3, 16, 16), LABELS))
    total.backward()
    assert classifier.head.weight.grad.abs().sum() > 0
    assert classifier.image.conv1.weight.grad.abs().sum() > 0


def test_an_unknown_term_is_an_error() -> None:
    with pytest.raises(KeyError, match="nonsense"):
        objective.Objective({"nonsense": 1.0})
