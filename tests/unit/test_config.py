"""What a user can write, and the messages for mistakes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.utils import update_config

from surefoot.config import Augmentation, parse_config
from surefoot.files import UserError
from surefoot.fingerprint import ROOT
from tests.tiny import raw_config

EXPERIMENTS = sorted((ROOT / "config/experiments").glob("*.yaml"))


def put(*path: str, value: Any) -> Callable[[dict], None]:
    """A change that sets one key of the config."""

    def change(raw: dict) -> None:
        for key in path[:-1]:
            raw = raw.setdefault(key, {})
        raw[path[-1]] = value

    return change


def test_default_config_parses() -> None:
    config = parse_config(raw_config())
    assert config.experiment == "default"
    assert config.alphas == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_parses_over_the_default_config(path: Path) -> None:
    raw = raw_config()
    update_config(raw, yaml.safe_load(path.read_text(encoding="utf-8")))
    assert parse_config(raw).experiment == path.stem


def test_there_are_experiments() -> None:
    assert EXPERIMENTS


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("alpha_stp", value=0.1), ["unknown key alpha_stp", "did you mean 'alpha_step'"]),
        (put("run", "method", value=["ft"]), ["unknown key run.method", "did you mean 'methods'"]),
        (put("recipes", "emoji", "learnin_rate", value=1), ["recipes.emoji.learnin_rate", "'learning_rate'"]),
        (put("recipes", "emoji", "augmentation", "rotat", value=1), ["augmentation.rotat", "'rotate'"]),
        (put("methods", "ft", "stage", value=[]), ["methods.ft.stage", "'stages'"]),
        (put("tasks", "emoji-style", "famly", value="emoji"), ["tasks.emoji-style.famly", "'family'"]),
        (put("bootstrap", "draw", value=200), ["bootstrap.draw", "'draws'"]),
        (put("methods", "ft", "stages", value=[{"train": ["head"], "objectiv": {}}]), ["objectiv", "'objective'"]),
        (put("run", "methods", value=["zeroshott"]), ["run.methods", "'zeroshott'", "did you mean 'zeroshot'"]),
        (put("run", "tasks", value=["emoji-styl"]), ["run.tasks", "'emoji-styl'", "did you mean 'emoji-style'"]),
        (put("run", "models", value=["ViT-B-33"]), ["run.models", "'ViT-B-33'", "did you mean 'ViT-B-32'"]),
        (put("run", "pairs", value=["lpp"]), ["run.pairs", "'lpp'", "did you mean 'lp'"]),
        (put("tasks", "emoji-style", "recipe", value="emojj"), ["tasks.emoji-style.recipe", "did you mean 'emoji'"]),
        (put("tasks", "emoji-style", "family", value="emojis"), ["tasks.emoji-style.family", "did you mean 'emoji'"]),
        (put("tasks", "emoji-style", "metric", value="top2"), ["tasks.emoji-style.metric", "did you mean 'top1'"]),
        (put("methods", "ft", "stages", value=[{"train": ["haed"]}]), ["methods.ft.stages", "did you mean 'head'"]),
        (
            put("methods", "ft", "stages", value=[{"train": ["head"], "objective": {"cee": 1}}]),
            ["objective", "'cee'", "'ce'"],
        ),
        (put("methods", "ft", "recipes", value={"emoij": {}}), ["methods.ft.recipes", "did you mean 'emoji'"]),
        (
            put("methods", "ft", "recipes", value={"emoji": {"epoch": 3}}),
            ["methods.ft.recipes.emoji", "'epoch'", "'epochs'"],
        ),
        (put("methods", "ft", "recipes", value={"emoji": {"epochs": 0}}), ["methods.ft.recipes.emoji.epochs"]),
        (put("alpha_step", value=0.3), ["alpha_step", "0.3 does not divide 1"]),
        (put("alpha_step", value=0.6), ["alpha_step", "0.6 does not divide 1"]),
        (put("alpha_step", value=0), ["alpha_step"]),
        (put("fixed_alpha", value=0.55), ["fixed_alpha", "0.55 is not on the grid"]),
        (put("fixed_alpha", value=1.5), ["fixed_alpha"]),
        (put("seeds", value=[]), ["seeds"]),
        (put("seeds", value=[-1]), ["seeds"]),
        (put("run", "pairs", value=["zeroshot"]), ["run.pairs", "zeroshot trains nothing"]),
        (put("models", "emoji-clip", value={}), ["models.emoji-clip", "either folder"]),
        (put("models", "ViT-B-16", "folder", value="somewhere"), ["models.ViT-B-16", "either folder"]),
        (put("models", "ViT-B-16", value={"architecture": "ViT-B-16"}), ["models.ViT-B-16"]),
        (put("methods", "my/method", value={"label": "x", "reference": "y"}), ["my/method"]),
    ],
)
def test_a_mistake_names_its_key_and_the_nearest_name(change: Callable[[dict], None], words: list[str]) -> None:
    raw = raw_config()
    change(raw)
    with pytest.raises(UserError) as caught:
        parse_config(raw)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert len(str(caught.value).splitlines()) == 2, str(caught.value)


def test_a_missing_key_is_named() -> None:
    raw = raw_config()
    del raw["seeds"]
    with pytest.raises(UserError, match="missing key seeds"):
        parse_config(raw)


def test_all_mistakes_are_told_at_once() -> None:
    raw = raw_config()
    raw["alpha_stp"], raw["bootstrap"] = 1, {"draws": 1}
    with pytest.raises(UserError) as caught:
        parse_config(raw)
    assert "alpha_stp" in str(caught.value) and "bootstrap.draws" in str(caught.value)


@pytest.mark.parametrize("step", [0.05, 0.1, 0.2, 0.25, 0.5, 1, 1 / 3])
def test_the_grid_runs_from_0_to_1(step: float) -> None:
    raw = raw_config()
    raw["alpha_step"], raw["fixed_alpha"] = step, 1
    alphas = parse_config(raw).alphas
    assert alphas[0] == 0 and alphas[-1] == 1 and len(alphas) == round(1 / step) + 1


def test_a_method_changes_only_the_keys_it_names() -> None:
    raw = raw_config()
    raw["methods"]["ft"]["recipes"] = {"emoji": {"epochs": 7, "augmentation": {}}}
    config = parse_config(raw)
    plain, changed = config.recipes["emoji"], config.recipe("ft", "emoji")
    assert changed == plain.model_copy(update={"epochs": 7, "augmentation": Augmentation()})
    assert config.recipe("ft", "clip") == config.recipes["clip"]


def test_a_config_cannot_be_changed_after_the_check() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse_config(raw_config()).alpha_step = 0.2
