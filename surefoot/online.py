"""Unsupervised online adaptation: MEMO's marginal entropy, one test image at a time, without resetting the weights.

Lee et al. 2023 (Surgical Fine-Tuning), the unsupervised variant; loss of Zhang et al. 2022 (MEMO). B copies, C classes.
"""

import math
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from surefoot import config
from surefoot.augment import augment
from surefoot.clip import Classifier, Preprocess
from surefoot.data import Examples
from surefoot.layers import named
from surefoot.seeds import torch_stream
from surefoot.surgical import Case, Sources


def marginal_entropy(logits: torch.Tensor) -> torch.Tensor:
    """Entropy in nats of the mean over B copies of softmax(logits [B, C]) (MEMO, equation 1)."""
    log_p = logits.log_softmax(-1).logsumexp(0) - math.log(len(logits))
    return -(log_p.exp() * log_p).sum()


def stream(
    classifier: Classifier,
    examples: Examples,
    preprocess: Preprocess,
    training: config.Training,
    recipe: config.Recipe,
    copies: int,
    seed: int,
    entry: str,
) -> np.ndarray:
    """Predictions [N] on a stream of images, each after the step that the image itself causes; labels are not read.

    The classifier is changed in place. A method that trains nothing only predicts.
    """
    device = next(classifier.parameters()).device
    classifier.eval()
    trained = []
    if training.train:
        chosen = named([name for name, _ in classifier.named_parameters()], training.train, f"{entry}.train")
        for name, tensor in classifier.named_parameters():
            tensor.requires_grad_(name in chosen)
            trained += [tensor] if name in chosen else []
    optimizer = torch.optim.SGD(trained, lr=recipe.learning_rate, weight_decay=recipe.weight_decay) if trained else None
    found = []
    for position in examples.shuffled(1, seed, 0):
        x = preprocess.scale(examples.images(position).to(device))
        if optimizer:
            changes = torch_stream(seed, "online", int(position[0]))
            batch = preprocess.normalise(augment(x.repeat(copies, 1, 1, 1), recipe.augmentation, changes))
            optimizer.zero_grad(set_to_none=True)
            marginal_entropy(classifier(batch)).backward()
            optimizer.step()
        with torch.no_grad():
            found.append((int(position[0]), int(classifier(preprocess.normalise(x)).argmax())))
    predicted = np.empty(len(examples), np.int64)
    for position, label in found:
        predicted[position] = label
    return predicted


def adapt_online(
    sources: Sources, weights: dict[int, Any], rates: list[float], copies: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Stream target_test of every target and seed through the source model.

    The rate is the one with the highest accuracy on a stream of target_val, the only use of labels.

    Returns trials (seed, target, learning_rate, validation, chosen) and per-image rows (seed, target, cluster, label,
    predicted).
    """
    data, trials, tables = sources.data, [], []
    training, recipe, preprocess = sources.training, sources.recipe, sources.preprocess
    cases = [Case(target, seed, 1) for target in data.task.targets for seed in weights]
    for case in tqdm(cases, desc=f"{sources.name} online on {data.task.name}"):
        validation, test = (sources.examples(case, f"target_{part}") for part in ("val", "test"))
        where = {"seed": case.seed, "target": case.target.name}

        def run(examples: Examples, rate: float, seed: int = case.seed) -> np.ndarray:
            how = recipe.model_copy(update={"learning_rate": rate})
            model, entry = sources.load(weights[seed]), f"methods.{sources.name}"
            return stream(model, examples, preprocess, training, how, copies, seed, entry)

        tried = rates if training.train else rates[:1]
        values = [sources.metric(run(validation, rate), validation.labels) for rate in tried]
        best = int(np.argmax(values))
        trials += [
            where | {"learning_rate": rate, "validation": value, "chosen": number == best}
            for number, (rate, value) in enumerate(zip(tried, values, strict=True))
        ]
        columns = {"cluster": test.clusters, "label": test.labels, "predicted": run(test, tried[best])}
        tables.append(pd.DataFrame({**where, **columns}))
    return pd.DataFrame(trials), pd.concat(tables, ignore_index=True)
