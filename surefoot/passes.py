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
    return torch.cat([classifier.encode(preprocess(images.to(device))) for _, images in examples.loaded(batch)])


@torch.no_grad()
def predict(classifier: Classifier, examples: Examples, preprocess: Preprocess, batch: int = BATCH) -> np.ndarray:
    """Arg-max [N]."""
    device = next(classifier.parameters()).device
    found = [classifier(preprocess(images.to(device))).argmax(-1) for _, images in examples.loaded(batch)]
    return torch.cat(found).cpu().numpy()
