"""Every registered task, method, term and metric keeps its contract, on a tiny model and tiny images."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from surefoot import method_entries, spaces
from surefoot.clip import State, load_state, random_classifier, save_state
from surefoot.config import parse_config
from surefoot.data import Data
from surefoot.evaluate import METRICS, evaluate_runs
from surefoot.files import read_json
from surefoot.finetune import Bench, finetune
from surefoot.fingerprint import ROOT
from surefoot.flow import Plan
from surefoot.layers import PREFIXES, layers, parts
from surefoot.metrics import ACCURACY
from surefoot.objective import TERMS
from surefoot.prepare import prepare_emoji
from surefoot.rates import Rates
from surefoot.resume import Resumable
from surefoot.roles import VALIDATION_ROLES
from surefoot.splits import write_split
from surefoot.task_entries import TASK_KINDS, EmojiTask, FamilyName, MainMetricName
from surefoot.tasks import EvalSet, Part, build_task, family, load_task
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
                    write_split(found[task.dataset, split], *prepare_emoji(split, 16))
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
    assert tuple(TERMS) == method_entries.TERM_NAMES
    assert tuple(METRICS) == spaces.METRIC_NAMES
    assert set(ACCURACY) == set({*get_args(MainMetricName), "all_frames"})


def test_parts_in_the_config_are_those_of_a_model(model: Path, heads: dict[str, Path]) -> None:
    names = list(start_of(model, heads[TASKS[0]], method_entries.Head()))
    found = parts([*names, "text.clip.ln_final.weight"])
    blocks = {layer for layer in layers(names) if layer.startswith("block-")}
    assert set(found) == {*method_entries.PART_NAMES, *blocks} and set(PREFIXES) <= set(method_entries.PART_NAMES)
    assert all(found.values())


@pytest.mark.parametrize("name", method_entries.RATES_NAMES)
def test_every_rule_of_rates_is_registered(name: str) -> None:
    trained = {
        "image.conv1.weight": torch.nn.Parameter(torch.ones(2)),
        "head.weight": torch.nn.Parameter(torch.ones(2)),
    }
    gradients = {key: torch.tensor([1.0, 2.0]) for key in trained}
    rates = Rates(method_entries.Training(train=["image"], rates=name), trained, 2, "methods.m")
    assert rates.at(1, lambda per_image: iter([gradients])).keys() == trained.keys()


def test_families_in_the_config_are_modules() -> None:
    kinds = [get_args(kind.model_fields["family"].annotation) for kind in TASK_KINDS]
    assert sorted(name for names in kinds for name in names) == sorted(get_args(FamilyName))
    assert all(callable(family(name).build) for name in get_args(FamilyName))


def test_emoji_builds_a_task_and_prepares_its_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("surefoot.prepare.draw", fake_drawing)
    task = build_task("t", EmojiTask(family="emoji", recipe="r"))
    images, rows, source = prepare_emoji(task.splits[0], 16)
    assert images.shape == (len(rows), 16, 16, 3) and images.dtype == np.uint8 and source
    assert len(task.select(task.train[0], rows, 0).rows)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_a_complete_card(name: str) -> None:
    task = PLAN.tasks[name]
    assert len(task.classes) == len(set(task.classes)) == len(task.prompt_names) >= 2
    assert task.templates and all("{}" in template for template in task.templates)
    assert task.title and task.licences and task.cluster


@pytest.mark.parametrize("name", TASKS)
def test_every_eval_set_has_one_role_and_selection_has_what_it_needs(name: str) -> None:
    sets = PLAN.tasks[name].eval_sets
    assert len({s.name for s in sets}) == len(sets)
    assert all(s.role in ROLES and s.parts and s.title for s in sets)
    shifted = not PLAN.tasks[name].targets  # where there are targets, the eval sets are those of the source
    wanted = {"id_val", "ood_val"} if shifted else {"id_val"}
    assert wanted <= {s.name for s in sets if s.role in VALIDATION_ROLES}
    assert sum(s.role == "id_test" for s in sets) == 1 and any(s.role == "ood_test" for s in sets) is shifted


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


@pytest.mark.parametrize("name", [name for name in TASKS if PLAN.tasks[name].targets])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_target_shares_no_cluster_among_its_roles_or_with_the_sources_training(
    name: str, seed: int, folders: dict
) -> None:
    """Nor does its validation set depend on the number of training images."""
    task = PLAN.tasks[name]
    data = Data(task, {split: folders[task.dataset, split] for split in task.splits})
    source = set(data.training(seed).clusters)
    for target in task.targets:
        found = {
            (role, shots): data.examples(parts, seed) for shots in (1, 3) for role, parts in target.parts(shots).items()
        }
        clusters = {key: set(examples.clusters) for key, examples in found.items()}
        for shots in (1, 3):
            train, val, test = (clusters[f"target_{part}", shots] for part in ("train", "val", "test"))
            assert not train & val and not train & test and not val & test
            assert not source & (train | val | test)
            counts = np.bincount(found["target_train", shots].labels, minlength=len(task.classes))
            assert counts.min() >= 1 and counts.max() <= shots
        assert clusters["target_train", 1] < clusters["target_train", 3]
        assert clusters["target_val", 1] == clusters["target_val", 3]
        assert set(found["target_test", 3].labels) == set(range(len(task.classes)))


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
        save_state(root / f"{name}.safetensors", zero_shot_head(model, task.prompt_names, task.templates))
    return {name: root / f"{name}.safetensors" for name in TASKS}


def start_of(model: Path, head: Path, convention: method_entries.Head) -> State:
    """State of the zero-shot classifier, put together from its two files."""
    clip, rest = load_file(model / "open_clip_model.safetensors"), load_state(head)
    tower = {f"image.{key.removeprefix('visual.')}": t for key, t in clip.items() if key.startswith("visual.")}
    scale = rest["logit_scale"].exp() if convention.scaled else 1
    tower["head.weight"] = rest["weight"] * scale
    if convention.bias:
        tower["head.bias"] = torch.zeros(len(rest["weight"]))
    return tower if convention.scaled else tower | {"logit_scale": rest["logit_scale"]}


def entry_of(task: str, method: str) -> dict[str, Any]:
    """What a fine-tuning job reads of the config, for a short training."""
    entry = PLAN.method_entry(Wildcards(task=task, method=method))
    gradual = str(entry["training"]["rates"]).startswith("gradual")
    entry["recipe"] |= {"epochs": 8 if gradual else 1, "batch_size": 32, "learning_rate": 1e-3}
    if entry["training"]["tpgm"]:
        entry["training"]["tpgm"] |= {"steps": 3, "learning_rate": 1e-4}  # smaller than the distances of a short run
    return entry


Train = Callable[..., Path]


@pytest.fixture(scope="session")
def trained(model: Path, heads: dict[str, Path], folders: dict, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Weights of a method on a task under seed 1, trained when first asked for, each time with another `number`."""
    known: dict[tuple, Path] = {}
    root = tmp_path_factory.mktemp("trained")

    def train(task: str, method: str, number: int = 0) -> Path:
        if (task, method, number) not in known:
            base = CONFIG_MODEL.methods[method].base
            folder = root / task / f"{method}-{number}"
            out = [folder / name for name in ("weights.safetensors", "record.json", "meter.json")]
            bench = Bench(model, heads[task], opened(task, folders), entry_of(task, method))
            start = train(task, base) if base else None
            finetune(bench, start, 1, Resumable(folder / "state", "job"), "code", *out)
            known[task, method, number] = out[0]
        return known[task, method, number]

    return train


