"""Evaluation along the line: ends, middle, the shortcut for heads, and one reading of every image."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from surefoot import metrics, spaces
from surefoot.clip import Classifier, Preprocess, State, save_state, zero_shot_classifier
from surefoot.data import Data, Examples
from surefoot.evaluate import METRICS, Line, evaluate_line, evaluate_runs, project, score
from surefoot.files import UserError, sha256, write_json
from surefoot.interpolate import interpolate
from surefoot.names import prediction_column
from surefoot.records import load_trained
from tests.tiny import clone, moved, same_bytes

ALPHAS = [0.0, 0.25, 0.5, 1.0]


@pytest.fixture
def start(classifier: Classifier) -> State:
    """The zero-shot model's state."""
    return clone(classifier.state_dict())


@pytest.fixture
def tuned(start: State) -> State:
    """A state in which tower and head moved."""
    return moved(start, ("image.", "head."))


@pytest.fixture
def images(data: Data, preprocess: Preprocess) -> torch.Tensor:
    """Preprocessed test images."""
    examples = data.examples(data.task.eval_sets[2].parts, 0)
    return preprocess(examples.images(next(examples.batches(100))))


@torch.no_grad()
def direct(model: Path, head: State, state: State, images: torch.Tensor) -> torch.Tensor:
    """Logits of one state by one ordinary forward pass."""
    classifier = zero_shot_classifier(model, head)
    classifier.load_state_dict(state)
    return classifier(images)


def test_metric_names_of_the_config_are_the_registered_ones() -> None:
    assert tuple(METRICS) == spaces.METRIC_NAMES


def test_ends_of_the_line_are_the_two_models_bit_for_bit(
    classifier: Classifier, model: Path, head: State, start: State, tuned: State, images: torch.Tensor
) -> None:
    logits = list(Line(classifier, start, tuned, ALPHAS).logits(images))
    assert same_bytes(logits[0], direct(model, head, start, images))
    assert same_bytes(logits[-1], direct(model, head, tuned, images))
    assert not torch.equal(logits[0].argmax(1), logits[-1].argmax(1))


@pytest.mark.parametrize("prefixes", [("image.", "head."), ("head.",), ("image.",), ("logit_scale",)])
def test_every_alpha_equals_a_forward_pass_of_the_interpolated_model(
    classifier: Classifier, model: Path, head: State, start: State, images: torch.Tensor, prefixes: tuple
) -> None:
    """Twice over, since the line runs all alphas in one classifier and must not leave anything behind."""
    end = moved(start, prefixes)
    line = Line(classifier, start, end, ALPHAS)
    for _ in range(2):
        for alpha, logits in zip(ALPHAS, line.logits(images), strict=True):
            expected = direct(model, head, interpolate(start, end, alpha), images)
            torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("prefixes", "linear"),
    [
        (("head.",), True),
        ((), True),
        (("image.",), False),
        (("head.", "logit_scale"), False),
        (("logit_scale",), False),
    ],
)
def test_the_shortcut_is_taken_exactly_where_logits_are_linear(
    classifier: Classifier, start: State, prefixes: tuple, linear: bool
) -> None:
    assert Line(classifier, start, moved(start, prefixes) if prefixes else start, ALPHAS).linear_in_alpha is linear


