"""A learned objective as a method: the base method's entry with the winner's changes, and nothing else."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from surefoot.config import parse_config
from surefoot.consistency import inconsistencies
from surefoot.experiments_page import plan_of
from surefoot.files import UserError, write_json
from surefoot.flow import Plan
from surefoot.flow_search import Searches
from surefoot.learned import learned_entry, read_objective, save_objective, take_objective
from surefoot.searched import costs_table, learned_table
from surefoot.spaces import Learned
from surefoot.story import build_story
from surefoot.trials import write_objective
from tests.tiny import raw_config

FOUND = {
    "objective.ce": 1.0,
    "objective.hinge": 0.25,
    "objective.flyp": None,
    "learning_rate": 0.1 + 0.2,
    "weight_decay": 0.5,
    "rates.head": 2.0,
    "decays.head": 0.0,
    "ema": 0.9,
    "seed": 7,
}


def space(**changes: Any) -> dict[str, Any]:
    """What jobs are given of the default config's space around `ft-both`."""
    raw = raw_config()
    raw["spaces"]["autoft"] |= changes
    wildcards = SimpleNamespace(task="emoji-style", model="emoji-clip", space="autoft", search_seed="0")
    return Searches(Plan(parse_config(raw))).space_entry(wildcards)


def base() -> dict[str, Any]:
    """What a fine-tuning job is given of the same method, where it keeps the best epoch."""
    wildcards, raw = SimpleNamespace(task="emoji-style", model="emoji-clip", method="ft-both"), raw_config()
    raw["methods"]["ft-both"]["recipes"]["emoji"] = {"keep": "best"}
    return Plan(parse_config(raw)).method_entry(wildcards)


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({"spaces": {"autoft": {"final": {"keep": "last"}}}}, True),
        ({"recipes": {"emoji": {"epochs": 3, "warmup": 7}}}, True),
        ({"recipes": {"emoji": {"augmentation": {"rotate": 3}}}}, False),
        ({"spaces": {"autoft": {"metric": "nll"}}}, False),
        ({"spaces": {"autoft": {"recipes": {"emoji": {"trial": {"steps": 5}}}}}}, False),
    ],
)
def test_trials_depend_on_what_they_read_alone(change: dict[str, Any], kept: bool) -> None:
    """A final run otherwise, or epochs and a warm-up that the trials' own settings replace, keep them."""
    cell = SimpleNamespace(task="emoji-style", model="emoji-clip", space="autoft", search_seed="0")
    before, after = (Searches(Plan(parse_config(raw))) for raw in (raw_config(), merged(raw_config(), change)))
    assert (before.search_entry(cell) == after.search_entry(cell)) is kept
    assert before.space_entry(cell) != after.space_entry(cell)
    assert before.search_entry(cell)["recipe"]["steps"] == 40


