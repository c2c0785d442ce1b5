"""What moves in a run, its running average, the best epoch, and the head that FLYP derives."""

import shutil
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import torch

from surefoot import train
from surefoot.clip import WEIGHTS, Classifier, Preprocess, State, load_clip, save_state, zero_shot_classifier
from surefoot.files import UserError
from surefoot.layers import parts
from surefoot.method_entries import Head, Recipe
from surefoot.train import History, Run, fit
from surefoot.weights import Weights
from surefoot.zeroshot import zero_shot_head
from tests.tiny import CLASSES, RECIPE, TEMPLATES, Bench, clone, same_bytes, same_state

STEADY = RECIPE.model_copy(update={"schedule": "constant", "warmup": 0})
FLYP = {"train": ["image", "text", "logit_scale"], "objective": {"flyp": 1}}
SMALL = {"lipsum_texts": 4, "lipsum_length": 4, "probe_batches": 1}


# What is trained


@pytest.mark.parametrize(
    "wanted",
    [
        ["head"],
        ["image"],
        ["logit_scale"],
        ["text"],
        ["image", "head"],
        ["embedding", "block-1"],
        ["last-blocks", "head"],
        ["image", "text", "head", "logit_scale"],
    ],
)
def test_exactly_the_named_parts_are_marked(classifier: Classifier, bench: Bench, wanted: list[str]) -> None:
    run = bench.run({"train": wanted})
    weights = Weights(classifier, run)
    every = {
        **dict(classifier.named_parameters()),
        **{f"text.{n}": p for n, p in (run.references.trained_text or run.references.text).named_parameters()},
    }
    expected = {name for part in wanted for name in parts(every)[part]}
    assert set(weights.trained) == expected
    assert {name for name, tensor in every.items() if tensor.requires_grad} == expected
    assert all(weights.trained[name] is every[name] for name in expected)
    assert (weights.text is not None) is ("text" in wanted)
    assert classifier.image.training is any(name.startswith("image.") for name in expected)
    assert not classifier.head.training and not (run.references.trained_text or run.references.text).training


@pytest.mark.parametrize(
    "wanted", [["embedding"], ["block-1"], ["first-blocks", "head"], ["last-blocks"], ["middle-blocks", "logit_scale"]]
)
def test_parts_of_the_tower_move_and_the_rest_stays_bit_for_bit(
    classifier: Classifier, bench: Bench, wanted: list[str]
) -> None:
    before = clone(classifier.state_dict())
    fit(classifier, bench.run({"train": wanted}))
    declared = {name for part in wanted for name in parts(before)[part]}
    after = classifier.state_dict()
    assert {name for name in before if not same_bytes(before[name], after[name])} == declared


def test_a_missing_part_is_named_with_the_entry(bench: Bench) -> None:
    classifier = zero_shot_classifier(bench.model, bench.head, Head(scaled=True))
    with pytest.raises(UserError, match=r"methods\.mine\.train: .*'logit_scale': is the logit scale folded"):
        Weights(classifier, bench.run(FLYP))


# Norm statistics


