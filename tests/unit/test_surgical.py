"""Adaptation to targets: what is chosen and on what, the unsupervised stream, and resuming."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from surefoot import online, resume, surgical
from surefoot.clip import Classifier, Preprocess, State, save_state
from surefoot.data import Data
from surefoot.files import UserError, sha256, write_json
from surefoot.method_entries import Augmentation, Recipe, Training
from surefoot.online import adapt_online, marginal_entropy, stream
from surefoot.passes import predict
from surefoot.resume import Resumable
from surefoot.surgical import Adaptation, Case, Sources, adapt, case_states
from surefoot.tasks import Part, Selection, Target
from tests.tiny import TASK, clone, same_state, select

RECIPE = {"optimizer": "adam", "learning_rate": 1e-2, "batch_size": 4, "epochs": 3, "warmup": 0, "schedule": "constant"}
RATES = [1e-6, 1e-2]


def select_target(part: Part, rows: pd.DataFrame, seed: int) -> Selection:
    """As the tiny task selects, with one image per concept where a part takes some, and labels moved in the target."""
    found = select(part, rows, seed)
    keep = np.arange(len(found.rows))
    if part.take:
        table = pd.DataFrame({"cluster": found.clusters, "label": found.labels}).drop_duplicates("cluster")
        place = table.groupby("label").cumcount()
        keep = table.index[(place >= part.take[0]) & (place < part.take[1])].to_numpy()
    labels = (found.labels + 1) % 3 if part.target else found.labels
    return Selection(found.rows[keep], labels[keep], found.clusters[keep], found.groups[keep])


@pytest.fixture
def target_data(data: Data) -> Data:
    """The tiny task with one target, in which the labels are moved by one."""
    found = Data.__new__(Data)
    found.task = replace(TASK, targets=(Target("moved", "labels moved", "plain"),), select=select_target)
    found.splits = data.splits
    return found


@pytest.fixture
def source(tmp_path: Path, classifier: Classifier) -> Path:
    """Weights of a source model, with the record that they are checked against."""
    path = tmp_path / "source/weights.safetensors"
    path.parent.mkdir()
    save_state(path, classifier.state_dict())
    write_json(path.with_name("record.json"), {"weights": sha256(path)})
    return path


def entry(train: list[str], **changes: Any) -> dict[str, Any]:
    """A resolved method entry."""
    training = Training(train=train, **changes).model_dump()
    return {
        "name": "arm",
        "training": training,
        "recipe": Recipe(**RECIPE).model_dump(),
        "metric": "top1",
    }


@pytest.fixture
def run(model: Path, head: State, target_data: Data, source: Path, tmp_path: Path) -> Callable[..., Adaptation]:
    """Adapts with a method entry."""
    save_state(tmp_path / "head.safetensors", head)

    def adapt_with(
        method: dict,
        data: Data = target_data,
        folder: str = "state",
        seeds: tuple = (0,),
        shots: tuple = (1,),
        corruptions: tuple = (),
        rates: list[float] = RATES,
    ) -> Adaptation:
        sources = dict.fromkeys(seeds, source)
        task = {"name": "tiny", "corruptions": corruptions}
        states = case_states(tmp_path / folder, task, data, sources, method)
        return adapt(model, tmp_path / "head.safetensors", sources, data, method, rates, list(shots), states)

    return adapt_with


def test_without_training_the_source_model_is_judged(
    run: Callable, classifier: Classifier, target_data: Data, preprocess: Preprocess
) -> None:
    found = run(entry([]))
    [trial] = found.trials.to_dict("records")
    assert trial["chosen"] and trial["epoch"] == 0 and trial["learning_rate"] == 0
    test = target_data.examples(target_data.task.targets[0].parts(1)["target_test"], 0)
    assert found.predictions["predicted"].tolist() == predict(classifier, test, preprocess, 64).tolist()
    assert found.predictions["label"].tolist() == test.labels.tolist()


def test_a_rate_that_ends_in_nan_is_recorded_and_the_others_go_on(run: Callable) -> None:
    method = entry(["image", "head"])
    method["recipe"] |= {"optimizer": "sgd", "clip_norm": None, "epochs": 4}
    alone, found = run(method, folder="a", rates=[1e-3]), run(method, folder="b", rates=[1e30, 1e-3, 1e30])
    assert found.trials["validation"].isna().tolist() == [True, False, True]
    assert found.trials["chosen"].tolist() == [False, True, False]
    assert found.predictions.equals(alone.predictions)
    with pytest.raises(UserError, match=r"no rate of surgical\.learning_rates ends in a finite loss"):
        run(method, folder="c", rates=[1e30])


def test_the_rate_that_is_best_on_target_val_is_chosen(run: Callable) -> None:
    method = entry(["image", "head"])
    method["recipe"]["epochs"] = 15
    trials = run(method).trials
    assert trials["learning_rate"].tolist() == RATES and trials["chosen"].sum() == 1
    assert trials.loc[trials["chosen"], "validation"].item() == trials["validation"].max()
    assert trials["validation"].max() > trials["validation"].min(), "else the test could not tell"
    assert trials["epoch"].between(1, 15).all()


def test_test_labels_choose_nothing(run: Callable, target_data: Data) -> None:
    """With other labels on target_test the trials and the predictions stay the same."""

    def spoilt(part: Part, rows: pd.DataFrame, seed: int) -> Selection:
        found = select_target(part, rows, seed)
        return replace(found, labels=found.labels[::-1].copy()) if part.fold == "test" else found

    other = Data.__new__(Data)
    other.task, other.splits = replace(target_data.task, select=spoilt), target_data.splits
    one, two = run(entry(["image", "head"])), run(entry(["image", "head"]), other, "other")
    pd.testing.assert_frame_equal(one.trials, two.trials)
    assert one.predictions["predicted"].tolist() == two.predictions["predicted"].tolist()
    assert one.predictions["label"].tolist() != two.predictions["label"].tolist()


def test_learned_rates_are_recorded_per_layer_and_epoch(run: Callable) -> None:
    factors = run(entry(["head", "last-blocks"], rates="snr-released")).factors
    assert set(factors["layer"]) == {"block-2", "head"} and set(factors["epoch"]) == {1, 2, 3}
    assert factors["factor"].between(0, 1).all()
    assert not len(run(entry(["head"]), folder="other").factors)


def test_a_killed_job_goes_on_and_ends_the_same(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    method, calls = entry(["image"]), []
    whole = run(method, folder="whole", seeds=(0, 1))

    def killing(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return fit(*args, **kwargs)

    fit = surgical.fit
    monkeypatch.setattr(surgical, "fit", killing)
    with pytest.raises(KeyboardInterrupt):
        run(method, seeds=(0, 1))
    again = run(method, seeds=(0, 1))
    assert len(calls) == 4 + 2, "the finished case of seed 0 is not repeated"
    assert again.cost["resumed"] and not whole.cost["resumed"] and whole.cost["images_per_second"] > 0
    pd.testing.assert_frame_equal(whole.trials, again.trials)
    pd.testing.assert_frame_equal(whole.predictions, again.predictions)


def test_finished_cases_serve_jobs_that_ask_for_others_besides(
    run: Callable, target_data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More shots, seeds and targets adapt only what is new; the rows are those of a job that begins from nothing."""
    adapted, fit = [], surgical.fit
    monkeypatch.setattr(surgical, "fit", lambda classifier, run: adapted.append(run.name) or fit(classifier, run))
    method, more = entry(["head"]), Data.__new__(Data)
    target = target_data.task.targets[0]
    more.task = replace(target_data.task, targets=(target, replace(target, name="moved too")))
    more.splits = target_data.splits
    first = run(method, corruptions=("moved",))
    wide = {"seeds": (0, 1), "shots": (1, 2), "corruptions": ("moved", "moved too")}
    adapted.clear()
    second = run(method, more, **wide)
    assert len(adapted) == (2 * 2 * 2 - 1) * len(RATES) and not any("moved 1 shots seed 0" in name for name in adapted)
    assert second.cost["resumed"] and not first.cost["resumed"]
    pd.testing.assert_frame_equal(second.trials, run(method, more, "fresh", **wide).trials)
    kept = [path.relative_to(tmp_path / "state") for path in (tmp_path / "state").rglob("*.pt")]
    assert len(kept) == 8 and all(
        (tmp_path / "state" / path).read_bytes() == (tmp_path / "fresh" / path).read_bytes() for path in kept
    )
    adapted.clear()
    again = run(method, corruptions=("moved",))
    assert adapted == [], "the smaller job's case is still there"
    pd.testing.assert_frame_equal(first.predictions, again.predictions)


