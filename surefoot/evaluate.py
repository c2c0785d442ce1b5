"""Evaluation along the line between two models: one pass over an eval set scores every alpha.

A alphas, B batch, C classes, N images. Two ways to combine the ends: `weights` interpolates them (WiSE-FT), `outputs`
averages their probabilities (output-space ensemble; WiSE-FT's code has none, so probabilities follow VRF's).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from surefoot import metrics
from surefoot.augment import change, draws
from surefoot.clip import Classifier, Preprocess, State, convention_of, load_state, tensor_names, zero_shot_classifier
from surefoot.data import Data, Examples
from surefoot.device import pick_device
from surefoot.files import write_json, write_parquet
from surefoot.interpolate import check_alike, interpolate
from surefoot.method_entries import Augmentation
from surefoot.names import prediction_column
from surefoot.records import load_trained, metered, run_digest
from surefoot.seeds import torch_stream

SPACES = ("weights", "outputs")
RENDER = Augmentation(rotate=8, shift=2 / 48)


class Line:
    """The models (1 - alpha) * theta0 + alpha * theta1, run one after the other in one classifier."""

    def __init__(self, classifier: Classifier, theta0: State, theta1: State, alphas: list[float]) -> None:
        check_alike(theta0, theta1)
        self.classifier, self.alphas = classifier, alphas
        self.theta0, self.theta1 = theta0, theta1
        self.moving = [key for key in theta0 if not torch.equal(theta0[key], theta1[key])]
        classifier.load_state_dict(theta0)
        self.live = dict(classifier.state_dict())  # shares memory with the classifier

    @property
    def linear_in_alpha(self) -> bool:
        """Whether only the head moves, so that logits on the line are the same mixture of the ends' logits."""
        return all(key.startswith("head.") for key in self.moving)

    @torch.no_grad()
    def logits(self, images: torch.Tensor) -> Iterator[torch.Tensor]:
        """Logits [B, C] of preprocessed images, alpha by alpha."""
        if self.linear_in_alpha:
            features = self.classifier.encode(images)
            ends = []
            for theta in (self.theta0, self.theta1):
                self._move({key: theta[key] for key in self.moving})
                ends.append(self.classifier.classify(features))
            yield from (interpolate({"": ends[0]}, {"": ends[1]}, alpha)[""] for alpha in self.alphas)
            return
        for alpha in self.alphas:
            self._move_to(alpha)
            yield self.classifier(images)

    def _move_to(self, alpha: float) -> None:
        """`interpolate` into the classifier's own memory: new tensors for every alpha would cost more than the sums."""
        for key in self.moving:
            start, end = self.theta0[key], self.theta1[key]
            if 0 < alpha < 1 and start.is_floating_point():
                torch.lerp(start, end, alpha, out=self.live[key])
            else:
                self.live[key].copy_(interpolate({"": start}, {"": end}, alpha)[""])

    def _move(self, tensors: State) -> None:
        for key, tensor in tensors.items():
            self.live[key].copy_(tensor)


@dataclass(frozen=True)
class Scores:
    """Per space, alpha and image: arg-max [A, N], its probability [A, N] and the label's log-probability [A, N]."""

    predicted: dict[str, np.ndarray]
    confidence: dict[str, np.ndarray]
    label_log_probability: dict[str, np.ndarray]


