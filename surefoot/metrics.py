"""Metrics as pure functions of arrays, in percent unless said otherwise. N images, C classes."""

from collections.abc import Callable, Iterable

import numpy as np

from surefoot.files import UserError


def top1(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Share of right predictions; both [N]."""
    return 100 * float(np.mean(predicted == labels))


def mean_per_class(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the classes present in `labels` of the share of right predictions; both [N]."""
    present, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    right = np.bincount(index, weights=predicted == labels, minlength=len(present))
    return 100 * float(np.mean(right / counts))


def macro_f1(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Mean F1 over the classes present in `labels`, as WILDS defines it for iWildCam; both [N]."""
    scores = []
    for label in np.unique(labels):
        hits = np.sum((predicted == label) & (labels == label))
        scores.append(2 * hits / (np.sum(predicted == label) + np.sum(labels == label)))
    return 100 * float(np.mean(scores))


def worst_group(predicted: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> float:
    """Smallest top-1 over the groups present; all [N]. The group '' is left out (FMoW's Other), unless all are it."""
    names, index = np.unique(groups, return_inverse=True)
    shares = np.bincount(index, weights=predicted == labels) / np.bincount(index)
    return 100 * float(shares[names != ""].min() if (names != "").any() else shares.min())


def named_groups(groups: np.ndarray) -> int:
    """Number of groups of some images [N], without ''."""
    return len({*groups} - {""})


def check_groups(sets: Iterable[np.ndarray], where: str) -> None:
    """Raises UserError unless the images of some set are in several groups [N]: the worst of one is top-1 by another
    name, and is right only beside sets that have more."""
    if all(named_groups(groups) < 2 for groups in sets):
        raise UserError(
            f"{where}: metric worst_group needs images of two groups or more, and no eval set has them; choose top1 or "
            "mean_per_class, or give the images groups"
        )


def all_frames(predicted: np.ndarray, labels: np.ndarray, clusters: np.ndarray) -> float:
    """Share of clusters all of whose images are right; all [N] (pm-k of Shankar et al.: frames around an anchor)."""
    _, index = np.unique(clusters, return_inverse=True)
    return 100 * float(np.mean(np.bincount(index, weights=predicted != labels) == 0))


def nll(label_log_probability: np.ndarray) -> float:
    """Mean negative log-likelihood in nats, of the log-probabilities [N] of the labels."""
    return -float(np.mean(label_log_probability))


def ece(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error: mean gap of confidence and accuracy over equal-width bins, weighted by size.

    `confidence` [N] is the probability of the predicted class, `right` [N] whether it is the label (Guo et al. 2017,
    equation 3).
    """
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(index, weights=confidence - right, minlength=bins)
    return 100 * float(np.abs(gaps).sum() / len(confidence))


def accuracy(metric: str, predicted: np.ndarray, labels: np.ndarray, groups: np.ndarray, clusters: np.ndarray) -> float:
    """A metric of predictions alone (those that have intervals), by name; all [N]. Raises KeyError for another one."""
    return ACCURACY[metric](predicted, labels, groups, clusters)


ACCURACY: dict[str, Callable[..., float]] = {
    "top1": lambda predicted, labels, groups, clusters: top1(predicted, labels),
    "mean_per_class": lambda predicted, labels, groups, clusters: mean_per_class(predicted, labels),
    "macro_f1": lambda predicted, labels, groups, clusters: macro_f1(predicted, labels),
    "worst_group": lambda predicted, labels, groups, clusters: worst_group(predicted, labels, groups),
    "all_frames": lambda predicted, labels, groups, clusters: all_frames(predicted, labels, clusters),
}
