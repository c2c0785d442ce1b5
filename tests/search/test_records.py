"""A search on the tiny task: a trial is a function of its proposal, and the records one of config, data and seed."""

import shutil
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pytest
import torch

from surefoot import finetune, records, search, train
from surefoot.clip import CONFIG, WEIGHTS, State, load_state, save_state
from surefoot.data import Data
from surefoot.files import UserError, read_json, sha256
from surefoot.learned import learned_entry
from surefoot.resume import Resumable
from surefoot.search import Arena
from surefoot.trials import read_trials, winner, write_trials
from tests.search.searching import BOTH, DIMENSIONS, STEPS, TUNE, Enter, entry, files, merged, run, run_shard
from tests.tiny import clone, same_bytes, same_state

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


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
    one, other = alone.run(3, last), after.run(3, last)
    assert {key for key in one if one[key] != other[key]} == {"cost"}
    assert same_state(clone(alone.classifier.state_dict()), clone(after.classifier.state_dict()))
    assert not same_state(clone(alone.classifier.state_dict()), alone.start), "and the trial moved something"
    if tower := alone.references.trained_text:
        assert same_state(clone(tower.state_dict()), clone(after.references.trained_text.state_dict()))
        assert not same_bytes(tower.clip.text_projection.detach(), alone.references.text.clip.text_projection)


def test_the_same_proposal_has_the_same_score_under_any_number(enter: Enter) -> None:
    arena, proposal = enter(), {"learning_rate": 1e-2, "objective.hinge?": False}
    one, other = arena.run(0, proposal), arena.run(5, proposal)
    assert {key for key in one if one[key] != other[key]} == {"number", "cost"}


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
    kept = [torch.load(file, weights_only=True) for file in Path("results/.state/killed/mark").glob("trial-*.pt")]
    assert len(kept) == 6 and meters[1]["seconds"] > 0.99 * sum(trial["cost"]["seconds"] for trial in kept)


def test_what_trials_cost_is_kept_with_them(enter: Enter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials of 4 images a step that take a second each by the clock: a rerun that finds them done tells the same."""
    ticks = iter(range(10**6))
    monkeypatch.setattr(search.time, "perf_counter", lambda: float(next(ticks)))
    space = entry(recipe={"batch_size": 64}, trial=STEPS | {"batch_size": 4})
    for _ in range(2):
        outputs = run(enter(space), trials=4, size=2)
        meter = read_json(outputs[0].with_suffix(".meter.json"))
        assert meter["steps"] == 4 * 3
        assert 4 <= meter["seconds"] < 12
        assert meter["images_per_second"] == pytest.approx(4 * 3 * 4 / meter["seconds"], abs=0.1)


@pytest.mark.parametrize("shards", [2, 5])
def test_another_number_of_shards_keeps_the_finished_trials(
    enter: Enter, monkeypatch: pytest.MonkeyPatch, shards: int
) -> None:
    whole = merged(run(enter(), trials=10, size=5))
    monkeypatch.setattr(Arena, "evaluate", lambda *_: pytest.fail("a finished trial was run again"))
    parts = [run_shard(enter(), "one", k, i, shards, trials=10, size=5) for k in range(2) for i in range(shards)]
    assert merged(parts) == whole


def test_a_search_around_a_frozen_tower_encodes_the_training_images_once(
    enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, plain = entry({"train": ["head"]}, {"augmentation": {}}), []
    arena, encode = enter(space), train.encode
    monkeypatch.setattr(train, "encode", lambda *given: plain.append(1) or encode(*given))
    together = merged(run(arena))
    assert len(plain) == 1
    alone = [run_shard(enter(space), "alone", k, i, 3) for k in range(2) for i in range(3)]
    assert merged(alone) == together


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