def merged(raw: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """A config with some keys changed, as by a second config file."""
    return raw | {k: merged(raw.get(k, {}), v) if isinstance(v, dict) else v for k, v in change.items()}


def test_more_searches_leave_the_final_runs_of_the_others() -> None:
    """On the fold of the search, and no two of one seed."""
    raw = raw_config()
    raw["search"] |= {"final_seeds": 3, "seeds": [0, 1, 2]}
    few = Searches(Plan(parse_config(raw)))
    raw["search"]["seeds"] = [0, 1, 2, 3, 4, 5]
    raw["seeds"] = [0, 1, 2, 3, 4, 5]
    many = Searches(Plan(parse_config(raw)))
    assert [few.final_seeds(seed) for seed in (0, 1, 2)] == [many.final_seeds(seed) for seed in (0, 1, 2)]
    assert few.final_seeds(1)[0] == 1 and {seed % 3 for seed in few.final_seeds(1)} == {1}
    assert len(set(many.run_seeds)) == 18


def test_spaces_of_other_budgets_are_named() -> None:
    plan = plan_of("autoft_wilds")
    assert Searches(plan).unequal_budgets() == []
    more = plan.config.search.model_copy(update={"spaces": ["autoft", "autoft-random", "ft-searched"]})
    lines = Searches(Plan(plan.config.model_copy(update={"search": more}))).unequal_budgets()
    assert len(lines) == 2 and all("spaces.autoft-random has other images and " in line for line in lines)
    raw = raw_config()
    raw["search"]["spaces"] = ["autoft", "ft-searched"]
    raw["methods"]["ft"].setdefault("recipes", {}).setdefault("emoji", {})["accumulation"] = 2
    assert "has other accumulation (2, not 1) than spaces.autoft" in "".join(
        Searches(Plan(parse_config(raw))).unequal_budgets()
    )
    lines = Searches(plan_of("emoji_autoft")).unequal_budgets()
    for name in ("autoft-few", "autoft-id"):
        assert f"under recipe emoji spaces.{name} has other images than spaces.autoft: " in "\n".join(lines)
    assert not [line for line in lines if "-searched" in line]


def test_a_space_scores_trials_otherwise_under_a_recipe() -> None:
    searches = Searches(plan_of("autoft_transfer"))
    entries = {
        task: searches.space_entry(SimpleNamespace(task=task, space="autoft")) for task in ("cars", "flowers102")
    }
    how = {task: [entry[key] for key in ("images", "balanced", "metric")] for task, entry in entries.items()}
    assert how == {"cars": [200, True, "top1"], "flowers102": [400, False, "nll"]}


def test_only_tasks_with_folds_ask_for_equally_many_searches_on_each() -> None:
    raw = raw_config()
    raw["search"]["seeds"] = [0, 1, 2, 3]
    raw["seeds"] = [0, 1, 2, 3]
    with pytest.raises(UserError, match=r"are \[2, 1, 1\] searches on the 3 folds of task emoji-style; give each"):
        Searches(Plan(parse_config(raw))).check()
    raw["search"]["seeds"], raw["seeds"] = [0, 1, 2], [0, 1]
    with pytest.raises(UserError, match="no seed of the run is on fold 2 of task emoji-style"):
        Searches(Plan(parse_config(raw))).check()
    plan = plan_of("autoft_wilds")
    assert {plan.tasks[task].folds for task in plan.config.run.tasks} == {1}
    seeds = [0, 1, 2, 3]
    config = plan.config.model_copy(update={"search": plan.config.search.model_copy(update={"seeds": seeds})})
    Searches(Plan(config)).check()
    assert build_story(Plan(config))["search"]["compared_seeds"]["fmow"] == list(config.seeds)


def test_without_changes_it_is_the_base_method_under_another_name() -> None:
    assert learned_entry(space(), {"changes": {}}) == base() | {"name": "autoft"}


def test_with_changes_it_differs_in_them_alone() -> None:
    expected = base() | {"name": "autoft", "seed": 7}
    expected["training"] |= {"objective": {"ce": 1.0, "hinge": 0.25}, "rates": {"head": 2.0}}
    expected["training"] |= {"decays": {"head": 0.0}, "ema": 0.9}
    expected["recipe"] |= {"learning_rate": 0.1 + 0.2, "weight_decay": 0.5}
    assert learned_entry(space(), {"changes": FOUND}) == expected


def test_the_winner_overrides_the_settings_of_the_final_run() -> None:
    found = learned_entry(space(final={"weight_decay": 0.1, "epochs": 3}), {"changes": {"weight_decay": 0.5}})
    assert (found["recipe"]["weight_decay"], found["recipe"]["epochs"]) == (0.5, 3)


def test_the_final_run_keeps_the_best_epoch_by_the_tasks_metric_whatever_scored_the_trials() -> None:
    found = learned_entry(space(metric="nll"), {"changes": {}})
    assert found["metric"] == base()["metric"] and found["recipe"]["keep"] == "best"


def test_values_without_meaning_are_named() -> None:
    with pytest.raises(UserError, match=r"^spaces\.autoft: unknown key 'learnin_rate'; did you mean 'learning_rate'"):
        learned_entry(space(), {"changes": {"learnin_rate": 1.0}})
    with pytest.raises(UserError, match=r"^spaces\.autoft\.ema: Input should be less than 1"):
        learned_entry(space(), {"changes": {"ema": 2.0}})


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A learned objective, as a search writes it."""
    proposal = {key: value for key, value in FOUND.items() if value is not None}
    own = {"number": 3, "state": "done", "score": 60.0, "proposal": proposal, "changes": {}}
    dimensions = {key: {"low": 0, "high": 100} for key in proposal}
    about = {"task": "t", "model": "m", "search_seed": 0, "training_images": 10, "validation_images": 9}
    write_objective(tmp_path / "objective.yaml", [own], space() | {"dimensions": dimensions}, about)
    return tmp_path / "objective.yaml"


def test_a_file_gives_back_the_winners_values_bit_for_bit(written: Path) -> None:
    assert read_objective(written)["changes"] == {key: value for key, value in FOUND.items() if value is not None}


@pytest.mark.parametrize("lines", [0, 1, 3, 8, 13])
def test_a_file_that_was_cut_off_is_named(written: Path, lines: int) -> None:
    """Also in the middle of a number, where the rest would still be YAML."""
    whole = written.read_text().splitlines()
    assert len(whole) > 14 and yaml.safe_load("\n".join(whole))
    written.write_text("\n".join([*whole[:lines], whole[lines][:-1]]))
    with pytest.raises(UserError, match=r"objective\.yaml is no learned objective .* delete it and rerun snakemake"):
        read_objective(written)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"- a\n", b"changes: 3\ntrials: 1\n", b"a: [", b"trials: 1"])
def test_a_damaged_file_is_named(written: Path, content: bytes) -> None:
    written.write_bytes(content)
    with pytest.raises(UserError, match=r"objective\.yaml is no learned objective"):
        read_objective(written)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"objective\.yaml is no learned objective"):
        read_objective(tmp_path / "objective.yaml")


def wilds() -> Searches:
    return Searches(plan_of("autoft_wilds"))


def cell(task: str, space: str) -> SimpleNamespace:
    return SimpleNamespace(task=task, model="ViT-B-16", space=space, search_seed="1")


def test_what_is_learned_on_one_task_is_tried_on_the_other() -> None:
    found = wilds()
    assert {(task, name) for task, _, name in found.cells() if "-of-" in name} == {
        ("fmow", "autoft-of-iwildcam"),
        ("iwildcam", "autoft-of-fmow"),
    }
    assert found.source(cell("fmow", "autoft-of-iwildcam")) in found.searches("objective.yaml")
    assert found.source(cell("fmow", "autoft-of-iwildcam")).startswith(
        "results/search/iwildcam/ViT-B-16/autoft/search-1/"
    )
    assert sum("-of-" in path for path in found.files("objective.yaml")) == 2 * 3
    assert not any("-of-" in path for path in found.searches("trials.parquet"))


def test_a_space_that_is_learned_elsewhere_is_the_searched_one_but_for_its_name() -> None:
    """Also where an experiment changes the searched one alone: else more than the objective would differ."""
    spaces = wilds().spaces
    own = {"label", "reference", "differs", "learned"}
    assert spaces["autoft"].images == 1000
    assert spaces["autoft-of-fmow"].model_dump(exclude=own) == spaces["autoft"].model_dump(exclude=own)
    assert spaces["autoft-of-fmow"].label == "AutoFT, searched on FMoW"


def test_a_rate_that_is_relative_is_taken_as_it_was(tmp_path: Path) -> None:
    """Two recipes of different rates: the search's factor is resolved where it searched."""
    raw = raw_config()
    raw["search"]["spaces"] = ["ft-searched"]
    raw["recipes"]["emoji"]["learning_rate"] = 0.1
    wildcards = SimpleNamespace(task="emoji-style", model="emoji-clip", space="ft-searched", search_seed="0")
    entry = Searches(Plan(parse_config(raw))).space_entry(wildcards)
    low = entry["dimensions"]["learning_rate"]["low"]
    assert low == pytest.approx(0.1 * 0.01)
    proposal = {"learning_rate": low, "weight_decay": 0.5}
    trial = {"number": 0, "state": "done", "score": 1.0, "reason": "", "proposal": proposal}
    about = {"task": "emoji-style", "model": "emoji-clip", "search_seed": 0, "validation_images": 9}
    write_objective(tmp_path / "objective.yaml", [trial], entry, about)
    take_objective(tmp_path / "taken.yaml", read_objective(tmp_path / "objective.yaml"), "other", "taken")
    taken = read_objective(tmp_path / "taken.yaml")
    assert taken == read_objective(tmp_path / "objective.yaml") | {
        "task": "other",
        "space": "taken",
        "learned": {"task": "emoji-style", "space": "ft-searched"},
    }
    raw["recipes"]["emoji"]["learning_rate"] = 1e-5
    other = Searches(Plan(parse_config(raw))).space_entry(wildcards)
    assert learned_entry(other, taken)["recipe"]["learning_rate"] == low


def test_an_objective_from_elsewhere_costs_its_task_nothing_and_is_listed_once(tmp_path: Path) -> None:
    objectives = []
    for name, more in (("autoft", {}), ("autoft-of-iwildcam", {"learned": {"task": "iwildcam", "space": "autoft"}})):
        about = {"task": "fmow", "model": "m", "space": name, "search_seed": 1, "trials": 5, "failed": 1, "trial": 2}
        about |= {"score": 0.5, "eval_set": "ood_val", "metric": "top1", "validation_images": 9} | more
        objectives.append(tmp_path / f"search/fmow/m/{name}/search-1/objective.yaml")
        save_objective(objectives[-1], about | {"changes": {"objective.ce": 1.0}})
        record = tmp_path / f"finetune/fmow/m/{name}@search-1/seed-1/record.json"
        write_json(record, {"training_images": 8, "method": {"recipe": {"steps": 10, "keep": "best"}}})
    meter = objectives[0].with_name("meter.json")
    write_json(meter, {"steps": 40})
    costs = costs_table(objectives, [meter], sorted(tmp_path.glob("finetune/*/*/*/*/record.json"))).set_index("space")
    numbers = ["trials", "failed", "labelled_images", "steps_ratio"]
    assert list(costs.loc["autoft", numbers]) == [5, 1, 9, 4] and not costs.loc["autoft-of-iwildcam", numbers].any()
    assert list(learned_table(objectives)["space"]) == ["autoft"]


@pytest.mark.parametrize(
    ("learned", "message"),
    [
        ({"space": "autofd", "task": "iwildcam"}, "learned.space: autofd must be in search.spaces.*did you mean"),
        (
            {"space": "autoft-of-fmow", "task": "fmow"},
            "learned.space: autoft-of-fmow must be in search.spaces",
        ),
        ({"space": "autoft", "task": "cifar10"}, "learned.task: cifar10 must be in run.tasks"),
    ],
)
def test_mistakes_of_what_is_learned_elsewhere(learned: dict[str, str], message: str) -> None:
    config = plan_of("autoft_wilds").config
    space = config.spaces["autoft-of-iwildcam"].model_copy(update={"learned": Learned(**learned)})
    changed = config.model_copy(update={"spaces": config.spaces | {"autoft-of-iwildcam": space}})
    assert re.search(message, "\n".join(inconsistencies(changed)))


def test_two_rows_of_a_table_never_have_one_name() -> None:
    config = plan_of("autoft_wilds").config
    label = config.methods["autoft-iwildcam"].label
    space = config.spaces["autoft-of-iwildcam"].model_copy(update={"label": label})
    changed = config.model_copy(update={"spaces": config.spaces | {"autoft-of-iwildcam": space}})
    assert inconsistencies(config) == []
    assert re.search(
        "spaces.autoft-of-iwildcam.label: methods.autoft-iwildcam has", "\n".join(inconsistencies(changed))
    )
