"""What a user can write."""

from pathlib import Path

import pytest
import yaml
from snakemake.utils import update_config

from surefoot.config import Config, parse_config
from surefoot.files import UserError
from surefoot.fingerprint import ROOT
from surefoot.method_entries import PART_NAMES, Augmentation, Recipe, Training, changed
from tests.tiny import raw_config

EXPERIMENTS = sorted((ROOT / "config/experiments").glob("*.yaml"))


def test_default_config_parses() -> None:
    config = parse_config(raw_config())
    assert config.experiment == "default"
    assert config.alphas == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_parses_over_the_default_config(path: Path) -> None:
    raw = raw_config()
    update_config(raw, yaml.safe_load(path.read_text(encoding="utf-8")))
    assert parse_config(raw).experiment == path.stem


def experiment(name: str) -> Config:
    raw = raw_config()
    update_config(raw, yaml.safe_load((ROOT / f"config/experiments/{name}.yaml").read_text(encoding="utf-8")))
    return parse_config(raw)


def test_autoft_on_cifar_has_the_settings_of_the_authors_script() -> None:
    """Searched rates from the first step of a trial, 500 steps of warm-up and no clipping in full runs."""
    config = experiment("autoft_cifar")
    for method in config.run.methods:
        _, recipe = config.resolve(method, "clip")
        assert (recipe.warmup, recipe.warmup_share, recipe.clip_norm) == (500, 1, None)
    for name in config.search.spaces:
        assert config.spaces[name].trial == {"steps": 10, "schedule": "constant", "warmup": 0}


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_probes_of_clip_have_features_of_whole_images(path: Path) -> None:
    """WiSE-FT's linear classifier; they are encoded once, so that a probe of 100,000 steps is cheap."""
    config = experiment(path.stem)
    for task in config.run.tasks:
        for method in config.run.methods:
            if config.methods[method].train == ["head"]:
                assert config.resolve(method, config.tasks[task].recipe)[1].augmentation == Augmentation()


def test_there_are_experiments() -> None:
    assert EXPERIMENTS


def test_a_term_of_the_base_method_may_be_pinned_to_0_where_another_one_is_free() -> None:
    raw = raw_config()
    raw["spaces"]["autoft"]["dimensions"] = {"objective.ce": 0, "objective.flyp": {"low": 0.1, "high": 1.0}}
    assert parse_config(raw).dimensions("autoft", "emoji")["objective.ce"] == 0.0


def test_relative_ranges_are_multiples_of_the_methods_own_value_under_the_recipe() -> None:
    raw = raw_config()
    raw["methods"]["ft-both"]["recipes"] = {"emoji": {"learning_rate": 2e-4, "objective.ce": 0.5}}
    how = {"low": 0.01, "high": 100.0, "log": True, "relative": True, "optional": True, "use": "trials"}
    raw["spaces"]["autoft"]["dimensions"] = {"learning_rate": how, "objective.ce": how}
    found = parse_config(raw).dimensions("autoft", "emoji")
    for key, base in (("learning_rate", 2e-4), ("objective.ce", 0.5)):
        assert (found[key].low, found[key].high) == (0.01 * base, 100.0 * base)
        assert found[key].log and found[key].optional and found[key].use == "trials" and not found[key].relative


@pytest.mark.parametrize(("trials", "size", "rounds"), [(60, 10, 6), (61, 10, 7), (5, 10, 1), (7, 1, 7)])
def test_the_last_round_may_be_smaller(trials: int, size: int, rounds: int) -> None:
    raw = raw_config()
    raw["search"] |= {"trials": trials, "round_size": size}
    assert parse_config(raw).search.rounds == rounds


def test_one_change_may_add_replace_or_remove_a_value_inside_a_map() -> None:
    training, recipe = Training(objective={"ce": 1, "hinge": 2}).model_dump(), Recipe().model_dump()
    changes = {"objective.hinge": None, "objective.kd": 3.0, "rates.head": 2.0, "rates.image": 0.5, "decays.head": 0.0}
    found, how = changed(training, recipe, changes, "here")
    assert found.objective == {"ce": 1.0, "kd": 3.0} and how == Recipe()
    assert (found.rates, found.decays) == ({"head": 2.0, "image": 0.5}, {"head": 0.0})
    assert training == Training(objective={"ce": 1, "hinge": 2}).model_dump(), "the entry itself stays"
    with pytest.raises(ValueError, match=r"^here: unknown key 'rates\.head'"):
        changed(training | {"rates": "rgn"}, recipe, {"rates.head": 2.0}, "here")


@pytest.mark.parametrize("step", [0.05, 0.1, 0.2, 0.25, 0.5, 1, 1 / 3])
def test_the_grid_runs_from_0_to_1(step: float) -> None:
    raw = raw_config()
    raw["alpha_step"], raw["fixed_alpha"] = step, 1
    alphas = parse_config(raw).alphas
    assert alphas[0] == 0 and alphas[-1] == 1 and len(alphas) == round(1 / step) + 1


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
