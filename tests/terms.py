"""What the tests of the terms share: random numbers, a batch, and the value of a term on it."""

import numpy as np
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from surefoot.clip import Classifier
from surefoot.method_entries import Options, Training
from surefoot.objective import TERMS, Context
from surefoot.references import References
from tests.tiny import Bench

SEEDS = st.integers(0, 2**31)
FAST = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
# The tiny text tower sees 12 tokens.
SMALL = Training(options=Options(lipsum_texts=5, lipsum_length=6, kd_temperature=3, carft_temperature=2))


def normal(seed: int, *shape: int, size: float = 1) -> torch.Tensor:
    """Normal numbers fixed by a seed."""
    return size * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def batch(bench: Bench, count: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    """Preprocessed training images of all classes, and their labels."""
    examples = bench.data.training(0)
    chosen = np.arange(len(examples))[:: len(examples) // count][:count]
    return bench.preprocess(examples.images(chosen)), torch.from_numpy(examples.labels[chosen])


def value(term: str, classifier: Classifier, bench: Bench, known: References, step: int = 0) -> torch.Tensor:
    """A term of a batch of training images."""
    return TERMS[term](
        Context(classifier, *batch(bench), trained=dict(classifier.named_parameters()), references=known, step=step)
    )