@pytest.fixture
def resnet(bench: Bench) -> Classifier:
    """A classifier with CLIP's ResNet as its tower."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vision = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8}
        tower = open_clip.CLIP(16, vision, {"context_length": 8, "vocab_size": 9, "width": 8, "heads": 1}).visual
    return Classifier(tower, bench.head).eval()


def fit_resnet(resnet: Classifier, bench: Bench, training: dict, statistics: str) -> set[str]:
    """Train for an epoch; returns the tensors that moved."""
    recipe = Recipe(learning_rate=1e-3, batch_size=15, epochs=1, warmup=0, norm_statistics=statistics)
    run = replace(bench.run(training, recipe), preprocess=Preprocess(64, (0.5,) * 3, (0.5,) * 3))
    before = clone(resnet.state_dict())
    fit(resnet, run)
    return {name for name, tensor in resnet.state_dict().items() if not same_bytes(before[name], tensor)}


@pytest.mark.parametrize(
    ("wanted", "statistics", "move"), [("image", "update", True), ("image", "keep", False), ("head", "update", False)]
)
def test_norm_statistics_move_only_in_a_trained_tower_that_updates_them(
    resnet: Classifier, bench: Bench, wanted: str, statistics: str, move: bool
) -> None:
    moved = fit_resnet(resnet, bench, {"train": [wanted]}, statistics)
    buffers = {name for name, _ in resnet.named_buffers()}
    assert buffers and moved & buffers == (buffers if move else set())
    assert not resnet.image.training


def test_norm_statistics_of_frozen_blocks_stay(resnet: Classifier, bench: Bench) -> None:
    moved = fit_resnet(resnet, bench, {"train": ["last-blocks"]}, "update")
    assert moved and all(name.startswith(("image.layer4.", "image.attnpool.")) for name in moved)


def test_looking_at_gradients_moves_no_norm_statistics(resnet: Classifier, bench: Bench) -> None:
    recipe = Recipe(batch_size=15, norm_statistics="update")
    run = replace(bench.run({"train": ["image"]}, recipe), preprocess=Preprocess(64, (0.5,) * 3, (0.5,) * 3))
    weights = Weights(resnet, run)
    inputs, before = train.Inputs(resnet, run, train.Objective({"ce": 1})), clone(resnet.state_dict())
    assert len(list(train.probe(weights, inputs, torch.from_numpy(run.examples.labels), 0, 0, False)))
    assert same_state(before, resnet.state_dict())


# Running average


def trajectory(classifier: Classifier, run: Run, monkeypatch: pytest.MonkeyPatch) -> list[State]:
    """The trained tensors after every step of a run."""
    seen, after_step = [], Weights.after_step

    def note(self: Weights) -> None:
        seen.append(clone(self.trained))
        after_step(self)

    monkeypatch.setattr(Weights, "after_step", note)
    fit(classifier, run)
    monkeypatch.setattr(Weights, "after_step", after_step)
    return seen


@pytest.mark.parametrize("momentum", [0.5, 0.9, 0.999])
def test_the_average_follows_its_closed_form(
    classifier: Classifier, bench: Bench, monkeypatch: pytest.MonkeyPatch, momentum: float
) -> None:
    """m^n theta_0 + (1 - m) sum_k m^(n - k) theta_k, in double precision."""
    start = clone(classifier.state_dict())
    steps = trajectory(classifier, bench.run({"train": ["image", "head"], "ema": momentum}), monkeypatch)
    found = clone(classifier.state_dict())
    assert len(steps) == 12
    for name in steps[0]:
        expected = momentum**12 * start[name].double()
        for k, step in enumerate(steps, 1):
            expected += (1 - momentum) * momentum ** (12 - k) * step[name].double()
        torch.testing.assert_close(found[name].double(), expected, rtol=1e-4, atol=1e-6)
        assert not torch.equal(found[name], steps[-1][name])
    assert same_bytes(found["logit_scale"], start["logit_scale"])


def test_the_average_does_not_change_the_way_of_the_weights(
    classifier: Classifier, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, ways = clone(classifier.state_dict()), []
    for momentum in (None, 0.9):
        classifier.load_state_dict(start)
        run = bench.run({"train": ["image", "head"], "ema": momentum}, progress=str(momentum))
        ways.append(trajectory(classifier, run, monkeypatch))
    assert all(same_state(one, other) for one, other in zip(*ways, strict=True))


# Best epoch


class Watch:
    """Gives known values, and keeps what it was shown."""

    def __init__(self, values: list[float]) -> None:
        self.values, self.seen, self.modes = list(values), [], []

    def __call__(self, classifier: Classifier) -> float:
        self.seen.append(clone(classifier.state_dict()))
        self.modes.append(classifier.image.training)
        return self.values[len(self.seen) - 1]


def fit_watched(
    classifier: Classifier, bench: Bench, values: list[float], keep: str = "best", **training: object
) -> tuple[Watch, History]:
    """Train for three epochs with known values."""
    watch = Watch(values)
    run = bench.run(
        {"train": ["image", "head"], **training}, STEADY.model_copy(update={"keep": keep}), progress=keep, watch=watch
    )
    return watch, fit(classifier, run)


@pytest.mark.parametrize(
    ("values", "best"), [([1.0, 3.0, 2.0], 1), ([3.0, 2.0, 1.0], 0), ([1.0, 2.0, 3.0], 2), ([5.0, 5.0, 5.0], 0)]
)
def test_the_weights_of_the_best_epoch_are_kept(
    classifier: Classifier, bench: Bench, values: list[float], best: int
) -> None:
    watch, history = fit_watched(classifier, bench, values)
    assert history.watched == values and watch.modes == [False] * 3
    assert same_state(clone(classifier.state_dict()), watch.seen[best])
    assert not same_state(watch.seen[0], watch.seen[1])


def test_the_best_epoch_is_where_a_run_of_so_many_epochs_ends(classifier: Classifier, bench: Bench) -> None:
    """Watching leaves the weights' way alone; the rate must be constant for two runs to share it."""
    start = clone(classifier.state_dict())
    fit_watched(classifier, bench, [1.0, 3.0, 2.0])
    kept = clone(classifier.state_dict())
    classifier.load_state_dict(start)
    fit(classifier, bench.run({"train": ["image", "head"]}, STEADY.model_copy(update={"epochs": 2}), progress="two"))
    assert same_state(kept, clone(classifier.state_dict()))


