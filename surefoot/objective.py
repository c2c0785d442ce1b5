"""The training objective: named terms and their weighted sum. B batch, C classes, D embedding."""

from collections.abc import Callable
from functools import cached_property

import torch
import torch.nn.functional as F

from surefoot.clip import Classifier


class Context:
    """What the terms of one step may ask for; each is computed only when a term asks, and then once.

    Args:
        classifier: the model in training.
        inputs: preprocessed images [B, 3, H, W], or unit-norm features [B, D] where the image tower is frozen.
        labels: [B].
        label_smoothing: part of the target that is spread evenly over all classes.
    """

    def __init__(
        self, classifier: Classifier, inputs: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0
    ) -> None:
        self.classifier, self.inputs, self.labels = classifier, inputs, labels
        self.label_smoothing = label_smoothing

    @cached_property
    def features(self) -> torch.Tensor:
        """Unit-norm image features [B, D]."""
        return self.inputs if self.inputs.ndim == 2 else self.classifier.encode(self.inputs)

    @cached_property
    def logits(self) -> torch.Tensor:
        """[B, C]."""
        return self.classifier.classify(self.features)


def cross_entropy(context: Context) -> torch.Tensor:
    """Mean cross-entropy; with smoothing e the target is (1 - e) one-hot + e / C (WiSE-FT, fine-tuning recipe)."""
    return F.cross_entropy(context.logits, context.labels, label_smoothing=context.label_smoothing)


TERMS: dict[str, Callable[[Context], torch.Tensor]] = {
    "ce": cross_entropy,
}


class Objective:
    """A weighted sum of terms."""

    def __init__(self, weights: dict[str, float]) -> None:
        """Raises KeyError for an unknown term."""
        self.terms = [(name, TERMS[name], weight) for name, weight in weights.items()]

    def __call__(self, context: Context) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The scalar to minimise, and each term's own value (detached, not weighted)."""
        values = {name: term(context) for name, term, _ in self.terms}
        total = sum(weight * values[name] for name, _, weight in self.terms)
        return total, {name: value.detach() for name, value in values.items()}
