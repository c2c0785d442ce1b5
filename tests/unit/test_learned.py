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
from surefoot.learned import learned_entry, read_objective
from surefoot.searched import costs_table
from surefoot.spaces import Learned
from surefoot.trials import write_objective
from tests.tiny import raw_config

FREE = {"low": 0.0, "high": 1.0}
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
    own, other = cell("iwildcam", "autoft"), cell("fmow", "autoft-of-iwildcam")
    assert found.all_trials(other) == found.all_trials(own) != found.all_trials(cell("fmow", "autoft"))
    assert found.job_meters(other) == found.job_meters(own)
    assert not any("-of-" in path for path in found.trials())
    assert sum("-of-" in path for path in found.files("objective.yaml")) == 2 * 3
    # The winner is chosen by the metric of the task that was searched on, and trained as the other task says.
    learned = found.learned_entry(other)
    assert learned == found.learned_entry(own) | {
        "name": "autoft-of-iwildcam",
        "learned": {"space": "autoft", "task": "iwildcam"},
    }
    assert learned["metric"] == "macro_f1" and found.space_entry(other)["task_metric"] == "worst_group"
    assert found.space_entry(other)["recipe"]["steps"] == 96080


def test_an_objective_from_elsewhere_says_so_and_costs_its_task_nothing(tmp_path: Path) -> None:
    trial = {"number": 0, "state": "done", "score": 1.0, "reason": "", "proposal": {"learning_rate": 0.5}}
    rows, meters = [], []
    for name in ("autoft", "autoft-of-iwildcam"):
        entry = wilds().learned_entry(cell("fmow", name)) | {"dimensions": {"objective.ce": 1.0, "learning_rate": FREE}}
        about = {"task": "fmow", "model": "ViT-B-16", "search_seed": 1, "validation_images": 9}
        path = tmp_path / f"search/fmow/ViT-B-16/{name}/objective.yaml"
        path.parent.mkdir(parents=True)
        write_objective(path, [trial], entry, about)
        assert read_objective(path)["changes"] == {"objective.ce": 1.0, "learning_rate": 0.5}
        assert read_objective(path).get("learned") == wilds().learned_entry(cell("fmow", name)).get("learned")
        record = tmp_path / f"finetune/fmow/ViT-B-16/{name}@search-1/seed-1/record.json"
        write_json(record, {"training_images": 8, "method": {"recipe": {"steps": 10, "keep": "best"}}})
        write_json(path.with_name("meter.json"), {"steps": 40})
        rows.append(path)
        meters.append(path.with_name("meter.json"))
    finals = sorted(tmp_path.glob("finetune/*/*/*/*/record.json"))
    costs = costs_table(rows, meters, finals).set_index("space")
    numbers = ["trials", "labelled_images", "steps_ratio"]
    assert list(costs.loc["autoft", numbers]) == [1, 9, 4] and not costs.loc["autoft-of-iwildcam", numbers].any()


@pytest.mark.parametrize(
    ("learned", "message"),
    [
        ({"space": "autofd", "task": "iwildcam"}, "learned.space: autofd must be in search.spaces.*did you mean"),
        (
            {"space": "autoft-of-fmow", "task": "fmow"},
            "learned.space: autoft-of-fmow must be in search.spaces",
        ),
        ({"space": "autoft", "task": "cifar10"}, "learned.task: cifar10 must be in run.tasks"),
        ({"space": "ft-searched", "task": "fmow"}, "ft-searched has another method or other dimensions"),
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
