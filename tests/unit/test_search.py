"""A search on the tiny task: a trial is a function of its proposal, and the records one of config, data and seed."""

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from surefoot import finetune, metrics, records, search, train
from surefoot.augment import augment
from surefoot.clip import CONFIG, WEIGHTS, Classifier, State, load_state, save_state
from surefoot.config import Options, Recipe, Training
from surefoot.data import Data, Examples
from surefoot.files import UserError, read_json, sha256
from surefoot.learned import learned_entry, read_objective
from surefoot.resume import Resumable
from surefoot.search import Arena, validation_images
from surefoot.seeds import torch_stream
from surefoot.tasks import Part, Selection
from surefoot.text import class_rows
from surefoot.trials import read_trials, winner, write_objective, write_trials
from tests.tiny import RECIPE, TASK, Bench, clone, same_bytes, same_state, select

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

CHANGES = {"rotate": 20, "scale": 0.2, "shift": 0.1, "mirror": 0.5}
TUNE = {"train": ["image", "head"]}
BOTH = {"train": ["image", "text", "head", "logit_scale"], "objective": {"ce": 1, "flyp": 1}}
RATE = {"low": 1e-4, "high": 1e-1, "log": True}
DIMENSIONS = {"learning_rate": RATE, "objective.hinge": {"low": 1e-4, "high": 10, "log": True, "optional": True}}
STEPS = {"steps": 3, "schedule": "constant", "warmup": 0}
Entry = dict[str, Any]
Enter = Callable[..., Arena]


def entry(training: dict | None = None, recipe: dict | None = None, **changes: Any) -> Entry:
    """What a job is given of a space."""
    own = {"augmentation": CHANGES} | (recipe or {})
    return {
        "name": "mine",
        "training": Training.model_validate(training or TUNE).model_dump(),
        "recipe": Recipe.model_validate(RECIPE.model_dump() | own).model_dump(),
        "dimensions": DIMENSIONS,
        "metric": "mean_per_class",
        "task_metric": "mean_per_class",
        "sampler": "tpe",
        "eval_set": "ood_val",
        "images": None,
        "balanced": True,
        "changed": False,
        "trial": STEPS,
        "final": {"keep": "best"},
    } | changes