def score(
    line: Line,
    examples: Examples,
    preprocess: Preprocess,
    batch: int,
    renders: int,
    bar: str,
    columns: tuple[tuple[int, ...], ...] = (),
) -> Scores:
    """Score every alpha in one pass; images are read and moved to the device once per batch.

    With renders > 1 each image is scored again under small fixed changes (2 of 48 pixels, 8 degrees): N grows to
    renders * N, render by render. An image's changes depend on its position and the render alone, not on the batch.
    `columns` are those of an EvalSet.
    """
    device = next(line.classifier.parameters()).device
    found = {space: [[], [], []] for space in SPACES}
    work = ((render, *loaded) for render in range(renders) for loaded in examples.loaded(batch))
    drawn = [draws(len(examples), torch_stream(0, "render", render)) for render in range(1, renders)]
    for render, indices, images in tqdm(work, desc=bar, leave=False, total=renders * math.ceil(len(examples) / batch)):
        x = preprocess.scale(images.to(device))
        if render:
            x = change(x, RENDER, drawn[render - 1][indices])
        labels = torch.from_numpy(examples.labels[indices]).to(device)
        scored = torch.stack([project(z, columns).log_softmax(-1) for z in line.logits(preprocess.normalise(x))])
        mixed = torch.stack([_mix(scored[0], scored[-1], alpha) for alpha in line.alphas])
        right = right_labels(examples.labels[indices], examples.also[indices], scored.shape[-1]).to(device)
        for space, log_p in zip(SPACES, (scored, mixed), strict=True):
            confidence, predicted = log_p.max(-1)
            hit = right.expand(len(log_p), -1, -1).gather(-1, predicted[..., None])[..., 0]
            predicted = torch.where(hit, labels, predicted)
            label = log_p.masked_fill(~right, -math.inf).logsumexp(-1)
            for kept, value in zip(found[space], (predicted, confidence.exp(), label), strict=True):
                kept.append(value.cpu().numpy())
    joined = [{space: np.concatenate(found[space][i], axis=1) for space in SPACES} for i in range(3)]
    return Scores(*joined)


def right_labels(labels: np.ndarray, also: np.ndarray, classes: int) -> torch.Tensor:
    """Which labels are right, bool [B, C], of `labels` [B] and `also` [B] (further ones, as text between blanks).

    A prediction of any of them is recorded as the label, so that metrics need to know one only.
    """
    right = torch.zeros(len(labels), classes, dtype=torch.bool)
    right[torch.arange(len(labels)), torch.from_numpy(labels)] = True
    for position in np.flatnonzero(also):
        right[position, [int(label) for label in also[position].split()]] = True
    return right


def project(logits: torch.Tensor, columns: tuple[tuple[int, ...], ...]) -> torch.Tensor:
    """Logits [B, K] of K labels, each the largest of its columns in [B, C]; without columns the logits themselves.

    A label that has no column gets 0, as in WiSE-FT's code (YTBB-Robust has such).
    """
    if not columns:
        return logits
    ids = torch.tensor([c for group in columns for c in group], device=logits.device)
    owner = torch.tensor([k for k, group in enumerate(columns) for _ in group], device=logits.device)
    start = torch.tensor([-math.inf if group else 0.0 for group in columns], device=logits.device)
    start = start.to(logits.dtype).repeat(len(logits), 1)
    return start.scatter_reduce(1, owner.expand(len(logits), -1), logits[:, ids], reduce="amax")


def _mix(start: torch.Tensor, end: torch.Tensor, alpha: float) -> torch.Tensor:
    """Log of (1 - alpha) * exp(start) + alpha * exp(end), for log-probabilities of any size."""
    if alpha in (0, 1):
        return end if alpha else start
    return torch.logaddexp(start + math.log1p(-alpha), end + math.log(alpha))


METRICS: dict[str, Callable[..., float]] = {
    **{
        name: lambda s, n=name: metrics.accuracy(n, s.predicted, s.labels, s.groups, s.clusters)
        for name in metrics.ACCURACY
    },
    "nll": lambda s: metrics.nll(s.label_log_probability),
    "ece": lambda s: metrics.ece(s.confidence, s.predicted == s.labels),
}


@dataclass(frozen=True)
class Scored:
    """One model on one eval set, as the metrics see it; all arrays [N]."""

    predicted: np.ndarray
    confidence: np.ndarray
    label_log_probability: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    clusters: np.ndarray


