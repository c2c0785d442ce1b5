"""Passes over a set of images without gradients and without changes. N images, D embedding."""

import numpy as np
import torch

from surefoot.clip import Classifier, Preprocess
from surefoot.data import Examples

BATCH = 256  # needs little memory without gradients


@torch.no_grad()
def encode(classifier: Classifier, examples: Examples, preprocess: Preprocess, batch: int) -> torch.Tensor:
    """Unit-norm features [N, D]."""
    device = next(classifier.parameters()).device
    return torch.cat([classifier.encode(preprocess(examples.images(i).to(device))) for i in examples.batches(batch)])


@torch.no_grad()
def predict(classifier: Classifier, examples: Examples, preprocess: Preprocess, batch: int = BATCH) -> np.ndarray:
    """Arg-max [N]."""
    device = next(classifier.parameters()).device
    found = [classifier(preprocess(examples.images(i).to(device))).argmax(-1) for i in examples.batches(batch)]
    return torch.cat(found).cpu().numpy()