@pytest.fixture(scope="session")
def head_file(head: State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zero-shot head as a file."""
    save_state(tmp_path_factory.mktemp("head") / "head.safetensors", head)
    return next(tmp_path_factory.getbasetemp().glob("head*/head.safetensors"))


@pytest.fixture
def enter(model: Path, head_file: Path, data: Data) -> Enter:
    """Opens an arena, as a job does."""

    def arena(
        space: Entry | None = None,
        seed: int = 0,
        data: Data = data,
        base: Path | None = None,
        model: Path = model,
        head: Path | None = None,
    ) -> Arena:
        return Arena(model, head or head_file, data, space or entry(), base, seed)

    return arena


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths of jobs are relative."""
    monkeypatch.chdir(tmp_path)


def files(name: str, rounds: int, shards: int) -> list[Path]:
    """Records of a search's rounds."""
    return [Path(f"results/{name}/round-{k}/shard-{i}.parquet") for k in range(rounds) for i in range(shards)]


def bounds(trials: int, size: int) -> list[tuple[int, int]]:
    """First trial, and the one behind the last, of every round."""
    return [(first, min(first + size, trials)) for first in range(0, trials, size)]


def run(arena: Arena, name: str = "one", trials: int = 6, size: int = 3, mark: str = "mark") -> list[Path]:
    """A whole search in one job."""
    rounds = bounds(trials, size)
    outputs = files(name, len(rounds), 1)
    search.search(arena, rounds, 1, mark, [], outputs, outputs[0].with_suffix(".meter.json"))
    return outputs


def run_shard(
    arena: Arena, name: str, k: int, shard: int, shards: int, trials: int = 6, size: int = 3, mark: str = "mark"
) -> Path:
    """One shard of one round as a job."""
    history = files(name, k, shards)
    output = files(name, k + 1, shards)[k * shards + shard]
    meter = output.with_suffix(".meter.json")
    search.search(arena, [bounds(trials, size)[k]], shards, mark, history, [output], meter)
    return output


def merged(outputs: list[Path]) -> bytes:
    """All records of a search in one file."""
    path = Path("merged.parquet")
    write_trials(path, read_trials(outputs), "mark", task="tiny")
    return path.read_bytes()


# A trial does not depend on the trials before it

VARIANTS = {
    "image and head": (TUNE, {}),
    "text too": (BOTH, {}),
    "head made from text": (BOTH | {"options": {"head": "derived"}}, {}),
    "folded head with bias": (
        {"train": ["image", "text", "head"], "objective": {"flyp": 1, "ce": 1}},
        {"head": {"scaled": True, "bias": True}},
    ),
    "average": (TUNE | {"ema": 0.5}, {}),
    "distance": (TUNE | {"objective": {"ce": 1, "l2init": 100, "l1init@head": 10}}, {}),
    "distance to itself": (TUNE | {"objective": {"ce": 1, "l2init": 1}, "options": {"distances": "live"}}, {}),
    "teacher": (BOTH | {"objective": {"ce": 1, "flyp": 1, "kd": 1, "lipsum": 1}, "options": {"lipsum_length": 6}}, {}),
    "layers": (TUNE | {"rates": {"head": 3, "block-0": 0}, "decays": {"head": 0}}, {}),
    "rates that look": (TUNE | {"rates": "rgn"}, {}),
    "drawn batches": (TUNE, {"batches": "draws"}),
    "momentum": (TUNE, {"optimizer": "sgd"}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_trial_alone_ends_with_the_same_bits_as_after_others(enter: Enter, variant: str) -> None:
    """The others differ in rate, terms and seed, and one of them ends in NaN."""
    space = entry(*VARIANTS[variant], dimensions=DIMENSIONS | {"seed": {"low": 0, "high": 9, "integer": True}})
    others = [
        {"learning_rate": 1e-3, "objective.hinge?": True, "objective.hinge": 0.5, "seed": 1},
        {"learning_rate": 1e30, "objective.hinge?": False, "seed": 2},
        {"learning_rate": 1e-2, "objective.hinge?": False, "seed": 3},
    ]
    last = {"learning_rate": 3e-3, "objective.hinge?": True, "objective.hinge": 0.1, "seed": 4}
    alone, after = enter(space), enter(space)
    found = [after.run(number, proposal) for number, proposal in enumerate(others)]
    assert [trial["state"] for trial in found] == ["done", "failed", "done"]
    assert alone.run(3, last) == after.run(3, last)
    assert same_state(clone(alone.classifier.state_dict()), clone(after.classifier.state_dict()))
    assert not same_state(clone(alone.classifier.state_dict()), alone.start), "and the trial moved something"
    if tower := alone.references.trained_text:
        assert same_state(clone(tower.state_dict()), clone(after.references.trained_text.state_dict()))
        assert not same_bytes(tower.clip.text_projection.detach(), alone.references.text.clip.text_projection)


def test_the_same_proposal_has_the_same_score_under_any_number(enter: Enter) -> None:
    arena, proposal = enter(), {"learning_rate": 1e-2, "objective.hinge?": False}
    one, other = arena.run(0, proposal), arena.run(5, proposal)
    assert {key for key in one if one[key] != other[key]} == {"number"}


def test_a_trial_starts_where_a_final_run_of_that_method_starts(
    enter: Enter, data: Data, model: Path, head_file: Path
) -> None:
    """One trial of all steps of the final run, with its schedule, ends with the same weights."""
    space = entry(trial={}, final={}, recipe={"epochs": 2})
    arena = enter(space)
    arena.run(0, {"learning_rate": 1e-2, "objective.hinge?": False})
    changed = {"learning_rate": 1e-2, "objective.hinge": None}
    bench = finetune.Bench(model, head_file, data, learned_entry(space, {"changes": changed}))
    final = bench.run(None, 0, Resumable(Path("state"), "job"))
    assert same_state(clone(arena.classifier.state_dict()), clone(final.classifier.state_dict()))


def test_a_search_can_start_from_the_weights_of_another_method(enter: Enter, data: Data, model: Path) -> None:
    space = entry({"train": ["head"]}, trial={"steps": 1}, dimensions={"learning_rate": {"low": 1e-30, "high": 1e-29}})
    arena = enter(space)
    state = clone(arena.start)
    state["head.weight"] = state["head.weight"].roll(1, 0)
    save_state(Path("base/weights.safetensors"), state)
    Path("base/record.json").write_text(f'{{"weights": "{sha256(Path("base/weights.safetensors"))}"}}')
    rolled = enter(space, base=Path("base/weights.safetensors"))
    assert same_state(rolled.start, state) and rolled.digests != arena.digests


# The records


@pytest.mark.parametrize("shards", [2, 5])
@pytest.mark.parametrize("sampler", ["tpe", "qmc"])
def test_shards_of_a_round_make_the_records_of_one_job(enter: Enter, shards: int, sampler: str) -> None:
    """Twelve trials in rounds of five: the last round has fewer trials than five jobs."""
    space = entry(sampler=sampler, images=9)
    whole = run(enter(space), trials=12, size=5)
    parts = []
    for k in range(3):
        for shard in reversed(range(shards)):
            parts.append(run_shard(enter(space), "parts", k, shard, shards, trials=12, size=5))
    assert merged(parts) == merged(whole) and len(read_trials(whole)) == 12
    assert winner(read_trials(parts))["number"] == winner(read_trials(whole))["number"]


def test_a_sequential_search_needs_no_file_to_learn_from(enter: Enter) -> None:
    """A job with all rounds proposes what jobs of one round each propose from the records."""
    space = entry(images=9, trial={"steps": 1})
    whole = run(enter(space), trials=13, size=1)
    one_by_one = [run_shard(enter(space), "parts", k, 0, 1, trials=13, size=1) for k in range(13)]
    assert [path.read_bytes() for path in whole] == [path.read_bytes() for path in one_by_one]


@pytest.mark.fault(
    "interruption",
    "a search is killed at any trial",
    "the next run goes on behind the last finished trial; the same records and winner",
)
@pytest.mark.parametrize("calls", [1, 2, 4, 6])
@pytest.mark.parametrize("where", ["in a trial", "behind a save"])
def test_killed_and_resumed_equals_uninterrupted(
    enter: Enter, monkeypatch: pytest.MonkeyPatch, calls: int, where: str
) -> None:
    """Six trials in two rounds; what was finished is not run again."""
    whole = run(enter(), "whole")
    owner, name = (Arena, "evaluate") if where == "in a trial" else (Resumable, "save")
    original, seen = getattr(owner, name), []

    def killing(*args: object) -> object:
        found = original(*args)
        seen.append(1)
        if len(seen) == calls:
            raise KeyboardInterrupt
        return found

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, killing)
        with pytest.raises(KeyboardInterrupt):
            run(enter(), "killed")
    for path in files("killed", 2, 1):
        path.unlink(missing_ok=True)  # as Snakemake does
    ran, evaluate = [], Arena.evaluate
    monkeypatch.setattr(Arena, "evaluate", lambda self, number: ran.append(number) or evaluate(self, number))
    resumed = run(enter(), "killed")
    assert [path.read_bytes() for path in resumed] == [path.read_bytes() for path in whole]
    assert ran == list(range(calls - 1 if where == "in a trial" else calls, 6))
    meters = [read_json(paths[0].with_suffix(".meter.json")) for paths in (whole, resumed)]
    assert meters[0]["steps"] == meters[1]["steps"] == 6 * 3, "what was run before the kill counts"
    assert meters[1]["resumed"] is bool(6 - len(ran)) and not meters[0]["resumed"]


def test_more_trials_go_on_behind_those_that_are_done(enter: Enter, monkeypatch: pytest.MonkeyPatch) -> None:
    run(enter(), trials=6)
    ran, evaluate = [], Arena.evaluate
    monkeypatch.setattr(Arena, "evaluate", lambda self, number: ran.append(number) or evaluate(self, number))
    run(enter(), trials=9)
    assert ran == [6, 7, 8]


def test_states_of_another_search_are_not_used(enter: Enter, monkeypatch: pytest.MonkeyPatch) -> None:
    run(enter())
    ran, evaluate = [], Arena.evaluate
    monkeypatch.setattr(Arena, "evaluate", lambda self, number: ran.append(number) or evaluate(self, number))
    run(enter(), mark="other")
    assert ran == list(range(6))


def test_the_mark_of_a_search_names_the_version_of_optuna(enter: Enter, monkeypatch: pytest.MonkeyPatch) -> None:
    arena = enter()
    before = arena.mark({}, "code")
    monkeypatch.setattr(records, "version", lambda name: "0.0.1" if name == "optuna" else version(name))
    assert arena.mark({}, "code") != before


def test_the_mark_of_a_search_tells_apart_whatever_decides_its_trials(enter: Enter, model: Path, head: State) -> None:
    task = {"name": "tiny", "concepts": 12}
    marks = [enter().mark(task, "code"), enter(seed=1).mark(task, "code"), enter(entry(images=9)).mark(task, "code")]
    marks += [enter().mark(task | {"concepts": 13}, "code"), enter().mark(task, "other"), enter().mark(task, "code", 1)]
    changed = []
    for name in (WEIGHTS, CONFIG):
        shutil.copytree(model, Path(name))
        changed.append(Path(name, name))
    state = load_state(changed[0])
    save_state(changed[0], state | {"ln_final.bias": state["ln_final.bias"] + 1})
    changed[1].write_text(changed[1].read_text().replace("0.7", "0.8"))
    save_state(Path("head"), head | {"weight": -head["weight"]})
    folders = [(path.parent, None) for path in changed] + [(model, Path("head"))]
    marks += [enter(model=folder, head=other).mark(task, "code") for folder, other in folders]
    assert len(set(marks)) == len(marks) == 9 and enter().mark(dict(reversed(task.items())), "code") == marks[0]


def test_a_record_says_what_was_tried(enter: Enter) -> None:
    table = pd.concat(pd.read_parquet(path) for path in run(enter(), trials=5))
    assert table["number"].tolist() == [0, 1, 2, 3, 4] and table["round"].tolist() == [0, 0, 0, 1, 1]
    about = table[["task", "model", "space", "search_seed", "search"]].drop_duplicates().to_numpy().tolist()
    assert about == [["tiny", "tiny", "mine", 0, "mark"]]
    for trial in read_trials(files("one", 2, 1)):
        on = trial["proposal"]["objective.hinge?"]
        assert trial["changes"]["learning_rate"] == trial["proposal"]["learning_rate"]
        assert trial["changes"]["objective.hinge"] == (trial["proposal"]["objective.hinge"] if on else None)


def test_the_meter_counts_images_and_steps(enter: Enter) -> None:
    """A trial of whole epochs has four steps in each: 30 images in batches of 8."""
    space = entry(images=9, trial={"epochs": 2, "schedule": "constant", "warmup": 0})
    meter = read_json(run(enter(space), trials=3)[0].with_suffix(".meter.json"))
    assert (meter["training_images"], meter["validation_images"], meter["steps"]) == (30, 9, 3 * 8)


@pytest.mark.fault(
    "damaged file",
    "records of trials are damaged, or of another search",
    "named; nothing is overwritten",
)
@pytest.mark.parametrize("damage", ["cut off", "another mark"])
def test_broken_or_foreign_records_are_named_and_nothing_is_overwritten(enter: Enter, damage: str) -> None:
    arena = enter()
    mark = "other" if damage == "another mark" else "mark"
    first = [run_shard(arena, "parts", 0, shard, 2, mark=mark) for shard in (0, 1)]
    if damage == "cut off":
        first[1].write_bytes(first[1].read_bytes()[: first[1].stat().st_size // 2])
    before = {path: path.read_bytes() for path in Path("results").rglob("*") if path.is_file()}
    words = {"cut off": "shard-1.parquet cannot be read", "another mark": "shard-0.parquet holds trials of another"}
    with pytest.raises(UserError, match=f"^results/parts/round-0/{words[damage]}"):
        run_shard(enter(), "parts", 1, 0, 2)
    assert {path: path.read_bytes() for path in Path("results").rglob("*") if path.is_file()} == before


def test_a_round_without_all_before_it_is_refused(enter: Enter) -> None:
    arena = enter()
    run_shard(arena, "parts", 0, 0, 2)
    write_trials(files("parts", 1, 2)[1], [], "mark")
    with pytest.raises(UserError, match=r"spaces\.mine: trial 3 needs all before it, but the records hold 2"):
        run_shard(arena, "parts", 1, 0, 2)


# Trials that fail


@pytest.mark.fault(
    "numbers",
    "a trial of a search ends in NaN",
    "a record with its reason; the search goes on and learns from it",
)
@pytest.mark.parametrize(("training", "steps"), [(TUNE, 1), (TUNE, 3), (BOTH, 1), (BOTH, 3), ({"train": ["head"]}, 3)])
def test_a_trial_that_ends_in_nan_is_recorded_as_failed_and_the_search_goes_on(
    enter: Enter, training: dict, steps: int
) -> None:
    """Also where the last step alone did the damage, after the last look at the loss."""
    rates = {"learning_rate": {"choices": [1e-3, 1e30]}}
    recipe = {"clip_norm": None, "optimizer": "sgd"}
    space = entry(training, recipe, dimensions=rates, sampler="random", trial=STEPS | {"steps": steps})
    trials = read_trials(run(enter(space), trials=8, size=8))
    assert {trial["state"] for trial in trials} == {"done", "failed"}
    for trial in trials:
        good = trial["proposal"]["learning_rate"] == 1e-3
        assert trial["state"] == ("done" if good else "failed") and math.isfinite(trial["score"]) is good
        assert bool(trial["reason"]) is not good
        assert good or "learning_rate" in trial["reason"]


def test_a_search_learns_from_its_failures(enter: Enter) -> None:
    """Above some rate no trial works; once the random start is over, few proposals lie there."""
    rates = {"learning_rate": {"low": 1e-4, "high": 1e30, "log": True}}
    space = entry(recipe={"clip_norm": None}, dimensions=rates, trial={"steps": 1}, images=9, metric="nll")
    failed = [trial["state"] == "failed" for trial in read_trials(run(enter(space), trials=40, size=1))]
    assert np.mean(failed[:10]) > 0.5 and np.mean(failed[20:]) < 0.2


@pytest.mark.parametrize(
    ("training", "key", "value", "words"),
    [
        (TUNE, "objective.ce", 0.0, "every weight is 0"),
        (TUNE, "ema", 1.0, "ema: Input should be less than 1"),
        (TUNE, "rates.block-9", 1.0, "spaces.mine.rates: this model has no part 'block-9'"),
        (TUNE, "rates.text", 1.0, "no part 'text'"),
        (TUNE, "objective.l2init@logit_scale", 1.0, "spaces.mine.objective.l2init@logit_scale: no part"),
        ({"train": ["head"], "objective": {"flyp": 1}}, "weight_decay", 0.1, "no term of the objective depends on"),
    ],
)
def test_values_without_meaning_fail_a_trial_with_their_reason(
    enter: Enter, training: dict, key: str, value: float, words: str
) -> None:
    trial = enter(entry(training, dimensions={key: {"low": 0, "high": 9}})).run(0, {key: value})
    assert trial["state"] == "failed" and math.isnan(trial["score"]) and words in trial["reason"]


@pytest.mark.parametrize(
    ("error", "seen", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), UserError, "trial 0 does not fit into the memory of the GPU"),
        (ZeroDivisionError("ours"), ZeroDivisionError, "ours"),
    ],
)
def test_what_says_nothing_of_a_trial_ends_the_search_and_records_nothing(
    enter: Enter, monkeypatch: pytest.MonkeyPatch, error: Exception, seen: type[Exception], words: str
) -> None:
    """Another GPU has more memory, and our own mistake is no fault of a trial: both run again after the next start."""
    arena = enter()
    monkeypatch.setattr(search, "fit", lambda *_: (_ for _ in ()).throw(error))
    with pytest.raises(seen, match=words):
        run(arena)
    assert not [*Path("results").rglob("*.parquet"), *Path("results").rglob("trial-*.pt")]


@pytest.mark.fault(
    "numbers",
    "every trial of a search fails",
    "the job ends and names the space",
)
def test_where_every_trial_failed_the_space_is_named(enter: Enter) -> None:
    rates = {"learning_rate": {"low": 1e29, "high": 1e30}}
    space = entry(recipe={"clip_norm": None}, dimensions=rates)
    trials = read_trials(run(enter(space), trials=4))
    with pytest.raises(UserError, match=r"^spaces\.mine: all 4 trials failed, for instance: .*learning_rate"):
        write_objective(Path("objective.yaml"), trials, space, {})


# What scores the trials


def rows(examples: Examples) -> set[tuple[str, int]]:
    """Which images these are."""
    return {(split.digest, int(row)) for split, chosen in examples.pieces for row in chosen}


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
    with pytest.raises(UserError, match=f"task tiny, ood_val: {words} cannot score a search"):
        validation_images(few, 0, "ood_val", images, True)


def test_fewer_images_than_classes_cannot_score(data: Data) -> None:
    with pytest.raises(UserError, match=r"0 images of 0 classes cannot score a search; raise spaces\.<name>\.images"):
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


# The searched seed


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[train.Run]:
    """The training runs of a test, as they come."""
    seen, fit = [], train.fit

    def noted(classifier: Classifier, run: train.Run) -> train.History:
        seen.append(run)
        assert run.references.seed == run.seed, "captions and random texts follow the same seed"
        return fit(classifier, run)

    monkeypatch.setattr(search, "fit", noted)
    monkeypatch.setattr(finetune, "fit", noted)
    return seen


def final_run(space: Entry, changed: dict, data: Data, model: Path, head_file: Path, seed: int) -> finetune.Trained:
    """The final run of a learned objective."""
    learned = learned_entry(space, {"changes": changed})
    return finetune.Bench(model, head_file, data, learned).run(None, seed, Resumable(Path(f"state-{seed}"), "job"))


SEEDED = {"learning_rate": {"low": 1e-3, "high": 1e-2}, "seed": {"low": 0, "high": 10, "integer": True}}


def test_the_searched_seed_changes_the_order_and_not_the_fold(
    enter: Enter, runs: list[train.Run], data: Data, model: Path, head_file: Path
) -> None:
    space, own = entry(dimensions=SEEDED), {"learning_rate": 2e-3}
    arena = enter(space, seed=1)
    for seed in (4, 5, 4):
        arena.run(0, own | {"seed": seed})
    final_run(space, own | {"seed": 4}, data, model, head_file, 1)
    final_run(space, own, data, model, head_file, 1)
    orders = [np.concatenate(list(run.examples.shuffled(8, run.seed, 0))).tolist() for run in runs]
    assert orders[0] == orders[2] == orders[3], "the final run has the order of the winner"
    assert orders[0] != orders[1] and orders[4] not in orders[:4]
    assert runs[4].seed == 1, "a search without that dimension has the seed of the run"
    assert all(rows(run.examples) == rows(data.training(1)) != rows(data.training(0)) for run in runs)


def test_final_runs_of_other_seeds_have_other_orders_under_the_same_searched_seed(
    runs: list[train.Run], data: Data, model: Path, head_file: Path
) -> None:
    for seed in (0, 3):
        final_run(entry(dimensions=SEEDED), {"learning_rate": 2e-3, "seed": 4}, data, model, head_file, seed)
    one, other = runs
    assert one.seed != other.seed and rows(one.examples) == rows(other.examples)


def test_the_searched_seed_does_not_change_the_start(enter: Enter) -> None:
    arena = enter(entry(TUNE | {"start": "random"}, dimensions=SEEDED))
    start = clone(arena.start)
    for seed in (1, 2):
        arena.run(0, {"learning_rate": 1e-30, "seed": seed})
        changed = arena.classifier.state_dict()
        torch.testing.assert_close(changed["head.weight"], start["head.weight"], rtol=0, atol=1e-7)


# Switches of the released code


@pytest.mark.parametrize(
    ("use", "trials", "final"),
    [("both", "found", "found"), ("trials", "found", "base"), ("nowhere", "base", "base"), ("final", "base", "found")],
)
def test_a_rate_is_used_where_the_dimension_says(
    enter: Enter, runs: list[train.Run], data: Data, model: Path, head_file: Path, use: str, trials: str, final: str
) -> None:
    """AutoFT's released code searches a rate and uses it nowhere; an earlier state used it in the trials."""
    rates = {"base": 1e-3, "found": 4e-3}
    space = entry(recipe={"learning_rate": 1e-3}, dimensions={"learning_rate": RATE | {"use": use}})
    trial = enter(space).run(0, {"learning_rate": 4e-3})
    write_objective(Path("objective.yaml"), [trial], space, {})
    final_run(space, read_objective(Path("objective.yaml"))["changes"], data, model, head_file, 0)
    assert [run.recipe.learning_rate for run in runs] == [rates[trials], rates[final]]


def test_a_rate_that_is_used_nowhere_leaves_every_trial_as_it_is(enter: Enter) -> None:
    for use, same in (("nowhere", True), ("trials", False)):
        arena, ends = enter(entry(dimensions={"learning_rate": RATE | {"use": use}})), []
        for rate in (1e-4, 1e-2):
            arena.run(0, {"learning_rate": rate})
            ends.append(clone(arena.classifier.state_dict()))
        assert same_state(*ends) is same


def test_a_weight_of_the_final_run_alone_is_drawn_at_random_and_not_learned(
    enter: Enter, runs: list[train.Run], data: Data, model: Path, head_file: Path
) -> None:
    """AutoFT's released code tries every proposal with a cross-entropy of weight 1 and then trains with another."""
    weight = {"low": 1e-4, "high": 10, "log": True, "use": "final"}
    space = entry(dimensions={"learning_rate": RATE, "objective.ce": weight})
    trial = enter(space).run(0, {"learning_rate": 1e-3, "objective.ce": 7.0})
    write_objective(Path("objective.yaml"), [trial], space, {})
    final_run(space, read_objective(Path("objective.yaml"))["changes"], data, model, head_file, 0)
    assert [run.training.objective for run in runs] == [{"ce": 1.0}, {"ce": 7.0}]


def test_the_score_may_be_of_images_changed_at_random(enter: Enter, bench: Bench, data: Data) -> None:
    """AutoFT's released code scores on the training transform; the changes differ from trial to trial."""
    proposal = {"learning_rate": 1e-3, "objective.hinge?": False}
    plain, changed = (enter(entry(metric="nll", changed=c)) for c in (False, True))
    scores = [arena.run(number, proposal)["score"] for arena in (plain, changed) for number in (0, 1, 0)]
    assert scores[0] == scores[1] == scores[2] and scores[3] == scores[5] and len(set(scores)) == 3
    examples = data.examples(TASK.parts_of("ood_val"), 0)
    images = bench.preprocess.scale(examples.images(np.arange(len(examples))))
    how = Recipe(augmentation=CHANGES).augmentation
    images = augment(images, how, torch_stream(0, "validation changes", 1))
    with torch.no_grad():
        logits = changed.classifier(bench.preprocess.normalise(images))
    expected = -torch.nn.functional.cross_entropy(logits, torch.from_numpy(examples.labels)).item()
    assert scores[4] == pytest.approx(expected, rel=1e-5)


def test_images_changed_at_random_are_cropped_where_training_crops(enter: Enter) -> None:
    proposal, recipe = {"learning_rate": 1e-3, "objective.hinge?": False}, {"augmentation": {"crop": [0.3, 0.6]}}
    arenas = [enter(entry(metric="nll", changed=c, recipe=recipe)) for c in (False, True)]
    plain, *changed = (
        a.run(n, proposal)["score"] for a, n in zip([*arenas[:1], *[arenas[1]] * 3], (0, 0, 1, 0), strict=True)
    )
    assert changed[0] == changed[2] and len({plain, *changed}) == 3


@pytest.mark.parametrize("convention", [{}, {"scaled": True, "bias": True}])
def test_the_head_may_be_made_anew_from_the_tuned_text_tower(enter: Enter, convention: dict) -> None:
    """As in an earlier state of AutoFT's code; the bias is then zero."""
    training = BOTH | {"train": ["image", "text", "head"]}
    ends = {}
    for how in ("trained", "derived"):
        arena = enter(entry(training | {"options": {"head": how}}, {"head": convention}))
        arena.run(0, {"learning_rate": 1e-2, "objective.hinge?": False})
        tower = arena.references.trained_text
        rows_now = class_rows(tower.encode, arena.references.tokens).detach()
        rows_now = rows_now * tower.clip.logit_scale.exp().detach() if convention else rows_now
        ends[how] = same_bytes(arena.classifier.head.weight.detach(), rows_now)
        if convention:
            assert bool(arena.classifier.head.bias.any()) is (how == "trained")
    assert ends == {"trained": False, "derived": True}


def test_a_trial_keeps_its_last_weights_where_the_base_method_keeps_the_best(enter: Enter) -> None:
    ends = []
    for keep in ("last", "best"):
        arena = enter(entry(recipe={"keep": keep}))
        assert arena.run(0, {"learning_rate": 1e-2, "objective.hinge?": False})["state"] == "done"
        ends.append(clone(arena.classifier.state_dict()))
    assert same_state(*ends)


# Layers


def test_rates_and_decays_of_parts_are_those_of_the_adamw_step(enter: Enter, runs: list[train.Run]) -> None:
    """The first step of AdamW by hand: theta (1 - lr f w d) - lr f g / (|g| + 1e-8)."""
    space = entry(
        recipe={"augmentation": {}, "clip_norm": None, "weight_decay": 0.5},
        trial=STEPS | {"steps": 1},
        dimensions={
            f"{kind}.{part}": {"low": 0, "high": 9} for kind in ("rates", "decays") for part in ("head", "block-1")
        },
    )
    arena = enter(space)
    proposal = {"rates.head": 2.0, "decays.head": 0.25, "rates.block-1": 0.5, "decays.block-1": 8.0}
    assert arena.run(0, proposal)["state"] == "done"
    after, before = clone(arena.classifier.state_dict()), arena.start
    arena.classifier.load_state_dict(before)
    arena.classifier.requires_grad_(True).zero_grad()
    [first] = [next(run.examples.shuffled(8, run.seed, 0)) for run in runs]
    labels = torch.from_numpy(runs[0].examples.labels[first])
    torch.nn.functional.cross_entropy(
        arena.classifier(arena.preprocess(runs[0].examples.images(first))), labels
    ).backward()
    factors = {"head.": (2.0, 0.25), "image.transformer.resblocks.1.": (0.5, 8.0)}
    seen = set()
    for name, tensor in arena.classifier.named_parameters():
        if name == "logit_scale":
            continue
        prefix = next((p for p in factors if name.startswith(p)), "")
        seen.add(prefix)
        rate, decay = factors.get(prefix, (1.0, 1.0))
        lr, g = RECIPE.learning_rate * rate, tensor.grad
        expected = before[name] * (1 - lr * 0.5 * decay) - lr * g / (g.abs() + 1e-8)
        torch.testing.assert_close(after[name], expected, rtol=1e-5, atol=1e-6)
    assert seen == {"", *factors}


def test_every_value_of_the_entry_reaches_the_run(enter: Enter, runs: list[train.Run]) -> None:
    dimensions = {"rates.head": 2.0, "decays.image": 0.5, "objective.l2init@head": 3.0, "ema": 0.5}
    dimensions |= {"options.kd_temperature": 4.0, "schedule": {"choices": ["constant", "cosine"]}}
    enter(entry(dimensions=dimensions)).run(0, {"schedule": "cosine"})
    [run] = runs
    assert run.training == Training(
        **TUNE,
        objective={"ce": 1, "l2init@head": 3},
        rates={"head": 2},
        decays={"image": 0.5},
        ema=0.5,
        options=Options(kd_temperature=4),
    )
    expected = {"augmentation": CHANGES} | STEPS | {"schedule": "cosine"}
    assert run.recipe == Recipe.model_validate(RECIPE.model_dump() | expected)
    assert run.references.options == run.training.options and run.progress is None