def evaluate_line(
    line: Line, data: Data, preprocess: Preprocess, seed: int, batch: int, renders: int, name: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All eval sets of a task under one seed.

    Returns metric rows (seed, eval_set, role, space, alpha, metric, value, n) and per-image rows (seed, eval_set,
    cluster, group, label, and the arg-max per space and alpha in columns such as `weights_0.500`).
    """
    rows, tables = [], []
    for eval_set in data.task.eval_sets:
        examples = data.examples(eval_set.parts, seed)
        scores = score(line, examples, preprocess, batch, renders, f"{name} {eval_set.name}", eval_set.columns)
        labels, groups, clusters = (np.tile(v, renders) for v in (examples.labels, examples.groups, examples.clusters))
        columns = {
            "seed": seed,
            "eval_set": eval_set.name,
            "role": eval_set.role,
            "cluster": clusters,
            "group": groups,
            "label": labels,
        }
        for space in SPACES:
            for i, alpha in enumerate(line.alphas):
                predicted = scores.predicted[space][i]
                columns[prediction_column(space, alpha)] = predicted.astype(np.int32)
                seen = Scored(
                    predicted,
                    scores.confidence[space][i],
                    scores.label_log_probability[space][i],
                    labels,
                    groups,
                    clusters,
                )
                for metric, function in METRICS.items():
                    rows.append((seed, eval_set.name, eval_set.role, space, alpha, metric, function(seen), len(labels)))
        tables.append(pd.DataFrame(columns))
    names = ["seed", "eval_set", "role", "space", "alpha", "metric", "value", "n"]
    return pd.DataFrame(rows, columns=names), pd.concat(tables, ignore_index=True)


@dataclass(frozen=True)
class Evaluation:
    """What one evaluation found, and what it cost."""

    metrics: pd.DataFrame
    predictions: pd.DataFrame
    cost: dict

    def write(self, metrics: Path, predictions: Path, meter: Path) -> None:
        """Write the three files, atomically."""
        write_parquet(metrics, self.metrics)
        write_parquet(predictions, self.predictions)
        write_json(meter, self.cost)


def evaluate_runs(
    model: Path,
    head: Path,
    starts: list[Path],
    ends: list[Path],
    data: Data,
    name: str,
    seeds: list[int],
    alphas: list[float],
    batch: int,
    renders: int,
) -> Evaluation:
    """Evaluate all seeds of a method along the line from a start to an end.

    Args:
        model, head: model folder and zero-shot head.
        starts: weights at alpha 0 per seed; empty: the zero-shot model.
        ends: weights at alpha 1 per seed; empty: nothing was trained, so alpha 0 is the only model.
        name: of the method in the records.

    Metric rows carry task, model, method and the digests of the runs that enter (none for the zero-shot model) beside
    the columns of `evaluate_line`.
    """
    device = pick_device()
    convention = convention_of(tensor_names(ends[0])) if ends else None
    classifier = zero_shot_classifier(model, load_state(head), convention).to(device)
    data.check_transform(Preprocess.of(model).size, model)
    zero_shot = {key: tensor.clone() for key, tensor in classifier.state_dict().items()}
    preprocess = Preprocess.of(model)
    tables, predictions = [], []
    images = 0
    with metered(0) as cost:
        for position, seed in enumerate(seeds):
            theta0 = _on(device, load_trained(starts[position])) if starts else zero_shot
            theta1 = _on(device, load_trained(ends[position])) if ends else zero_shot
            line = Line(classifier, theta0, theta1, alphas if ends else [0.0])
            table, per_image = evaluate_line(line, data, preprocess, seed, batch, renders, f"{name} seed {seed}")
            first, last = (_digest(runs, position) for runs in (starts, ends))
            middle = "+".join(filter(None, (first, last)))
            tables.append(table.assign(run=table["alpha"].map({0.0: first, 1.0: last}).fillna(middle)))
            predictions.append(per_image)
            images += len(per_image)
    cost["images_per_second"] = round(images * len(line.alphas) / cost["seconds"], 1)
    metric_rows = pd.concat(tables, ignore_index=True)
    metric_rows.insert(0, "task", data.task.name)
    metric_rows.insert(1, "model", model.name)
    metric_rows.insert(2, "method", name)
    return Evaluation(metric_rows, pd.concat(predictions, ignore_index=True), cost)


def _digest(runs: list[Path], position: int) -> str:
    """Digest of the run that an end of the line is; the zero-shot model is none."""
    return run_digest(runs[position].with_name("record.json")) if runs else ""


def _on(device: torch.device, state: State) -> State:
    return {key: tensor.to(device) for key, tensor in state.items()}