def test_the_last_weights_are_kept_unless_the_recipe_says_best(classifier: Classifier, bench: Bench) -> None:
    start = clone(classifier.state_dict())
    watch, history = fit_watched(classifier, bench, [3.0, 2.0, 1.0], keep="last")
    assert history.watched == [] and watch.seen == []
    last = clone(classifier.state_dict())
    classifier.load_state_dict(start)
    watch, _ = fit_watched(classifier, bench, [3.0, 2.0, 1.0])
    assert same_state(last, watch.seen[-1]) and not same_state(last, clone(classifier.state_dict()))


def test_the_average_is_what_is_watched_and_kept(
    classifier: Classifier, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, watch = clone(classifier.state_dict()), Watch([1.0, 3.0, 2.0])
    recipe = STEADY.model_copy(update={"keep": "best"})
    steps = trajectory(
        classifier, bench.run({"train": ["image", "head"], "ema": 0.8}, recipe, watch=watch), monkeypatch
    )
    expected = 0.8**8 * start["head.weight"]
    expected += sum(0.2 * 0.8 ** (8 - k) * step["head.weight"] for k, step in enumerate(steps[:8], 1))
    torch.testing.assert_close(watch.seen[1]["head.weight"], expected, rtol=1e-4, atol=1e-6)
    assert same_state(clone(classifier.state_dict()), watch.seen[1])


# The text tower and the head that is derived from it


def head_of(bench: Bench, run: Run, folder: Path) -> State:
    """Zero-shot head of a model folder with a run's text tower."""
    shutil.copytree(bench.model, folder)
    text = {
        name.removeprefix("clip."): tensor
        for name, tensor in (run.references.trained_text or run.references.text).state_dict().items()
    }
    save_state(folder / WEIGHTS, load_clip(bench.model).state_dict() | text)
    return zero_shot_head(folder, CLASSES, TEMPLATES)


def test_flyp_ends_with_the_zero_shot_head_of_its_tuned_text_tower(
    classifier: Classifier, bench: Bench, tmp_path: Path
) -> None:
    before, run = clone(classifier.state_dict()), bench.run(FLYP)
    fit(classifier, run)
    tuned, after = head_of(bench, run, tmp_path / "tuned"), classifier.state_dict()
    torch.testing.assert_close(after["head.weight"], tuned["weight"], rtol=1e-5, atol=1e-6)
    assert (after["head.weight"] - before["head.weight"]).abs().max() > 1e-2
    assert {name for name in before if torch.equal(before[name], after[name])} == set()


def test_flyp_in_the_scaled_convention_ends_with_the_tuned_scale_in_its_rows(bench: Bench, tmp_path: Path) -> None:
    classifier = zero_shot_classifier(bench.model, bench.head, Head(scaled=True, bias=True))
    run = bench.run(FLYP | {"train": ["image", "text"]})
    fit(classifier, run)
    tuned = head_of(bench, run, tmp_path / "tuned")
    assert abs(tuned["logit_scale"] - bench.head["logit_scale"]) > 1e-3
    torch.testing.assert_close(
        classifier.head.weight, tuned["logit_scale"].exp() * tuned["weight"], rtol=1e-5, atol=1e-5
    )
    assert not classifier.head.bias.any()


@pytest.mark.parametrize("convention", [Head(), Head(scaled=True)])
def test_flyp_before_any_step_is_zero_shot(bench: Bench, convention: Head) -> None:
    classifier = zero_shot_classifier(bench.model, bench.head, convention)
    before = clone(classifier.state_dict())
    training = FLYP | ({"train": ["image", "text"]} if convention.scaled else {})
    fit(classifier, bench.run(training, Recipe(learning_rate=1e-30, weight_decay=0, batch_size=8, epochs=1)))
    for name, tensor in classifier.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=1e-5, atol=1e-6)


