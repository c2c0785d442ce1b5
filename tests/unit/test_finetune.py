"""One fine-tuning run: where it starts, how much it sees, and what it writes."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from surefoot import finetune, train
from surefoot.clip import (
    Classifier,
    State,
    convention_of,
    in_convention,
    load_state,
    random_classifier,
    save_state,
    zero_shot_classifier,
)
from surefoot.data import Data
from surefoot.files import UserError, read_json, sha256
from surefoot.method_entries import Augmentation, Head, Recipe, Training
from surefoot.metrics import top1
from surefoot.passes import predict
from surefoot.resume import Resumable
from tests.tiny import RECIPE, Bench, clone, same_state

TUNE = {"train": ["image", "head"]}
STILL = RECIPE.model_copy(update={"learning_rate": 1e-30, "weight_decay": 0.0, "epochs": 1})
Tuner = Callable[..., "Tuned"]


@dataclass(frozen=True)
class Tuned:
    """What a run wrote."""

    weights: Path
    state: State
    record: dict[str, Any]
    meter: dict[str, Any]


@pytest.fixture
def tune(bench: Bench, tmp_path: Path) -> Tuner:
    """Runs a method on the tiny task and reads what it wrote."""
    save_state(tmp_path / "head.safetensors", bench.head)
    numbers = iter(range(100))

    def run(
        training: dict, recipe: Recipe = RECIPE, seed: int = 0, base: Path | None = None, data: Data = bench.data
    ) -> Tuned:
        folder = tmp_path / f"run-{next(numbers)}"
        out = [folder / name for name in ("weights.safetensors", "record.json", "meter.json")]
        entry = {
            "name": "mine",
            "training": Training.model_validate(training).model_dump(),
            "recipe": recipe.model_dump(),
            "metric": "top1",
        }
        progress = Resumable(folder / "state", "job")
        runs = finetune.Bench(bench.model, tmp_path / "head.safetensors", data, entry)
        finetune.finetune(runs, base, seed, progress, "code", *out)
        return Tuned(out[0], load_state(out[0]), read_json(out[1]), read_json(out[2]))

    return run


@pytest.fixture
def zero_shot(classifier: Classifier) -> State:
    """The zero-shot model's state."""
    return clone(classifier.state_dict())


# Where a run starts


def test_a_run_starts_at_the_zero_shot_model(tune: Tuner, zero_shot: State) -> None:
    assert same_state(tune(TUNE, STILL).state, zero_shot)


@pytest.mark.parametrize("convention", [Head(scaled=True), Head(bias=True), Head(scaled=True, bias=True)])
def test_the_recipe_sets_the_convention_of_the_head(tune: Tuner, bench: Bench, convention: Head) -> None:
    state = tune(TUNE, STILL.model_copy(update={"head": convention})).state
    assert convention_of(state) == convention
    for name, tensor in in_convention(bench.head, convention).items():
        torch.testing.assert_close(state[name if name == "logit_scale" else f"head.{name}"], tensor)


@pytest.mark.parametrize("lbfgs", [False, True])
def test_lp_ft_starts_exactly_where_lp_ended(tune: Tuner, zero_shot: State, lbfgs: bool) -> None:
    probe = RECIPE.model_copy(update={"optimizer": "lbfgs", "weight_decay": 1e-2} if lbfgs else {})
    lp = tune({"train": ["head"]}, probe)
    lp_ft = tune(TUNE, STILL, base=lp.weights)
    assert same_state(lp_ft.state, lp.state)
    assert not torch.equal(lp.state["head.weight"], zero_shot["head.weight"])
    assert lp_ft.record["base"] == sha256(lp.weights) and lp.record["base"] is None
    assert not same_state(tune(TUNE, base=lp.weights).state, tune(TUNE).state)


def test_l2_sp_pulls_to_the_base_and_kd_to_the_zero_shot_model(tune: Tuner) -> None:
    """At the first step of a run from another model the pull is nothing, but the distance to the teacher is not."""
    lp = tune({"train": ["head"]})
    record = tune(TUNE | {"objective": {"l2init": 1, "kd": 1}}, STILL, base=lp.weights).record
    [terms] = record["history"]["terms"]
    assert terms["l2init"] == pytest.approx(0, abs=1e-12) and terms["kd"] > 1e-4


@pytest.mark.parametrize(
    ("ours", "theirs"), [(Head(), Head(scaled=True)), (Head(bias=True), Head()), (Head(scaled=True), Head(bias=True))]
)
def test_a_base_in_another_convention_is_refused(tune: Tuner, ours: Head, theirs: Head) -> None:
    base = tune({"train": ["head"]}, STILL.model_copy(update={"head": theirs}))
    with pytest.raises(UserError, match="another convention of the head; set the same recipe key head"):
        tune(TUNE, STILL.model_copy(update={"head": ours}), base=base.weights)


