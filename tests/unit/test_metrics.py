"""Metrics against hand-computed cases and against independent implementations."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss
from torchmetrics.functional.classification import multiclass_calibration_error
from wilds.common.metrics.all_metrics import F1, Accuracy

from surefoot import metrics

LABELS = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 0, 1, 1, 0, 3])
GROUPS = np.array(["a", "a", "b", "b", "b", "a"])


@pytest.fixture(params=range(5))
def case(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities [N, C], labels [N] (class 6 never occurs), groups [N], at random."""
    rng = np.random.default_rng(request.param)
    labels = rng.choice(6, size=400, p=[0.4, 0.3, 0.15, 0.1, 0.04, 0.01])
    logits = 1.5 * rng.normal(size=(400, 7))
    logits[np.arange(400), labels] += 1.5
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return probabilities, labels, rng.choice(["a", "b", "c"], size=400, p=[0.7, 0.2, 0.1])


def test_top1_by_hand() -> None:
    assert metrics.top1(PREDICTED, LABELS) == pytest.approx(50)


def test_mean_per_class_by_hand_counts_classes_present_once_each() -> None:
    assert metrics.mean_per_class(PREDICTED, LABELS) == pytest.approx(100 * (2 / 3 + 1 / 2 + 0) / 3)


def test_macro_f1_by_hand_leaves_out_classes_without_images() -> None:
    # class 0: P 2/3, R 2/3; class 1: P 1/2, R 1/2; class 2: never found; class 3 has no image.
    assert metrics.macro_f1(PREDICTED, LABELS) == pytest.approx(100 * (2 / 3 + 1 / 2 + 0) / 3)


def test_worst_group_by_hand() -> None:
    assert metrics.worst_group(PREDICTED, LABELS, GROUPS) == pytest.approx(100 / 3)


def test_nll_by_hand() -> None:
    assert metrics.nll(np.log([0.5, 0.25])) == pytest.approx((np.log(2) + np.log(4)) / 2)


def test_ece_by_hand() -> None:
    # Bin (0.8, 0.8667] holds two images, mean confidence 0.84, accuracy 0.5; bin (0.5333, 0.6] one wrong at 0.55.
    confidence, right = np.array([0.83, 0.85, 0.55]), np.array([True, False, False])
    assert metrics.ece(confidence, right) == pytest.approx(100 * (2 / 3 * 0.34 + 1 / 3 * 0.55))


def test_ece_puts_an_edge_into_the_lower_bin_and_keeps_0_and_1() -> None:
    # Two bins: 0.5 joins 0.4 (Guo et al.: bins are open on the left), where the errors cancel.
    assert metrics.ece(np.array([0.5, 0.4]), np.array([True, False]), bins=2) == pytest.approx(5)
    assert metrics.ece(np.array([0.0, 1.0]), np.array([False, True])) == 0


def test_perfect_and_hopeless_predictions() -> None:
    wrong = (LABELS + 1) % 3
    for metric in (metrics.top1, metrics.mean_per_class, metrics.macro_f1):
        assert metric(LABELS, LABELS) == 100
        assert metric(wrong, LABELS) == 0
    assert metrics.worst_group(LABELS, LABELS, GROUPS) == 100


def test_accuracies_agree_with_scikit_learn_and_wilds(case: tuple) -> None:
    probabilities, labels, _ = case
    predicted = probabilities.argmax(1)
    wilds = Accuracy().compute(torch.from_numpy(predicted), torch.from_numpy(labels))["acc_avg"]
    assert metrics.top1(predicted, labels) == pytest.approx(100 * wilds)
    balanced = balanced_accuracy_score(labels, predicted)
    assert metrics.mean_per_class(predicted, labels) == pytest.approx(100 * balanced)


def test_macro_f1_agrees_with_scikit_learn_and_wilds(case: tuple) -> None:
    probabilities, labels, _ = case
    predicted = probabilities.argmax(1)
    present = f1_score(labels, predicted, labels=np.unique(labels), average="macro")
    wilds = F1(average="macro").compute(torch.from_numpy(predicted), torch.from_numpy(labels))["F1-macro_all"]
    assert metrics.macro_f1(predicted, labels) == pytest.approx(100 * present)
    assert metrics.macro_f1(predicted, labels) == pytest.approx(100 * wilds)


def test_worst_group_agrees_with_pandas(case: tuple) -> None:
    probabilities, labels, groups = case
    predicted = probabilities.argmax(1)
    table = pd.DataFrame({"right": predicted == labels, "group": groups})
    assert metrics.worst_group(predicted, labels, groups) == pytest.approx(
        100 * table.groupby("group").right.mean().min()
    )


def test_nll_agrees_with_scikit_learn(case: tuple) -> None:
    probabilities, labels, _ = case
    own = metrics.nll(np.log(probabilities[np.arange(len(labels)), labels]))
    assert own == pytest.approx(log_loss(labels, probabilities, labels=range(7)))


def test_ece_agrees_with_torchmetrics(case: tuple) -> None:
    probabilities, labels, _ = case
    own = metrics.ece(probabilities.max(1), probabilities.argmax(1) == labels)
    other = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(labels), num_classes=7, n_bins=15, norm="l1"
    )
    assert own == pytest.approx(100 * float(other), rel=1e-5)


def test_worst_group_leaves_the_unnamed_group_out() -> None:
    predicted, labels = np.array([0, 1, 0, 0]), np.array([0, 0, 1, 0])
    groups = np.array(["asia", "asia", "", ""])
    assert metrics.worst_group(predicted, labels, groups) == 50
    assert metrics.worst_group(predicted, labels, np.array(["a", "a", "b", "b"])) == 50
    assert metrics.worst_group(predicted, labels, np.array(["", "", "", ""])) == 50


def test_all_frames_counts_a_cluster_only_when_every_frame_is_right() -> None:
    predicted, labels = np.array([1, 1, 2, 3, 3, 0]), np.array([1, 1, 2, 3, 0, 0])
    clusters = np.array(["a", "a", "b", "c", "c", "d"])
    assert metrics.all_frames(predicted, labels, clusters) == 75
