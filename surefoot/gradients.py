"""The gradients of a step: in one piece or, where that does not fit into memory, in parts of the batch."""

import logging
from collections.abc import Callable

import torch
from torch import nn

from surefoot.files import BadValues, UserError
from surefoot.objective import MIXES_IMAGES, Context, Objective

logger = logging.getLogger(__name__)


class NoMemory(UserError):
    """A step does not fit into the memory of the GPU and must not be computed in parts."""


class Gradients:
    """Sets the gradients of the trained tensors, step by step.

    Gradients of the parts are summed with their shares of the images as weights, which is the same step up to rounding
    where each term is a mean over images or sees none. Out of memory, a step that may be halved is computed anew in
    twice as many parts, and so are the steps after it.
    """

    def __init__(
        self,
        objective: Objective,
        classifier: nn.Module,
        trained: dict[str, nn.Parameter],
        name: str,
        halve: bool,
        parts: int,
    ) -> None:
        """Args: trained: tensors by name; name: of the run; halve: whether a step may be; parts: to begin with."""
        self.objective, self.trained, self.name, self.halve, self.parts = objective, trained, name, halve, parts
        mixing = [term for term in MIXES_IMAGES if objective.asks_for({term})]
        normed = [m for m in classifier.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
        self.whole = mixing[0] if mixing else "batch norm" if normed else ""

    def __call__(
        self, context: Callable[[slice], Context], images: int
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of a step and each term's value, detached; `context` makes that of some positions of the batch.

        Raises BadValues where nothing that is trained enters the loss, NoMemory where a step that does not fit must
        stay whole because of a term that compares images, or a batch norm.
        """
        while True:
            try:
                return self._in_parts(context, images)
            except torch.OutOfMemoryError as error:
                if self.halve and self.whole:
                    raise NoMemory(
                        f"{self.name}: a step of {images} images does not fit into the memory of the GPU, and with "
                        f"{self.whole} more parts than accumulation ({self.parts}) would be another objective: set "
                        f"precision: bfloat16 in the recipe, lower batch_size, or raise accumulation if you mean that "
                        f"({error})"
                    ) from error
                if not self.halve or self.parts >= images:
                    raise
            self.parts *= 2
            torch.cuda.empty_cache()  # here the failed attempt's tensors are gone
            logger.warning("%s: out of memory; steps are computed in %d parts from now on", self.name, self.parts)

    def _in_parts(
        self, context: Callable[[slice], Context], images: int
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        for tensor in self.trained.values():
            tensor.grad = None
        size = -(-images // self.parts)
        total, sums = torch.zeros(()), {}
        for first in range(0, images, size):
            share = (min(first + size, images) - first) / images
            loss, values = self.objective(context(slice(first, first + size)))
            if not loss.requires_grad:
                raise BadValues(f"{self.name}: no term of the objective depends on what is trained")
            (loss * share).backward()
            total = total + loss.detach() * share
            sums = {term: sums.get(term, 0) + value * share for term, value in values.items()}
        return total, sums