def test_the_shortcut_runs_the_tower_once_per_batch(
    classifier: Classifier, start: State, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    encode = Classifier.encode
    monkeypatch.setattr(Classifier, "encode", lambda self, x: calls.append(1) or encode(self, x))
    list(Line(classifier, start, moved(start, ("head.",)), ALPHAS).logits(images))
    assert len(calls) == 1


def test_the_ends_themselves_are_never_changed(
    classifier: Classifier, start: State, tuned: State, images: torch.Tensor
) -> None:
    copies = clone(start), clone(tuned)
    list(Line(classifier, start, tuned, ALPHAS).logits(images))
    for state, copy in zip((start, tuned), copies, strict=True):
        assert all(same_bytes(state[key], copy[key]) for key in state)


def test_models_that_do_not_fit_together_are_refused(classifier: Classifier, start: State) -> None:
    with pytest.raises(ValueError, match="logit_scale"):
        Line(classifier, start, {k: v for k, v in start.items() if k != "logit_scale"}, ALPHAS)


def test_output_space_averages_probabilities(
    classifier: Classifier, model: Path, head: State, start: State, tuned: State, data: Data, preprocess: Preprocess
) -> None:
    examples = data.examples(data.task.eval_sets[2].parts, 0)
    images = preprocess(examples.images(np.arange(len(examples))))
    scores = score(Line(classifier, start, tuned, ALPHAS), examples, preprocess, 5, 1, "")
    p0, p1 = (direct(model, head, state, images).softmax(-1) for state in (start, tuned))
    middle = (p0 + p1) / 2
    for index, p in {0: p0, 2: middle, 3: p1}.items():
        assert np.array_equal(scores.predicted["outputs"][index], p.argmax(1))
        np.testing.assert_allclose(scores.confidence["outputs"][index], p.max(1).values, rtol=1e-5)
        label = p[range(len(p)), examples.labels].log()
        np.testing.assert_allclose(scores.label_log_probability["outputs"][index], label, rtol=1e-4, atol=1e-5)
    mixed_logits = (direct(model, head, start, images) + direct(model, head, tuned, images)) / 2
    assert not np.allclose(scores.confidence["outputs"][2], mixed_logits.softmax(-1).max(1).values, rtol=1e-3)


def test_any_right_label_counts_and_is_recorded_as_the_label(
    classifier: Classifier, start: State, tuned: State, data: Data, preprocess: Preprocess
) -> None:
    """Of images with two right labels: a prediction of either, and the sum of their probabilities."""
    one = data.examples(data.task.eval_sets[1].parts, 0)
    other = (one.labels + 1) % len(data.task.classes)
    both = replace(one, also=np.where(np.arange(len(one)) % 2, other.astype(str), ""))
    line = Line(classifier, start, tuned, ALPHAS)
    known, found, swapped = (
        score(line, examples, preprocess, 8, 1, "") for examples in (one, both, replace(one, labels=other))
    )
    for space in ("weights", "outputs"):
        hit = (both.also != "") & (known.predicted[space] == other)
        assert hit.any() and np.array_equal(found.predicted[space], np.where(hit, one.labels, known.predicted[space]))
        each = [np.exp(scores.label_log_probability[space]) for scores in (known, swapped)]
        expected = each[0] + np.where(both.also != "", each[1], 0)
        np.testing.assert_allclose(np.exp(found.label_log_probability[space]), expected, rtol=1e-5)


def test_at_the_ends_both_spaces_agree(
    classifier: Classifier, start: State, tuned: State, data: Data, preprocess: Preprocess
) -> None:
    examples = data.examples(data.task.eval_sets[1].parts, 0)
    scores = score(Line(classifier, start, tuned, ALPHAS), examples, preprocess, 8, 1, "")
    for index in (0, -1):
        for table in (scores.predicted, scores.confidence, scores.label_log_probability):
            assert np.array_equal(table["weights"][index], table["outputs"][index])


@pytest.mark.parametrize("alphas", [[0.0, 1.0], [round(i / 20, 2) for i in range(21)]])
@pytest.mark.parametrize("prefixes", [("head.",), ("image.", "head.")])
def test_each_image_is_read_once_however_many_alphas(
    classifier: Classifier,
    start: State,
    data: Data,
    preprocess: Preprocess,
    monkeypatch: pytest.MonkeyPatch,
    alphas: list[float],
    prefixes: tuple,
) -> None:
    read, scaled = [], []
    images, scale = Examples.images, Preprocess.scale
    monkeypatch.setattr(Examples, "images", lambda self, i: read.extend(i.tolist()) or images(self, i))
    monkeypatch.setattr(Preprocess, "scale", lambda self, x: scaled.append(len(x)) or scale(self, x))
    examples = data.examples(data.task.eval_sets[1].parts, 0)
    score(Line(classifier, start, moved(start, prefixes), alphas), examples, preprocess, 5, 1, "")
    assert read == list(range(len(examples)))
    assert sum(scaled) == len(examples)


def test_batch_size_does_not_change_predictions(
    classifier: Classifier, start: State, tuned: State, data: Data, preprocess: Preprocess
) -> None:
    examples = data.examples(data.task.eval_sets[1].parts, 0)
    line = Line(classifier, start, tuned, ALPHAS)
    small, large = (score(line, examples, preprocess, size, 1, "") for size in (3, 1000))
    np.testing.assert_allclose(small.confidence["weights"], large.confidence["weights"], rtol=1e-4)


def test_renders_add_changed_versions_after_the_plain_one(
    classifier: Classifier, start: State, tuned: State, data: Data, preprocess: Preprocess
) -> None:
    examples = data.examples(data.task.eval_sets[0].parts, 0)
    line = Line(classifier, start, tuned, ALPHAS)
    one, three = (score(line, examples, preprocess, 100, renders, "") for renders in (1, 3))
    parts = np.split(three.confidence["weights"], 3, axis=1)
    assert np.array_equal(parts[0], one.confidence["weights"])
    assert not np.allclose(parts[0], parts[1]) and not np.allclose(parts[1], parts[2])


def test_changes_of_a_render_do_not_depend_on_the_batch(
    classifier: Classifier, start: State, data: Data, preprocess: Preprocess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the model sees of each image in each render, but for rounding."""
    examples, seen = data.examples(data.task.eval_sets[1].parts, 0), {}
    normalise = Preprocess.normalise
    for size in (1, 3, 1000):
        inputs = seen[size] = []
        monkeypatch.setattr(Preprocess, "normalise", lambda self, x, kept=inputs: kept.append(x) or normalise(self, x))
        score(Line(classifier, start, start, [0.0]), examples, preprocess, size, 3, "")
    whole = torch.cat(seen[1000])
    assert len(whole) == 3 * len(examples)
    torch.testing.assert_close(torch.cat(seen[3]), whole, rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.cat(seen[1]), whole, rtol=0, atol=1e-6)


@pytest.fixture
def found(
    classifier: Classifier, start: State, tuned: State, data: Data, preprocess: Preprocess
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Records of the tiny task under seed 1 with two renders."""
    return evaluate_line(Line(classifier, start, tuned, ALPHAS), data, preprocess, 1, 16, 2, "")


def test_metric_rows_are_complete_and_unique(found: tuple, data: Data) -> None:
    rows, _ = found
    keys = ["eval_set", "space", "alpha", "metric"]
    assert len(rows) == len(rows.drop_duplicates(keys)) == len(data.task.eval_sets) * 2 * len(ALPHAS) * len(METRICS)
    assert rows["value"].notna().all() and (rows["seed"] == 1).all()
    roles = rows.drop_duplicates("eval_set").set_index("eval_set")["role"].to_dict()
    assert roles == {s.name: s.role for s in data.task.eval_sets}


def test_metric_rows_follow_from_the_per_image_rows(found: tuple, data: Data) -> None:
    rows, per_image = found
    for (name, space, alpha), group in rows.groupby(["eval_set", "space", "alpha"]):
        table = per_image[per_image["eval_set"] == name]
        predicted, labels = table[prediction_column(space, alpha)].to_numpy(), table["label"].to_numpy()
        values = group.set_index("metric")["value"]
        assert values["top1"] == pytest.approx(metrics.top1(predicted, labels))
        assert values["macro_f1"] == pytest.approx(metrics.macro_f1(predicted, labels))
        assert set(group["n"]) == {len(table)}


def test_per_image_rows_name_the_right_images(found: tuple, data: Data) -> None:
    _, per_image = found
    for eval_set in data.task.eval_sets:
        examples = data.examples(eval_set.parts, 1)
        table = per_image[per_image["eval_set"] == eval_set.name]
        assert list(table["cluster"]) == list(examples.clusters) * 2
        assert list(table["label"]) == list(examples.labels) * 2


@pytest.fixture
def runs(tmp_path: Path, head: State, start: State) -> Iterator[tuple[Path, list[Path]]]:
    """A head on disk, and trained weights of two seeds with their records."""
    save_state(tmp_path / "head.safetensors", head)
    ends = []
    for seed in (0, 1):
        folder = tmp_path / f"seed-{seed}"
        save_state(folder / "weights.safetensors", moved(start, ("image.", "head."), seed))
        write_json(folder / "record.json", {"seed": seed, "weights": sha256(folder / "weights.safetensors")})
        ends.append(folder / "weights.safetensors")
    yield tmp_path / "head.safetensors", ends


def test_runs_of_all_seeds_go_into_one_table(model: Path, data: Data, runs: tuple, tmp_path: Path) -> None:
    head, ends = runs
    how = {"model": model, "head": head, "data": data, "batch": 64, "renders": 1}
    tuned = evaluate_runs(starts=[], ends=ends, name="ft", seeds=[0, 1], alphas=[0.0, 1.0], **how)
    zero_shot = evaluate_runs(starts=[], ends=[], name="zeroshot", seeds=[0, 1], alphas=[0.0, 1.0], **how)
    pair = evaluate_runs(starts=ends[::-1], ends=ends, name="ft.pair", seeds=[0, 1], alphas=[0.0, 1.0], **how)
    assert set(zero_shot.metrics["alpha"]) == {0.0} and set(tuned.metrics["alpha"]) == {0.0, 1.0}
    assert set(tuned.metrics[tuned.metrics["alpha"] == 0]["run"]) == {""}, "the zero-shot model is no run"
    assert tuned.metrics[tuned.metrics["alpha"] > 0].groupby("seed")["run"].nunique().to_dict() == {0: 1, 1: 1}
    assert tuned.metrics.loc[tuned.metrics["alpha"] > 0, "run"].nunique() == 2
    assert set(map(tuple, tuned.metrics[["task", "model", "method"]].to_numpy())) == {("tiny", "tiny", "ft")}
    # alpha 0 is the zero-shot model for every method, and the partner's end for a pair
    column = prediction_column("weights", 0.0)
    assert tuned.predictions[column].equals(zero_shot.predictions[column])
    assert not tuned.predictions[prediction_column("weights", 1.0)].equals(zero_shot.predictions[column])
    assert pair.predictions[prediction_column("weights", 1.0)].equals(
        tuned.predictions[prediction_column("weights", 1.0)]
    )
    assert not pair.predictions[column].equals(zero_shot.predictions[column])
    tuned.write(tmp_path / "m.parquet", tmp_path / "p.parquet", tmp_path / "meter.json")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "m.parquet"), tuned.metrics)


def test_preprocess_is_part_of_the_path(preprocess: Preprocess) -> None:
    """The evaluation fixture is only meaningful if the tiny model's own pixel statistics are used."""
    assert preprocess.mean == (0.5, 0.4, 0.3)


def test_changed_weights_are_refused(runs: tuple[Path, list[Path]]) -> None:
    weights = runs[1][0]
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(UserError, match="does not match its record"):
        load_trained(weights)


def test_projected_logits_are_the_largest_of_each_label() -> None:
    logits = torch.randn(7, 6, generator=torch.Generator().manual_seed(0))
    columns = ((4,), (0, 2, 5), (1,))
    expected = torch.stack([logits[:, list(ids)].max(1).values for ids in columns], 1)
    assert torch.equal(project(logits, columns), expected)
    assert project(logits, ()) is logits
    masked = project(logits, ((3,), (1,)))
    assert torch.equal(masked, logits[:, [3, 1]])