def test_a_changed_base_is_refused(tune: Tuner) -> None:
    base = tune({"train": ["head"]}).weights
    base.write_bytes(base.read_bytes()[:-4])
    with pytest.raises(UserError, match="does not match its record"):
        tune(TUNE, base=base)


def test_a_random_start_is_fixed_by_the_seed_and_is_not_the_zero_shot_model(tune: Tuner, zero_shot: State) -> None:
    random = TUNE | {"start": "random"}
    one, again, other = (tune(random, STILL, seed).state for seed in (0, 0, 1))
    assert same_state(one, again) and one.keys() == zero_shot.keys()
    for state in (zero_shot, other):
        same = {name for name in one if torch.equal(one[name], state[name])}
        constant = {
            n for n in one if n.endswith(("bias", "ln_1.weight", "ln_2.weight", "ln_pre.weight", "ln_post.weight"))
        }
        assert same <= constant | {"logit_scale"} and "head.weight" not in same
    torch.testing.assert_close(one["head.weight"].norm(dim=1), torch.ones(3))


def test_the_global_generator_does_not_matter_to_a_random_start(bench: Bench) -> None:
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        states.append(clone(random_classifier(bench.model, bench.head, Head(), 5).state_dict()))
    assert same_state(*states)


def test_a_random_start_learns(tune: Tuner) -> None:
    terms = tune(TUNE | {"start": "random"}, RECIPE.model_copy(update={"epochs": 6})).record["history"]["terms"]
    assert terms[-1]["ce"] < terms[0]["ce"]


# How much it sees


def rows(data: Data, seed: int, share: float) -> set[tuple[str, bytes]]:
    """Training images of a share."""
    examples = data.training(seed, share)
    images = examples.images(np.arange(len(examples)))
    return {(str(c), image.numpy().tobytes()) for c, image in zip(examples.clusters, images, strict=True)}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_shares_are_nested_and_take_whole_clusters_class_by_class(data: Data, seed: int) -> None:
    """Five concepts of two images a class: a share holds ceil(5 share) of each."""
    before: set = set()
    for share in (0.01, 0.2, 0.3, 0.5, 0.9, 1.0):
        chosen, examples = rows(data, seed, share), data.training(seed, share)
        assert before <= chosen
        before, count = chosen, int(np.ceil(5 * share))
        assert np.bincount(examples.labels).tolist() == [2 * count] * 3
        assert len(set(examples.clusters)) == 3 * count
    assert before == rows(data, seed, 1)


def test_a_subset_keeps_labels_clusters_and_images_together(data: Data) -> None:
    whole = data.examples(data.task.eval_sets[1].parts, 0)  # of two splits
    positions = np.random.default_rng(0).permutation(len(whole))[:11]
    part, ordered = whole.subset(positions), np.sort(positions)
    assert list(part.labels) == list(whole.labels[ordered]) and list(part.groups) == list(whole.groups[ordered])
    assert list(part.clusters) == list(whole.clusters[ordered])
    assert torch.equal(part.images(np.arange(11)), whole.images(ordered))


