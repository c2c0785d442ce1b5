"""Unsupervised online adaptation: MEMO's marginal entropy, one test image at a time, without resetting the weights.

Lee et al. 2023 (Surgical Fine-Tuning), the unsupervised variant; loss of Zhang et al. 2022 (MEMO). B copies, C classes.
"""

import math
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from surefoot.augment import augment
from surefoot.clip import Classifier, Preprocess
from surefoot.data import Examples
from surefoot.layers import named
from surefoot.method_entries import Recipe, Training
from surefoot.resume import Resumable, Saves
from surefoot.seeds import torch_stream
from surefoot.surgical import Case, Sources, States


def marginal_entropy(logits: torch.Tensor) -> torch.Tensor:
    """Entropy in nats of the mean over B copies of softmax(logits [B, C]) (MEMO, equation 1)."""
    log_p = logits.log_softmax(-1).logsumexp(0) - math.log(len(logits))
    return -(log_p.exp() * log_p).sum()


def stream(
    classifier: Classifier,
    examples: Examples,
    preprocess: Preprocess,
    training: Training,
    recipe: Recipe,
    copies: int,
    seed: int,
    entry: str,
    progress: Resumable | None = None,
    name: str = "",
) -> np.ndarray:
    """Predictions [N] on a stream of images, each after the step that the image itself causes; labels are not read.

    The classifier is changed in place. A method that trains nothing only predicts. With `progress`, a stream that was
    killed goes on from its state saved last under `name`, and ends with the same bytes.
    """
    device = next(classifier.parameters()).device
    classifier.eval()
    trained, found = {}, []
    if training.train:
        chosen = named([key for key, _ in classifier.named_parameters()], training.train, f"{entry}.train")
        for key, tensor in classifier.named_parameters():
            tensor.requires_grad_(key in chosen)
            trained |= {key: tensor} if key in chosen else {}
    if progress and (state := progress.load(f"{name}.pt")):
        found = state["found"]
        classifier.load_state_dict(state["trained"], strict=False)
    # Without momentum the weights are the whole state.
    how = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}
    optimizer = torch.optim.SGD(trained.values(), **how) if trained else None

    def state_now() -> dict[str, Any]:
        return {"trained": {key: tensor.detach() for key, tensor in trained.items()}, "found": found}

    with Saves(progress, f"{name}.pt") as saves:
        for position in islice(examples.shuffled(1, seed, 0), len(found), None):
            x = preprocess.scale(examples.images(position).to(device))
            if optimizer:
                changes = torch_stream(seed, "online", int(position[0]))
                batch = preprocess.normalise(augment(x.repeat(copies, 1, 1, 1), recipe.augmentation, changes))
                optimizer.zero_grad(set_to_none=True)
                marginal_entropy(classifier(batch)).backward()
                optimizer.step()
            with torch.no_grad():
                found.append((int(position[0]), int(classifier(preprocess.normalise(x)).argmax())))
            saves.after_step(state_now, last=len(found) == len(examples))
    predicted = np.empty(len(examples), np.int64)
    for position, label in found:
        predicted[position] = label
    return predicted


def adapt_online(
    sources: Sources, weights: dict[int, Any], rates: list[float], copies: int, states: States
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Stream target_test of every target and seed through the source model.

    The rate is the one with the highest accuracy on a stream of target_val, the only use of labels. `states` holds
    finished cases and the states of unfinished streams.

    Returns trials (seed, target, learning_rate, validation, chosen) and per-image rows (seed, target, cluster, label,
    predicted).
    """
    cases = [Case(target, seed, 1) for target in sources.data.task.targets for seed in weights]
    bar = tqdm(cases, desc=f"{sources.name} online on {sources.data.task.name}")
    found = [_adapt_case(sources, case, weights[case.seed], rates, copies, states(case)) for case in bar]
    tables = [pd.DataFrame(result["predictions"]) for result in found]
    return pd.DataFrame([row for result in found for row in result["trials"]]), pd.concat(tables, ignore_index=True)


def _adapt_case(
    sources: Sources, case: Case, weights: Any, rates: list[float], copies: int, progress: Resumable
) -> dict[str, Any]:
    """Trials and predictions of one case; a finished one is read from its saved state."""
    if found := progress.load(f"{case}.pt"):
        return found
    parts = {part: sources.examples(case, f"target_{part}") for part in ("val", "test")}
    streams = []

    def run(part: str, rate: float) -> np.ndarray:
        recipe = sources.recipe.model_copy(update={"learning_rate": rate})
        streams.append(f"{case} {part} rate {rate:g}")
        how = (sources.preprocess, sources.training, recipe, copies, case.seed, f"methods.{sources.name}")
        return stream(sources.load(weights), parts[part], *how, progress, streams[-1])

    tried = rates if sources.training.train else rates[:1]
    values = [sources.value(run("val", rate), parts["val"]) for rate in tried]
    best = int(np.argmax(values))
    where, test = {"seed": case.seed, "target": case.target.name}, parts["test"]
    trials = [
        where | {"learning_rate": rate, "validation": value, "chosen": number == best}
        for number, (rate, value) in enumerate(zip(tried, values, strict=True))
    ]
    columns = {"cluster": test.clusters.tolist(), "label": test.labels.tolist(), "group": test.groups.tolist()}
    predictions = where | columns | {"predicted": run("test", tried[best]).tolist()}
    found = {"trials": trials, "predictions": predictions}
    progress.save(f"{case}.pt", found)
    for name in streams:
        progress.forget(f"{name}.pt")
    return found
