"""Logistic regression on encoded features, exactly solved. N images, C classes, D embedding."""

import torch
import torch.nn.functional as F

from surefoot.clip import Classifier
from surefoot.files import UserError
from surefoot.method_entries import Augmentation
from surefoot.passes import encode
from surefoot.train import History, Run

STEPS, TOLERANCE = 1000, 1e-9
PART = 65536  # images whose logits are in memory at once: those of ImageNet's training set would take 10 GB


def solve(classifier: Classifier, run: Run) -> History:
    """Replace the head by the logistic regression on unit-norm features, by full-batch L-BFGS from zero.

    Minimises mean cross-entropy + weight_decay / 2 * |w|^2 over the effective rows w (logit scale included; a bias is
    not penalised). scikit-learn's C is 1 / (N * weight_decay). Raises UserError when more than the head is trained, the
    objective is another, or the images change.
    """
    if run.training.train != ["head"] or run.training.objective != {"ce": 1.0}:
        raise UserError(f"{run.name}: optimizer lbfgs is for train: [head] with objective {{ce: 1}} only")
    if run.training.ema or run.training.rates != "one" or run.recipe.keep != "last":
        raise UserError(f"{run.name}: optimizer lbfgs has one exact solution; leave out ema, rates and keep")
    if run.recipe.augmentation != Augmentation():
        raise UserError(f"{run.name}: optimizer lbfgs needs images that do not change; set augmentation: {{}}")
    features = encode(classifier, run.examples, run.preprocess, run.recipe.batch_size)
    labels = torch.from_numpy(run.examples.labels).to(features.device)
    weight = torch.zeros_like(classifier.head.weight, dtype=torch.double, requires_grad=True)
    bias = torch.zeros(len(weight), dtype=torch.double, device=features.device)
    bias.requires_grad_(classifier.head.bias is not None)
    tensors = [tensor for tensor in (weight, bias) if tensor.requires_grad]
    optimizer = torch.optim.LBFGS(
        tensors, max_iter=STEPS, tolerance_grad=TOLERANCE, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def cross_entropy(smoothing: float, gradients: bool) -> torch.Tensor:
        total = torch.zeros((), dtype=torch.double, device=features.device)
        for x, y in zip(features.split(PART), labels.split(PART), strict=True):
            share = len(y) / len(labels)
            part = share * F.cross_entropy(x.double() @ weight.T + bias, y, label_smoothing=smoothing)
            if gradients:
                part.backward()
            total += part.detach()
        return total

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = cross_entropy(run.recipe.label_smoothing, gradients=True)
        penalty = run.recipe.weight_decay / 2 * weight.square().sum()
        penalty.backward()
        return value + penalty.detach()

    final = optimizer.step(loss)
    if not torch.isfinite(loss()):
        raise UserError(f"{run.name}: the loss is {float(final)}; raise weight_decay")
    with torch.no_grad():
        scale = 1.0 if classifier.logit_scale is None else float(classifier.logit_scale.exp())
        classifier.head.weight.copy_(weight / scale)
        if classifier.head.bias is not None:
            classifier.head.bias.copy_(bias / scale)
        return History(terms=[{"ce": float(cross_entropy(0.0, gradients=False))}])