def test_a_head_that_is_trained_is_not_derived(
    classifier: Classifier, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = {"train": ["text", "head"], "objective": {"flyp": 1, "ce": 1}}
    steps = trajectory(classifier, bench.run(training), monkeypatch)
    assert same_bytes(classifier.state_dict()["head.weight"], steps[-1]["head.weight"])


def test_the_derived_head_is_that_of_the_averaged_text_tower(
    classifier: Classifier, bench: Bench, tmp_path: Path
) -> None:
    run = bench.run(FLYP | {"ema": 0.8})
    fit(classifier, run)
    tuned = head_of(bench, run, tmp_path / "tuned")
    torch.testing.assert_close(classifier.head.weight.detach(), tuned["weight"], rtol=1e-5, atol=1e-6)


def test_flyp_is_watched_with_the_head_of_the_epoch(classifier: Classifier, bench: Bench) -> None:
    watch, _ = fit_watched(classifier, bench, [1.0, 3.0, 2.0], **FLYP)
    rows = [state["head.weight"] for state in watch.seen]
    assert not torch.equal(rows[0], bench.head["weight"]) and not torch.equal(rows[0], rows[1])
    assert same_bytes(classifier.state_dict()["head.weight"], rows[1])


@pytest.mark.parametrize("convention", [Head(), Head(scaled=True, bias=True)])
def test_a_trained_head_may_be_derived_at_the_end(bench: Bench, tmp_path: Path, convention: Head) -> None:
    """options.head: derived (an earlier state of AutoFT's code); a trained bias is then zero again."""
    classifier = zero_shot_classifier(bench.model, bench.head, convention)
    training = {"train": ["text", "head"], "objective": {"flyp": 1, "ce": 1}, "options": {"head": "derived"}}
    run = bench.run(training)
    fit(classifier, run)
    tuned = head_of(bench, run, tmp_path / "tuned")
    scale = tuned["logit_scale"].exp() if convention.scaled else 1
    torch.testing.assert_close(classifier.head.weight.detach(), scale * tuned["weight"], rtol=1e-5, atol=1e-5)
    assert classifier.head.bias is None or not classifier.head.bias.any()


@pytest.mark.parametrize("momentum", [None, 0.8])
def test_watching_a_derived_head_leaves_the_trained_one_alone(
    classifier: Classifier, bench: Bench, momentum: float | None
) -> None:
    start, ways = clone(classifier.state_dict()), []
    training = {"train": ["text", "head"], "objective": {"flyp": 1, "ce": 1}, "ema": momentum}
    for keep in ("last", "best"):
        classifier.load_state_dict(start)
        options = {"head": "derived"}
        watch, history = fit_watched(classifier, bench, [1.0, 2.0, 3.0], keep, **training, options=options)
        ways.append((history.terms, clone(classifier.state_dict())))
    assert ways[0][0] == ways[1][0] and same_state(ways[0][1], ways[1][1])
    assert same_state(watch.seen[-1], ways[1][1]), "what was watched is what is kept"


@pytest.mark.parametrize(
    ("training", "moves"),
    [
        (FLYP, True),
        ({"train": ["text"], "objective": {"flyp": 1}}, True),
        ({"train": ["image", "head"], "objective": {"ce": 1, "lipsum": 1, "carft": 1}}, False),
        ({"train": ["image"], "objective": {"flyp": 1}}, False),
    ],
)
def test_the_text_tower_moves_only_if_it_is_trained(
    classifier: Classifier, bench: Bench, training: dict, moves: bool
) -> None:
    run = bench.run({**training, "options": SMALL})
    fit(classifier, run)
    start, text = load_clip(bench.model).state_dict(), (run.references.trained_text or run.references.text).state_dict()
    same = {name for name in text if same_bytes(text[name], start[name.removeprefix("clip.")])}
    assert same == ({"clip.logit_scale"} if moves else set(text)), "the classifier's own scale is the one in training"
