"""The weights of a run while it trains: which move, their running average, the best epoch so far."""

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from surefoot.clip import Classifier
from surefoot.layers import named
from surefoot.text import class_rows

if TYPE_CHECKING:
    from surefoot.train import Run


class Weights:
    """A classifier in training, and the text tower where it is trained too."""

    def __init__(self, classifier: Classifier, run: "Run") -> None:
        """Marks what is trained and freezes the rest. Raises UserError when the model has no such part."""
        self.classifier, self.run = classifier, run
        wanted, entry = run.training.train, f"methods.{run.name.split()[0]}.train"
        self.text = run.references.train_text() if "text" in wanted else None
        every = dict(classifier.named_parameters())
        if self.text is not None:
            every |= {f"text.{name}": tensor for name, tensor in self.text.named_parameters()}
        chosen = named(every, wanted, entry)
        for name, tensor in every.items():
            tensor.requires_grad_(name in chosen)
        self.trained: dict[str, nn.Parameter] = {name: tensor for name, tensor in every.items() if name in chosen}
        self.train_mode()
        self.average = [t.detach().clone() for t in self.trained.values()] if run.training.ema else None
        self.best: tuple[float, dict[str, torch.Tensor]] | None = None

    def train_mode(self) -> None:
        """Training mode for an image tower in training that updates the running statistics of its batch norms.

        A batch norm that is not trained keeps its statistics: they belong to the part that stays as it is.
        """
        self.classifier.eval()
        if self.run.recipe.norm_statistics == "update" and any(name.startswith("image.") for name in self.trained):
            self.classifier.image.train()
            trained = {id(tensor) for tensor in self.trained.values()}
            for module in self.classifier.image.modules():
                if isinstance(module, BatchNorm) and not any(id(p) in trained for p in module.parameters()):
                    module.eval()

    @torch.no_grad()
    def after_step(self) -> None:
        """theta_ema = m * theta_ema + (1 - m) * theta."""
        if self.average:
            torch._foreach_lerp_(self.average, list(self.trained.values()), 1 - self.run.training.ema)

    @torch.no_grad()
    def _swap(self) -> None:
        """Exchange the trained tensors and their average."""
        for kept, live in zip(self.average or [], self.trained.values(), strict=False):
            live_copy = live.clone()
            live.copy_(kept)
            kept.copy_(live_copy)

    @torch.no_grad()
    def _derive_head(self) -> None:
        """Rows from a tuned text tower, where the head is not trained (FLYP) or options.head says so."""
        head_is_trained = any(name.startswith("head.") for name in self.trained)
        if self.text is None or (head_is_trained and self.run.training.options.head == "trained"):
            return
        rows = class_rows(self.text.encode, self.run.references.tokens)
        scale = self.text.clip.logit_scale.exp() if self.classifier.logit_scale is None else 1
        self.classifier.head.weight.copy_(rows * scale)
        if self.classifier.head.bias is not None:
            self.classifier.head.bias.zero_()

    @torch.no_grad()
    def watch(self) -> float:
        """Value of the weights as they would be kept now; the best so far are remembered."""
        self._swap()
        head = {key: tensor.clone() for key, tensor in self.classifier.head.state_dict().items()}
        self._derive_head()
        self.classifier.eval()
        value = self.run.watch(self.classifier)
        if self.best is None or value > self.best[0]:
            self.best = (value, {k: t.detach().clone() for k, t in self.classifier.state_dict().items()})
        self.classifier.head.load_state_dict(head)  # training goes on with its own
        self.train_mode()
        self._swap()
        return value

    @torch.no_grad()
    def finish(self) -> None:
        """Leave the classifier with the weights that are kept, in evaluation mode."""
        self._swap()
        self._derive_head()
        if self.best:
            self.classifier.load_state_dict(self.best[1])
        self.classifier.eval()

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""
        text = self.text.state_dict() if self.text is not None else None
        return {"classifier": self.classifier.state_dict(), "text": text, "average": self.average, "best": self.best}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.classifier.load_state_dict(state["classifier"])
        if self.text is not None:
            self.text.load_state_dict(state["text"])
        device = next(self.classifier.parameters()).device
        if state["average"]:
            self.average = [tensor.to(device) for tensor in state["average"]]
        if state["best"]:
            value, best = state["best"]
            self.best = (value, {key: tensor.to(device) for key, tensor in best.items()})