@pytest.mark.parametrize("changed", ["method", "task", "source", "split"])
def test_a_case_is_adapted_anew_when_anything_that_decides_it_changes(
    changed: str, target_data: Data, source: Path, tmp_path: Path
) -> None:
    case = Case(target_data.task.targets[0], 0, 1)

    def states(task: dict, method: str) -> Resumable:
        return case_states(tmp_path / "cases", task, target_data, {0: source}, method)(case)

    task, method = {"name": "tiny", "concepts": None}, "method"
    states(task, method).save("a.pt", {})
    assert states(task, method).load("a.pt") == {}
    if changed == "source":
        source.write_bytes(source.read_bytes() + b" ")
    if changed == "split":
        target_data.splits = {"plain": replace(target_data.splits["plain"], digest="other")}
    task, method = task | {"concepts": 12 if changed == "task" else None}, "other" if changed == "method" else method
    assert states(task, method).load("a.pt") is None


def test_the_log_says_how_many_images_a_class_really_has(run: Callable, caplog: pytest.LogCaptureFixture) -> None:
    """The tiny target has one image a class beside target_val; finished cases of a resumed job are told again."""
    caplog.set_level("INFO", "surefoot")
    for _ in range(2):
        found = run(entry([]), shots=(1, 4))
        assert found.trials["images"].tolist() == [3, 3]
        assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
            ("INFO", "moved 1 shots seed 0: 3 target images, 1 to 1 a class"),
            (
                "WARNING",
                "moved 4 shots seed 0: 3 target images, 1 to 1 a class; "
                "3 of 3 classes have fewer than surgical.shots asks for",
            ),
        ]
        caplog.clear()


