"""How the tests of searches enter one on the tiny task."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from surefoot import search
from surefoot.data import Examples
from surefoot.method_entries import Recipe, Training
from surefoot.search import Arena
from surefoot.trials import read_trials, write_trials
from tests.tiny import RECIPE

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


def rows(examples: Examples) -> set[tuple[str, int]]:
    """Which images these are."""
    return {(split.digest, int(row)) for split, chosen in examples.pieces for row in chosen}
