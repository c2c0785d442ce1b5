"""What a user can write, and the messages for mistakes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.utils import update_config

from surefoot.config import PART_NAMES, Augmentation, Training, parse_config
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
        (put("methods", "ft", "trian", value=[]), ["methods.ft.trian", "'train'"]),
        (put("tasks", "emoji-style", "famly", value="emoji"), ["tasks.emoji-style.famly", "'family'"]),
        (put("bootstrap", "draw", value=200), ["bootstrap.draw", "'draws'"]),
        (put("methods", "ft", "objectiv", value={}), ["methods.ft.objectiv", "'objective'"]),
        (put("run", "methods", value=["zeroshott"]), ["run.methods", "'zeroshott'", "did you mean 'zeroshot'"]),
        (put("run", "tasks", value=["emoji-styl"]), ["run.tasks", "'emoji-styl'", "did you mean 'emoji-style'"]),
        (put("run", "models", value=["ViT-B-33"]), ["run.models", "'ViT-B-33'", "did you mean 'ViT-B-32'"]),
        (put("run", "pairs", value=["lpp"]), ["run.pairs", "'lpp'", "did you mean 'lp'"]),
        (put("tasks", "emoji-style", "recipe", value="emojj"), ["tasks.emoji-style.recipe", "did you mean 'emoji'"]),
        (put("tasks", "emoji-style", "family", value="emojis"), ["tasks.emoji-style.family", "did you mean 'emoji'"]),
        (put("tasks", "emoji-style", "metric", value="top2"), ["tasks.emoji-style.metric", "did you mean 'top1'"]),
        (put("methods", "ft", "train", value=["haed"]), ["methods.ft.train", "did you mean 'head'"]),
        (put("methods", "ft", "objective", value={"cee": 1}), ["methods.ft.objective", "'cee'", "'ce'"]),
        (put("methods", "ft", "objective", value={"ce": -1}), ["methods.ft.objective.ce"]),
        (put("methods", "ft", "objective", value={}), ["methods.ft.objective"]),
        (put("methods", "ft", "start", value="randm"), ["methods.ft.start", "did you mean 'random'"]),
        (put("methods", "ft", "share", value=0), ["methods.ft.share"]),
        (put("methods", "ft", "ema", value=1.0), ["methods.ft.ema"]),
        (put("methods", "ft", "tpgm", value={"step": 3}), ["methods.ft.tpgm.step", "did you mean 'steps'"]),
        (put("methods", "ft", "options", value={"lipsum_text": 3}), ["lipsum_text", "did you mean 'lipsum_texts'"]),
        (put("methods", "lp-ft", "base", value="lpp"), ["methods.lp-ft.base", "'lpp'", "did you mean 'lp'"]),
        (put("methods", "lp", "base", value="lp-ft"), [".base", "lp-ft", "goes in a circle"]),
        (put("methods", "lp", "base", value="lp"), ["methods.lp", "goes in a circle"]),
        (put("methods", "ft", "base", value="zeroshot"), ["methods.ft.base", "zeroshot trains nothing"]),
        (put("methods", "lp-ft", "start", value="random"), ["methods.lp-ft", "random and base lp exclude each other"]),
        (put("methods", "zeroshot", "share", value=0.5), ["methods.zeroshot.share", "nothing is trained"]),
        (put("methods", "ft", "grids", value={"emojj": {}}), ["methods.ft.grids", "did you mean 'emoji'"]),
        (put("recipes", "emoji", "keep", value="bst"), ["recipes.emoji.keep", "did you mean 'best'"]),
        (put("recipes", "emoji", "norm_statistics", value="kep"), ["norm_statistics", "did you mean 'keep'"]),
        (
            put("methods", "ft", "recipes", value={"emoji": {"objective.cee": 1}}),
            ["methods.ft.recipes.emoji", "cee"],
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


@pytest.mark.parametrize(
    ("rates", "words"), [("rgnn", ["'rgnn'", "'rgn'"]), ({"haed": 1}, ["'haed'", "'head'"]), ({"head": -1}, ["head"])]
)
def test_a_mistake_in_rates_is_one_line(rates: Any, words: list[str]) -> None:
    raw = raw_config()
    raw["methods"]["ft"]["rates"] = rates
    with pytest.raises(UserError, match=r"methods\.ft\.rates(\.head|\.haed)?: ") as caught:
        parse_config(raw)
    assert all(word in str(caught.value) for word in words)
    assert len(str(caught.value).splitlines()) == 2


def test_parts_are_the_named_ones_or_a_block() -> None:
    raw = raw_config()
    raw["methods"]["ft"]["train"] = [*PART_NAMES, "block-0", "block-11"]
    assert parse_config(raw).methods["ft"].train == [*PART_NAMES, "block-0", "block-11"]
    raw["methods"]["ft"]["train"] = ["block-x"]
    with pytest.raises(UserError, match=r"unknown value 'block-x'; did you mean 'block-0'"):
        parse_config(raw)


def test_a_method_changes_only_the_keys_it_names() -> None:
    raw = raw_config()
    raw["methods"]["ft"]["recipes"] = {"emoji": {"epochs": 7, "augmentation": {}, "ema": 0.5}}
    config = parse_config(raw)
    plain, (training, changed) = config.recipes["emoji"], config.resolve("ft", "emoji")
    assert changed == plain.model_copy(update={"epochs": 7, "augmentation": Augmentation()})
    own = Training.model_validate(config.methods["ft"].model_dump(include=set(Training.model_fields)))
    assert training == own.model_copy(update={"ema": 0.5})
    assert config.resolve("ft", "clip") == (own, config.recipes["clip"])


def test_an_objective_is_replaced_whole_or_one_weight_at_a_time() -> None:
    raw = raw_config()
    raw["methods"]["l2-sp"]["recipes"] = {
        "emoji": {"objective.l2init": 5, "objective.kd": 2},
        "clip": {"objective": {"hinge": 1}},
    }
    config = parse_config(raw)
    assert config.resolve("l2-sp", "emoji")[0].objective == {"ce": 1.0, "l2init": 5.0, "kd": 2.0}
    assert config.resolve("l2-sp", "clip")[0].objective == {"hinge": 1.0}
    assert config.methods["l2-sp"].objective["l2init"] != 5, "the entry itself stays"


def test_changes_of_the_caller_come_last_and_are_checked() -> None:
    config = parse_config(raw_config())
    changes = {"weight_decay": 0.25, "objective.l2init": 7.0, "share": 0.5}
    training, recipe = config.resolve("l2-sp", "emoji", changes)
    assert (recipe.weight_decay, training.objective["l2init"], training.share) == (0.25, 7.0, 0.5)
    with pytest.raises(ValueError, match=r"unknown key 'weight_deca'; did you mean 'weight_decay'"):
        config.resolve("ft", "emoji", {"weight_deca": 1})
    with pytest.raises(ValueError, match=r"methods\.ft\.recipes\.emoji\.epochs"):
        config.resolve("ft", "emoji", {"epochs": 0})


def test_a_method_changes_weights_if_it_trains_projects_or_starts_elsewhere() -> None:
    methods = parse_config(raw_config()).methods
    assert not methods["zeroshot"].changes_weights
    assert methods["ft"].changes_weights and methods["lp-ft"].changes_weights
    assert not methods["tpgm"].train and methods["tpgm"].changes_weights


def test_a_config_cannot_be_changed_after_the_check() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse_config(raw_config()).alpha_step = 0.2