def test_a_run_sees_its_share_only(tune: Tuner, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, batches = set(), train.Inputs.batches

    def note(self: train.Inputs, positions: Iterable[np.ndarray], step: int) -> Iterator[tuple]:
        positions = list(positions)
        indices = np.concatenate(positions)
        images = self.run.examples.images(indices)
        seen.update(
            (str(c), i.numpy().tobytes()) for c, i in zip(self.run.examples.clusters[indices], images, strict=True)
        )
        return batches(self, positions, step)

    monkeypatch.setattr(train.Inputs, "batches", note)
    record = tune(TUNE | {"share": 0.4}).record
    assert seen == rows(data, 0, 0.4) and record["training_images"] == len(seen) == 12


# What it does at the end


@pytest.mark.parametrize("objective", [{"ce": 1.0}, {"ce": 1.0, "lipsum": 0.1}], ids=["ft", "lipsum-ft"])
def test_tpgm_projects_towards_the_zero_shot_model_not_towards_the_base(
    tune: Tuner, zero_shot: State, objective: dict[str, float]
) -> None:
    """Whatever the base was trained on: projecting is a method of its own, on top of any other."""
    ft = tune(TUNE | {"objective": objective, "options": {"lipsum_texts": 8, "lipsum_length": 6}})
    tpgm = tune({"tpgm": {"steps": 5}}, base=ft.weights)
    radii = tpgm.record["history"]["radii"]
    assert set(radii) == {name for name in zero_shot if not torch.equal(zero_shot[name], ft.state[name])}
    for name, tensor in tpgm.state.items():
        distance = (ft.state[name] - zero_shot[name]).norm()
        inside = (tensor - zero_shot[name]).norm()
        assert inside <= distance * (1 + 1e-5)
        if name in radii:
            assert inside.item() == pytest.approx(min(radii[name], distance.item()), rel=1e-3, abs=1e-6)
    assert tpgm.record["history"]["terms"] == [] and not same_state(tpgm.state, ft.state)


def test_training_and_projection_in_one_run_equal_two(tune: Tuner) -> None:
    ft = tune(TUNE)
    two = tune({"tpgm": {"steps": 5}}, base=ft.weights)
    one = tune(TUNE | {"tpgm": {"steps": 5}})
    assert same_state(one.state, two.state) and one.record["history"]["radii"] == two.record["history"]["radii"]


@pytest.mark.parametrize("convention", [Head(), Head(scaled=True, bias=True)])
def test_tpgm_works_in_every_convention(tune: Tuner, convention: Head) -> None:
    recipe = RECIPE.model_copy(update={"head": convention})
    record = tune(TUNE | {"tpgm": {"steps": 3}}, recipe).record
    assert {"head.weight"} | ({"head.bias"} if convention.bias else set()) <= set(record["history"]["radii"])


def test_the_best_epoch_is_chosen_on_id_val(tune: Tuner, bench: Bench, data: Data) -> None:
    """The watched value is the task's metric on id_val, and the kept weights have the best of them."""
    result = tune(TUNE, RECIPE.model_copy(update={"keep": "best", "epochs": 6, "learning_rate": 0.02}))
    watched = result.record["history"]["watched"]
    classifier, examples = zero_shot_classifier(bench.model, bench.head), data.examples(data.task.parts_of("id_val"), 0)
    classifier.load_state_dict(result.state)
    found = top1(predict(classifier, examples, bench.preprocess, 100), examples.labels)
    assert len(watched) == 6 and len(set(watched)) > 1 and found == max(watched)


def test_the_record_says_what_was_run(tune: Tuner, data: Data) -> None:
    result = tune({"train": ["head"], "rates": "rgn", "objective": {"ce": 1, "hinge": 0.1}}, seed=2)
    record = result.record
    assert (record["task"], record["seed"], record["code"], record["training_images"]) == ("tiny", 2, "code", 30)
    assert record["weights"] == sha256(result.weights) and record["data"] == data.digests
    assert record["method"]["training"]["rates"] == "rgn" and record["method"]["recipe"]["epochs"] == 3
    assert set(record["history"]) == {"terms", "factors", "watched", "radii", "parts"}
    assert record["history"]["factors"] == [{"head.weight": 1.0}] * 3
    assert [set(epoch) for epoch in record["history"]["terms"]] == [{"ce", "hinge"}] * 3
    assert result.meter["resumed"] is False and "seconds" in result.meter and "seconds" not in record


def test_weights_that_are_not_finite_are_refused(tune: Tuner, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(classifier: Classifier, run: train.Run) -> train.History:
        classifier.state_dict()["head.weight"][0, 0] = float("nan")
        return train.History()

    monkeypatch.setattr("surefoot.finetune.fit", broken)
    with pytest.raises(UserError, match=r"mine seed 0: head\.weight is not finite; lower the learning_rate"):
        tune(TUNE)


def test_a_term_that_compares_with_the_zero_shot_model_holds_the_weights_back(tune: Tuner, zero_shot: State) -> None:
    """Every such term, with enough weight, ends nearer to the zero-shot model than plain fine-tuning."""
    options = {"lipsum_texts": 8, "lipsum_length": 6}

    def distance(objective: dict) -> float:
        recipe = RECIPE.model_copy(update={"weight_decay": 0.0, "optimizer": "sgd", "learning_rate": 0.05})
        state = tune({**TUNE, "objective": objective, "options": options}, recipe).state
        return sum(float((state[n] - zero_shot[n]).square().sum()) for n in state) ** 0.5

    plain = distance({"ce": 1.0})
    for term, weight in {"l2init": 20000.0, "kd": 10.0, "lipsum": 10.0, "carft": 100.0}.items():
        assert distance({"ce": 1.0, term: weight}) < 0.98 * plain, term


def test_images_change_in_a_run_but_not_on_validation(tune: Tuner) -> None:
    changes = Augmentation(rotate=20, scale=0.3, shift=0.2, mirror=0.5)
    plain = STILL.model_copy(update={"keep": "best"})
    one, other = (tune(TUNE, plain.model_copy(update=u)).record["history"] for u in ({}, {"augmentation": changes}))
    assert one["watched"] == other["watched"] and one["terms"] != other["terms"]
