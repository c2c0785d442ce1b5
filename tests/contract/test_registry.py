"""Every registered task, method, term and metric keeps its contract, on a tiny model and tiny images."""

from collections import defaultdict
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from surefoot import config
from surefoot.clip import State, load_state, save_state
from surefoot.config import parse_config
from surefoot.data import Data
from surefoot.evaluate import METRICS, evaluate_runs
from surefoot.files import read_json
from surefoot.finetune import finetune
from surefoot.fingerprint import ROOT
from surefoot.flow import Plan
from surefoot.methods import PARTS
from surefoot.objective import TERMS
from surefoot.prepare import prepare
from surefoot.resume import Resumable
from surefoot.roles import VALIDATION_ROLES
from surefoot.splits import write_split
from surefoot.tasks import EvalSet, Part, build_task, load_task
from surefoot.zeroshot import zero_shot_head
from tests.tiny import raw_config, same_bytes

CONFIG_MODEL = parse_config(raw_config())
PLAN = Plan(CONFIG_MODEL)
TASKS, METHODS = list(CONFIG_MODEL.tasks), list(CONFIG_MODEL.methods)
ROLES = ("id_val", "ood_val", "id_test", "ood_test")


class Wildcards:
    """What Snakemake hands to the plan."""

    def __init__(self, **names: str) -> None:
        self.__dict__.update(names)