def moved_by(start: State, end: State) -> set[str]:
    """Tensors that differ in a bit."""
    assert start.keys() == end.keys()
    return {name for name in start if not same_bytes(start[name], end[name])}


TRAINED = [name for name in METHODS if CONFIG_MODEL.methods[name].changes_weights]


@pytest.mark.parametrize("method", TRAINED)
def test_every_method_moves_exactly_what_it_declares(
    model: Path, heads: dict[str, Path], folders: dict, trained: Train, method: str
) -> None:
    task = TASKS[0]
    entry, base, head = entry_of(task, method), CONFIG_MODEL.methods[method].base, heads[task]
    training = method_entries.Training.model_validate(entry["training"])
    convention = method_entries.Recipe.model_validate(entry["recipe"]).head
    zero_shot, weights = start_of(model, head, convention), trained(task, method)
    start, end = load_state(trained(task, base)) if base else zero_shot, load_state(weights)
    if training.start == "random":
        start = random_classifier(model, load_state(head), convention, 1).state_dict()
    declared = {name for part in training.train for name in parts(start)[part]}
    if "text" in training.train:
        declared |= set(parts(start)["head"])  # derived from the text tower
    if training.tpgm:
        declared |= moved_by(zero_shot, start)
    moved = moved_by(start, end)
    assert moved
    if str(training.rates).startswith("snr"):  # these may freeze tensors
        assert moved <= declared
    else:
        assert moved == declared
    record = read_json(weights.with_name("record.json"))
    assert record["training_images"] == len(opened(task, folders).training(1, training.share))
    assert set(record["history"]) == {"terms", "factors", "watched", "radii", "parts"}
    for terms in record["history"]["terms"]:
        assert set(terms) == set(training.objective) and np.isfinite(list(terms.values())).all()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_evaluated_along_the_line(
    model: Path, heads: dict[str, Path], folders: dict, trained: Train, method: str
) -> None:
    check_evaluation(model, heads, folders, TASKS[0], method, [trained(TASKS[0], method)] if method in TRAINED else [])