@pytest.mark.parametrize(("lost", "named"), [({2}, "tree; give"), ({1, 2}, "sun and 1 more; give")])
def test_a_class_without_target_images_is_named(
    lost: set[int], named: str, run: Callable, target_data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many classes only some are: a message must be read."""
    monkeypatch.setattr(surgical, "SHOWN", 1)

    def lacking(part: Part, rows: pd.DataFrame, seed: int) -> Selection:
        found = select_target(part, rows, seed)
        keep = ~np.isin(found.labels, [*lost]) if part.take else np.ones(len(found.labels), bool)
        return Selection(found.rows[keep], found.labels[keep], found.clusters[keep], found.groups[keep])

    other = Data.__new__(Data)
    other.task, other.splits = replace(target_data.task, select=lacking), target_data.splits
    with pytest.raises(UserError, match=rf"target_train of moved 1 shots seed 0: no image of class {named}"):
        run(entry(["head"]), other)


def test_a_source_model_of_another_task_is_refused(run: Callable, source: Path, classifier: Classifier) -> None:
    state = clone(classifier.state_dict())
    save_state(source, state | {"head.weight": state["head.weight"][:2]})
    write_json(source.with_name("record.json"), {"weights": sha256(source)})
    with pytest.raises(UserError, match=r"no source model for task tiny: head\.weight"):
        run(entry(["head"]))


def test_every_load_gives_the_source_model_anew_from_one_reading(
    model: Path, head: State, target_data: Data, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, load_trained = [], surgical.load_trained
    monkeypatch.setattr(surgical, "load_trained", lambda path: read.append(path) or load_trained(path))
    sources = Sources(model, head, target_data, entry(["head"]))
    first = clone(sources.load(source).state_dict())
    with torch.no_grad():
        for tensor in sources.load(source).train().parameters():
            tensor.add_(1)
    again = sources.load(source)
    assert same_state(first, clone(again.state_dict())) and not again.training and read == [source]


def test_marginal_entropy_by_hand() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.5], [0.9, 0.1]]))
    mean = (0.7, 0.3)
    assert marginal_entropy(logits).item() == pytest.approx(-sum(p * math.log(p) for p in mean), rel=1e-6)
    assert marginal_entropy(logits * 0).item() == pytest.approx(math.log(2))


def stream_with(
    classifier: Classifier, data: Data, preprocess: Preprocess, train: list[str], rate: float
) -> np.ndarray:
    """Predictions on the test stream of the tiny target."""
    examples = data.examples(data.task.targets[0].parts(1)["target_test"], 0)
    recipe = Recipe(learning_rate=rate, weight_decay=0, augmentation=Augmentation(rotate=10, shift=0.1))
    return stream(classifier, examples, preprocess, Training(train=train), recipe, 4, 0, "methods.arm")


def test_a_stream_without_training_is_plain_prediction(
    classifier: Classifier, target_data: Data, preprocess: Preprocess
) -> None:
    before = clone(classifier.state_dict())
    found = stream_with(classifier, target_data, preprocess, [], 1.0)
    test = target_data.examples(target_data.task.targets[0].parts(1)["target_test"], 0)
    assert found.tolist() == predict(classifier, test, preprocess, 1).tolist()
    assert same_state(before, clone(classifier.state_dict()))


def test_a_stream_moves_what_is_declared_and_never_resets(
    classifier: Classifier, target_data: Data, preprocess: Preprocess
) -> None:
    before = clone(classifier.state_dict())
    stream_with(classifier, target_data, preprocess, ["embedding"], 0.1)
    after = clone(classifier.state_dict())
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert moved and moved <= {
        f"image.{name}" for name in ("conv1.weight", "class_embedding", "positional_embedding")
    } | {
        "image.ln_pre.weight",
        "image.ln_pre.bias",
    }


@pytest.mark.parametrize("image", [1, 5, 30])
def test_a_killed_online_job_goes_on_and_ends_the_same(
    model: Path,
    head: State,
    target_data: Data,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    image: int,
) -> None:
    """Killed in the first stream of target_val, in the second, and in that of target_test, after any image."""
    steps, loss = [], online.marginal_entropy

    def run(folder: str, dies_at: int = 0) -> tuple[bytes, ...]:
        def counted(logits: torch.Tensor) -> torch.Tensor:
            steps.append(1)
            if len(steps) == dies_at:
                raise KeyboardInterrupt
            return loss(logits)

        steps.clear()
        monkeypatch.setattr(online, "marginal_entropy", counted)
        arm = Sources(model, head, target_data, entry(["image"]))
        sources = {0: source, 1: source}
        states = case_states(tmp_path / folder, {}, target_data, sources)
        found = adapt_online(arm, sources, [1e-3, 1e-1], 3, states)
        for number, table in enumerate(found):
            table.to_parquet(tmp_path / f"{number}.parquet")
        return tuple((tmp_path / f"{number}.parquet").read_bytes() for number in range(2))

    monkeypatch.setattr(resume, "SAVE_SECONDS", -1)
    monkeypatch.setattr(resume, "LARGEST_SHARE", math.inf)
    whole, all_steps = run("whole"), len(steps)
    for dies_at in (image, all_steps // 2 + image):
        with pytest.raises(KeyboardInterrupt):
            run(f"killed at {dies_at}", dies_at)
        assert run(f"killed at {dies_at}") == whole
        assert len(steps) == all_steps - dies_at + 1, "no image is gone through twice"
    names = {path.name for path in (tmp_path / "whole").glob("*/*.pt")}
    assert names == {"moved 1 shots seed 0.pt", "moved 1 shots seed 1.pt"}, "finished cases need no streams"


def test_online_adaptation_reads_labels_of_target_val_only(
    model: Path, head: State, target_data: Data, source: Path, tmp_path: Path
) -> None:
    found = []
    for spoil in (False, True):
        data = Data.__new__(Data)
        data.splits, data.task = target_data.splits, target_data.task
        if spoil:

            def spoilt(part: Part, rows: pd.DataFrame, seed: int) -> Selection:
                chosen = select_target(part, rows, seed)
                return replace(chosen, labels=chosen.labels[::-1].copy()) if part.fold == "test" else chosen

            data.task = replace(target_data.task, select=spoilt)
        states = case_states(tmp_path / f"state-{spoil}", {}, data, {0: source})
        found.append(adapt_online(Sources(model, head, data, entry(["head"])), {0: source}, [1e-3, 1e-1], 3, states))
    pd.testing.assert_frame_equal(found[0][0], found[1][0])
    assert found[0][1]["predicted"].tolist() == found[1][1]["predicted"].tolist()
    assert found[0][0]["chosen"].sum() == 1