def fake_drawing(emoji: object, style: str, size: int) -> np.ndarray:
    """A picture that is fast, and different for every emoji and style."""
    rng = np.random.default_rng([*map(ord, f"{emoji.text}{style}")])
    return rng.integers(0, 256, (size, size, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """Prepared splits of every task, with fast pictures in place of drawings."""
    root, found = tmp_path_factory.mktemp("prepared"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("surefoot.prepare.draw", fake_drawing)
        for task in PLAN.tasks.values():
            for split in task.splits:
                if (task.dataset, split) not in found:
                    found[task.dataset, split] = root / task.dataset / split
                    write_split(found[task.dataset, split], *prepare(task.dataset, split, 16))
    return found


def small(name: str) -> dict:
    """The entry that jobs read of a task, with few classes."""
    entry = PLAN.task_entry(Wildcards(task=name))
    return entry | {"classes": list(PLAN.tasks[name].classes[:4]), "concepts": 12}


def opened(name: str, folders: dict[tuple[str, str], Path]) -> Data:
    """A task with few classes and its splits."""
    task = load_task(small(name))
    return Data(task, {split: folders[task.dataset, split] for split in task.splits})


def test_names_in_the_config_are_the_registered_ones() -> None:
    assert tuple(TERMS) == config.TERM_NAMES
    assert tuple(METRICS) == config.METRIC_NAMES
    assert tuple(PARTS) == config.get_args(config.PartName)


@pytest.mark.parametrize("family", config.get_args(config.FamilyName))
def test_every_family_builds_a_task_and_prepares_its_splits(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("surefoot.prepare.draw", fake_drawing)
    task = build_task("t", config.Task(family=family, recipe="r"))
    images, rows, source = prepare(task.dataset, task.splits[0], 16)
    assert images.shape == (len(rows), 16, 16, 3) and images.dtype == np.uint8 and source
    assert len(task.select(task.train[0], rows, 0).rows)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_a_complete_card(name: str) -> None:
    task = PLAN.tasks[name]
    assert len(task.classes) == len(set(task.classes)) == len(task.prompt_names) >= 2
    assert task.templates and all("{}" in template for template in task.templates)
    assert task.title and task.licences and task.cluster
    assert task.chance == pytest.approx(100 / len(task.classes))


@pytest.mark.parametrize("name", TASKS)
def test_every_eval_set_has_one_role_and_selection_has_what_it_needs(name: str) -> None:
    sets = PLAN.tasks[name].eval_sets
    assert len({s.name for s in sets}) == len(sets)
    assert all(s.role in ROLES and s.parts and s.title for s in sets)
    assert {"id_val", "ood_val"} <= {s.name for s in sets if s.role in VALIDATION_ROLES}
    assert sum(s.role == "id_test" for s in sets) == 1 and any(s.role == "ood_test" for s in sets)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_image_and_no_cluster_has_two_roles(name: str, seed: int, folders: dict) -> None:
    """Training, validation and test share no image, and no near-duplicate in whatever style."""
    task = PLAN.tasks[name]
    data = Data(task, {split: folders[task.dataset, split] for split in task.splits})
    images, clusters = defaultdict(set), defaultdict(set)
    for eval_set in (EvalSet("train", "", "train", task.train), *task.eval_sets):
        stage = "train" if eval_set.role == "train" else "val" if eval_set.role in VALIDATION_ROLES else "test"
        for part in eval_set.parts:
            chosen = task.select(part, data.splits[part.split].rows, seed)
            assert len(chosen.rows) == len(set(chosen.rows)) > 0
            images[eval_set.role] |= {(part.split, int(row)) for row in chosen.rows}
            clusters[stage] |= set(chosen.clusters)
    for one, other in combinations(images, 2):
        assert not images[one] & images[other], (one, other)
    for one, other in combinations(("train", "val", "test"), 2):
        assert not clusters[one] & clusters[other], (one, other)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_class_is_trained_and_tested_under_every_seed(name: str, seed: int, folders: dict) -> None:
    task = PLAN.tasks[name]
    data = Data(task, {split: folders[task.dataset, split] for split in task.splits})
    everything = set(range(len(task.classes)))
    assert set(data.training(seed).labels) == everything
    for eval_set in task.eval_sets:
        examples = data.examples(eval_set.parts, seed)
        assert set(examples.labels) == everything
        assert len(examples) == len(examples.clusters) == len(examples.groups)


@pytest.fixture(scope="session")
def heads(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Zero-shot head of every task."""
    root = tmp_path_factory.mktemp("heads")
    for name in TASKS:
        task = load_task(small(name))
        head = zero_shot_head(model, task.prompt_names, task.templates, CONFIG_MODEL.head)
        save_state(root / f"{name}.safetensors", head)
    return {name: root / f"{name}.safetensors" for name in TASKS}


def start_of(model: Path, head: Path) -> State:
    """State of the zero-shot classifier, put together from its two files."""
    clip = load_file(model / "open_clip_model.safetensors")
    tower = {f"image.{key.removeprefix('visual.')}": t for key, t in clip.items() if key.startswith("visual.")}
    rest = load_state(head)
    return tower | {(key if key == "logit_scale" else f"head.{key}"): t for key, t in rest.items()}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_moves_only_what_it_declares(
    model: Path, heads: dict[str, Path], folders: dict, tmp_path: Path, task: str, method: str
) -> None:
    data, head = opened(task, folders), heads[task]
    entry = PLAN.method_entry(Wildcards(task=task, method=method))
    entry["recipe"] |= {"epochs": 1, "batch_size": 32, "learning_rate": 1e-3}
    ends = []
    if entry["stages"]:
        ends = [tmp_path / "weights.safetensors"]
        out = (*ends, tmp_path / "record.json", tmp_path / "meter.json")
        finetune(model, head, data, entry, 0, Resumable(tmp_path / "state", "job"), "code", *out)
        before, after = start_of(model, head), load_state(ends[0])
        declared = tuple(PARTS[part] for stage in entry["stages"] for part in stage["train"])
        assert before.keys() == after.keys()
        for key in before:
            if not key.startswith(declared):
                assert same_bytes(before[key], after[key]), key
        for prefix in declared:
            assert any(not torch.equal(before[k], after[k]) for k in before if k.startswith(prefix)), prefix
        record = read_json(out[1])
        assert record["training_images"] == len(data.training(0)) and len(record["history"]) == len(entry["stages"])
    how = {"model": model, "head": head, "data": data, "batch": 64, "renders": 1}
    found = evaluate_runs(starts=[], ends=ends, name=method, seeds=[0], alphas=[0.0, 0.5, 1.0], **how)
    assert set(found.metrics["metric"]) == set(config.METRIC_NAMES)
    assert set(found.metrics["eval_set"]) == {s.name for s in data.task.eval_sets}
    assert np.isfinite(found.metrics["value"]).all()
    assert isinstance(found.predictions, pd.DataFrame) and len(found.predictions)


@pytest.mark.parametrize("method", [name for name in METHODS if CONFIG_MODEL.methods[name].stages])
def test_a_run_repeats_to_the_byte_and_its_record_holds_no_measurement(
    model: Path, heads: dict[str, Path], folders: dict, tmp_path: Path, method: str
) -> None:
    data, files = opened(TASKS[0], folders), []
    entry = PLAN.method_entry(Wildcards(task=TASKS[0], method=method))
    entry["recipe"] |= {"epochs": 1}
    for number in range(2):
        folder = tmp_path / str(number)
        out = [folder / name for name in ("weights.safetensors", "record.json", "meter.json")]
        finetune(model, heads[TASKS[0]], data, entry, 1, Resumable(folder / "state", "job"), "code", *out)
        files.append([path.read_bytes() for path in out[:2]])
    assert files[0] == files[1]


def test_the_embedded_model_is_described_by_an_open_clip_config() -> None:
    """Its architecture file is complete but for the vocabulary, which its captions decide."""
    architecture = read_json(ROOT / "resources/emoji-clip/architecture.json")
    assert architecture["model_cfg"]["vision_cfg"]["image_size"] == CONFIG_MODEL.image_size["emoji"]
    assert set(architecture["preprocess_cfg"]) >= {"mean", "std"}


def test_part_names_a_fold() -> None:
    for task in PLAN.tasks.values():
        parts = [*task.train, *(part for eval_set in task.eval_sets for part in eval_set.parts)]
        assert all(isinstance(part, Part) and part.fold in ("train", "val", "test") for part in parts)
