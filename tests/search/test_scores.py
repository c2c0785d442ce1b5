"""What scores the trials of a search: images, metrics, and no test image."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from surefoot import finetune, metrics, search
from surefoot.data import Data, Examples
from surefoot.files import UserError
from surefoot.learned import learned_entry, read_objective
from surefoot.resume import Resumable
from surefoot.search import validation_images
from surefoot.tasks import Part, Selection
from surefoot.trials import read_trials, write_objective
from tests.search.searching import BOTH, Enter, entry, rows, run
from tests.tiny import RECIPE, TASK, Bench, select

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@pytest.mark.parametrize(("images", "each"), [(3, 1), (5, 1), (6, 2), (9, 3), (11, 3), (None, None), (1000, None)])
def test_the_validation_images_are_spread_evenly_over_the_classes(data: Data, images: int, each: int) -> None:
    whole = data.examples(TASK.parts_of("ood_val"), 0)
    each = each or len(whole) // 3
    found = validation_images(data, 0, "ood_val", images, True)
    assert np.bincount(found.labels).tolist() == [each] * 3
    assert rows(found) <= rows(whole) and len(rows(found)) == 3 * each


def test_a_class_with_few_images_gives_all_of_them() -> None:
    labels = np.array([0] * 50 + [1] * 2 + [2] * 50)
    chosen = search._draw(labels, 30, True, np.random.default_rng(0))
    assert len(set(chosen)) == len(chosen) and np.bincount(labels[chosen]).tolist() == [10, 2, 10]


def test_images_may_be_drawn_uniformly_as_autofts_released_code_does() -> None:
    """Of 100 images, 90 of one class: ten uniform ones hold about nine of it, ten balanced ones five."""
    labels = np.array([0] * 90 + [1] * 10)
    for balanced, expected in ((False, 9), (True, 5)):
        drawn = [search._draw(labels, 10, balanced, np.random.default_rng(seed)) for seed in range(200)]
        assert all(len(set(chosen)) == 10 for chosen in drawn)
        counts = [int((labels[chosen] == 0).sum()) for chosen in drawn]
        assert np.mean(counts) == pytest.approx(expected, abs=0.2) and (len(set(counts)) == 1) is balanced


def test_the_switch_reaches_the_validation_images(enter: Enter) -> None:
    one, other = (enter(entry(images=7, balanced=b)).validation for b in (True, False))
    assert (len(one), len(other)) == (6, 7)


def test_the_validation_images_are_the_same_for_every_trial_and_space_of_a_seed(enter: Enter) -> None:
    arena, others = enter(entry(images=9)), entry(BOTH, images=9, sampler="qmc", metric="nll", trial={"steps": 1})
    first = rows(arena.validation)
    arena.run(0, {"learning_rate": 1e-2, "objective.hinge?": False})
    assert rows(arena.validation) == first == rows(enter(others).validation)
    assert first != rows(enter(entry(images=9), seed=3).validation), "seed 3 has the fold of seed 0, and draws anew"


def test_they_come_from_the_set_and_the_fold_that_are_asked_for(enter: Enter, data: Data) -> None:
    for seed in (0, 1, 2):
        for eval_set in ("id_val", "ood_val"):
            expected = data.examples(TASK.parts_of(eval_set), seed)
            assert rows(enter(entry(eval_set=eval_set), seed).validation) == rows(expected)


@pytest.mark.parametrize("eval_set", ["id_test", "ood_test", "noisy", "train"])
def test_a_set_that_does_not_validate_is_refused(data: Data, eval_set: str) -> None:
    with pytest.raises(ValueError, match=f"selection was handed {eval_set}"):
        validation_images(data, 0, eval_set, None, True)


def with_selection(data: Data, change: Callable[[Selection], Selection]) -> Data:
    """The tiny task with other rows on validation."""

    def other(part: Part, table: pd.DataFrame, seed: int) -> Selection:
        found = select(part, table, seed)
        return change(found) if part.fold == "val" else found

    copy = Data.__new__(Data)
    copy.task, copy.splits = replace(data.task, select=other), data.splits
    return copy


def only(found: Selection, chosen: np.ndarray) -> Selection:
    """Some rows of a selection."""
    return Selection(*(getattr(found, key)[chosen] for key in ("rows", "labels", "clusters", "groups")))


@pytest.mark.parametrize("images", [None, 9])
@pytest.mark.parametrize(("classes", "words"), [(0, "0 images of 0 classes"), (1, r"\d+ images of 1 classes")])
def test_an_empty_set_or_one_of_a_single_class_cannot_score(
    data: Data, images: int | None, classes: int, words: str
) -> None:
    few = with_selection(data, lambda found: only(found, found.labels < classes))
    message = f"task tiny, ood_val: {words} cannot score a search; choose another eval_set"
    with pytest.raises(UserError, match=message):
        validation_images(few, 0, "ood_val", images, True)


def test_fewer_images_than_classes_cannot_score(data: Data) -> None:
    with pytest.raises(UserError, match="0 images of 0 classes cannot score a search; raise the images of the space"):
        validation_images(data, 0, "ood_val", 2, True)


def test_a_task_without_the_set_is_named(data: Data) -> None:
    copy = with_selection(data, lambda found: found)
    copy.task = replace(copy.task, eval_sets=tuple(s for s in TASK.eval_sets if s.role != "ood_val"))
    with pytest.raises(UserError, match="task tiny has no ood_val to score a search; choose another eval_set"):
        validation_images(copy, 0, "ood_val", None, True)


def test_the_worst_group_needs_groups(enter: Enter, data: Data) -> None:
    one = with_selection(data, lambda f: Selection(f.rows, f.labels, f.clusters, np.full(len(f.rows), "all")))
    space = entry(metric="worst_group")
    assert len(np.unique(enter(space).validation.groups)) == 2
    with pytest.raises(UserError, match=r"^spaces\.mine\.metric: worst_group needs groups.*choose another metric"):
        enter(space, data=one)


# The metrics that a search maximises

PLAIN = {
    "top1": lambda p, y, g, c: metrics.top1(p.argmax(1), y),
    "mean_per_class": lambda p, y, g, c: metrics.mean_per_class(p.argmax(1), y),
    "macro_f1": lambda p, y, g, c: metrics.macro_f1(p.argmax(1), y),
    "worst_group": lambda p, y, g, c: metrics.worst_group(p.argmax(1), y, g),
    "nll": lambda p, y, g, c: -metrics.nll(np.log(p[np.arange(len(y)), y])),
    "all_frames": lambda p, y, g, c: metrics.all_frames(p.argmax(1), y, c),
    "ece": lambda p, y, g, c: -metrics.ece(p.max(1), p.argmax(1) == y),
}


def test_every_metric_is_tested() -> None:
    assert set(PLAIN) == set(search.METRICS)


@pytest.mark.parametrize("metric", PLAIN)
@pytest.mark.parametrize("batch", [256, 7])
def test_a_score_is_the_metric_of_the_trained_classifier(
    enter: Enter, data: Data, bench: Bench, monkeypatch: pytest.MonkeyPatch, metric: str, batch: int
) -> None:
    """The cross-entropy and the calibration error are negated, so that higher is better."""
    monkeypatch.setattr(search, "BATCH", batch)
    arena = enter(entry(metric=metric))
    score = arena.run(0, {"learning_rate": 2e-2, "objective.hinge?": False})["score"]
    examples = data.examples(TASK.parts_of("ood_val"), 0)
    with torch.no_grad():
        images = bench.preprocess(examples.images(np.arange(len(examples))))
        p = arena.classifier(images).double().softmax(-1).numpy()
    assert score == pytest.approx(PLAIN[metric](p, examples.labels, examples.groups, examples.clusters), rel=1e-4)
    assert (score < 0) is (metric in ("nll", "ece"))


# Nothing of a search sees test images


def test_a_whole_search_and_its_final_run_read_no_test_image(
    enter: Enter, data: Data, model: Path, head_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folds, examples = set(), Data.examples

    def guarded(self: Data, parts: tuple[Part, ...], seed: int) -> Examples:
        folds.update(part.fold for part in parts)
        if "test" in folds:
            raise AssertionError("test images were asked for")
        return examples(self, parts, seed)

    monkeypatch.setattr(Data, "examples", guarded)
    space = entry(BOTH, images=9)
    trials = read_trials(run(enter(space)))
    write_objective(Path("objective.yaml"), trials, space, {})
    learned = learned_entry(space, read_objective(Path("objective.yaml")))
    assert learned["recipe"]["keep"] == "best"
    final = finetune.Bench(model, head_file, data, learned).run(None, 0, Resumable(Path("state"), "job"))
    assert len(final.history["watched"]) == RECIPE.epochs and folds == {"train", "val"}
    with pytest.raises(AssertionError, match="test images were asked for"):
        data.examples(TASK.parts_of("id_test"), 0)
