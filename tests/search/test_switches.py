"""Switches of a search: the searched seed, the released code's, and layers."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from surefoot import finetune, search, train
from surefoot.augment import augment
from surefoot.clip import Classifier
from surefoot.data import Data
from surefoot.experiments_page import plan_of
from surefoot.flow_search import Searches
from surefoot.learned import learned_entry, read_objective
from surefoot.method_entries import Options, Recipe, Training
from surefoot.method_entries import changed as changed_entry
from surefoot.resume import Resumable
from surefoot.seeds import torch_stream
from surefoot.text import class_rows
from surefoot.trials import write_objective
from tests.search.searching import BOTH, CHANGES, RATE, STEPS, TUNE, Enter, Entry, entry, rows
from tests.tiny import RECIPE, TASK, Bench, clone, same_bytes, same_state

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


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
    ("space", "rate", "weight", "batches", "distances", "balanced", "head", "changed", "seed"),
    [
        ("autoft", "both", 1.0, "epochs", "start", True, "trained", False, False),
        ("autoft-released", "nowhere", "final", "draws", "live", False, "trained", True, True),
        ("autoft-r23", "trials", 1.0, "epochs", "live", True, "derived", True, True),
    ],
)
def test_the_entries_have_the_switches_of_the_idea_and_of_the_two_states_of_the_code(
    space: str,
    rate: str,
    weight: object,
    batches: str,
    distances: str,
    balanced: bool,
    head: str,
    changed: bool,
    seed: bool,
) -> None:
    """The table of the fact sheet (AutoFT, section 4.9): what holds in the trials and in the final run."""
    searches, cell = Searches(plan_of("emoji_autoft")), SimpleNamespace(task="emoji-style", space=space)
    entry, trials = searches.space_entry(cell), searches.search_entry(cell)
    free = entry["dimensions"]
    assert free["learning_rate"]["use"] == rate
    ce = free["objective.ce"]
    assert (ce["use"] if isinstance(ce, dict) else ce) == weight
    assert ("seed" in free) == seed
    assert (entry["balanced"], entry["changed"]) == (balanced, changed)
    middle = dict.fromkeys((key for key in free if key.startswith("objective.")), 1.0)
    final, recipe = changed_entry(entry["training"], entry["recipe"], {**entry["final"], **middle}, "spaces")
    assert (final.options.distances, final.options.head, recipe.batches) == (distances, head, batches)
    assert trials["recipe"]["batches"] == batches and trials["training"]["options"]["distances"] == "start"
    # Trials of the released code end within the warm-up, those of the year before have a constant rate.
    late = trials["recipe"]["warmup"] > trials["recipe"]["steps"] and trials["recipe"]["warmup_share"] == 1
    assert late == (space == "autoft-released")


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