@pytest.mark.parametrize("method", ["zeroshot", "ft"])
@pytest.mark.parametrize("task", TASKS[1:])
def test_every_task_is_trained_on_and_evaluated(
    model: Path, heads: dict[str, Path], folders: dict, trained: Train, task: str, method: str
) -> None:
    check_evaluation(model, heads, folders, task, method, [trained(task, method)] if method in TRAINED else [])


def check_evaluation(
    model: Path, heads: dict[str, Path], folders: dict, task: str, method: str, ends: list[Path]
) -> None:
    """Evaluate under one seed on one ID and one other set: everything is there and finite."""
    data = opened(task, folders)
    data.task = replace(data.task, eval_sets=(data.task.eval_sets[0], data.task.eval_sets[-1]))
    how = {"model": model, "head": heads[task], "data": data, "batch": 64, "renders": 1}
    found = evaluate_runs(starts=[], ends=ends, name=method, seeds=[1], alphas=[0.0, 0.5, 1.0], **how)
    assert set(found.metrics["metric"]) == set(spaces.METRIC_NAMES)
    assert set(found.metrics["eval_set"]) == {s.name for s in data.task.eval_sets}
    assert set(found.metrics["alpha"]) == ({0.0, 0.5, 1.0} if ends else {0.0})
    assert np.isfinite(found.metrics["value"]).all()
    assert isinstance(found.predictions, pd.DataFrame) and len(found.predictions)


@pytest.mark.parametrize("method", TRAINED)
def test_a_run_repeats_to_the_byte_and_its_record_holds_no_measurement(trained: Train, method: str) -> None:
    one, other = (trained(TASKS[0], method, number) for number in (0, 1))
    assert one != other and one.read_bytes() == other.read_bytes()
    assert one.with_name("record.json").read_bytes() == other.with_name("record.json").read_bytes()


@pytest.mark.parametrize("recipe", list(CONFIG_MODEL.recipes))
@pytest.mark.parametrize("method", [name for name in METHODS if CONFIG_MODEL.methods[name].base])
def test_a_method_has_its_bases_convention_of_the_head_under_every_recipe(method: str, recipe: str) -> None:
    base = CONFIG_MODEL.methods[method].base
    assert CONFIG_MODEL.resolve(method, recipe)[1].head == CONFIG_MODEL.resolve(base, recipe)[1].head


def test_the_embedded_model_is_described_by_an_open_clip_config() -> None:
    """Its architecture file is complete but for the vocabulary, which its captions decide."""
    architecture = read_json(ROOT / "resources/emoji-clip/architecture.json")
    assert architecture["model_cfg"]["vision_cfg"]["image_size"] == CONFIG_MODEL.image_size["emoji"]
    assert set(architecture["preprocess_cfg"]) >= {"mean", "std"}


def test_part_names_a_fold() -> None:
    for task in PLAN.tasks.values():
        parts = [*task.train, *(part for eval_set in task.eval_sets for part in eval_set.parts)]
        assert all(isinstance(part, Part) and part.fold in ("train", "val", "test") for part in parts)
