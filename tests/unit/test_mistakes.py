"""Messages for mistakes in the config."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from surefoot.config import parse_config
from surefoot.files import UserError
from surefoot.mistakes import repeated_keys
from tests.tiny import raw_config


def put(*path: str, value: Any) -> Callable[[dict], None]:
    """A change that sets one key of the config."""

    def change(raw: dict) -> None:
        for key in path[:-1]:
            raw = raw.setdefault(key, {})
        raw[path[-1]] = value

    return change


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
        (put("spaces", "autoft", "recipes", value={"emojj": {"images": 9}}), ["spaces.autoft.recipes", "mean 'emoji'"]),
        (put("methods", "ft", "train", value=["haed"]), ["methods.ft.train", "did you mean 'head'"]),
        (put("methods", "ft", "objective", value={"cee": 1}), ["methods.ft.objective", "'cee'", "'ce'"]),
        (put("methods", "ft", "objective", value={"ce": -1}), ["methods.ft.objective.ce"]),
        (put("methods", "ft", "objective", value={"ce": float("inf")}), ["methods.ft.objective.ce", "finite number"]),
        (put("methods", "ft", "objective", value={"ce": float("nan")}), ["methods.ft.objective.ce"]),
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
        (
            put("methods", "scratch-25", "base", value="lp"),
            ["methods.scratch-25", "random and base lp exclude each other"],
        ),
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


@pytest.mark.parametrize(
    ("changes", "shown", "hidden"),
    [
        (
            [put("alpha_step", value=0.3), put("seeds", value=[0, 0]), put("run", "tasks", value=["emoji-styl"])],
            ["0.3 does not divide 1", "stands twice in [0, 0]", "unknown name 'emoji-styl'"],
            [],
        ),
        (
            [
                put("alpha_step", value=0.3),
                put("run", "pairs", value=["zeroshot"]),
                put("methods", "ft", "share", value=0),
            ],
            ["methods.ft.share"],
            ["does not divide"],  # an entry that is no entry leaves nothing to check
        ),
        (
            [put("run", "baselines", value=["scratch-50"]), put("methods", "lp", "base", value="zeroshot")],
            ["one point makes no line", "zeroshot trains nothing; leave base out"],
            [],
        ),
        (
            [put("fixed_alpha", value=0.55), put("surgical", "methods", value=["tune-all", "lp-ft"])],
            ["0.55 is not on the grid", "surgical.methods: lp-ft sets base"],
            [],
        ),
    ],
)
def test_mistakes_that_do_not_hang_together_are_shown_at_once(
    changes: list[Callable[[dict], None]], shown: list[str], hidden: list[str]
) -> None:
    raw = raw_config()
    for change in changes:
        change(raw)
    with pytest.raises(UserError) as caught:
        parse_config(raw)
    assert all(words in str(caught.value) for words in shown), str(caught.value)
    assert not any(words in str(caught.value) for words in hidden), str(caught.value)


def space(*path: str, value: Any) -> Callable[[dict], None]:
    """A change of the search space `autoft` alone, though others have its dimensions by a YAML alias."""

    def change(raw: dict) -> None:
        raw["spaces"]["autoft"] = deepcopy(raw["spaces"]["autoft"])
        put("spaces", "autoft", *path, value=value)(raw)

    return change


def dimension(key: str, **how: Any) -> Callable[[dict], None]:
    """A change of one dimension of the search space `autoft`."""
    return space("dimensions", key, value=how)


def named_as_a_method(raw: dict) -> None:
    """A search space that has the name of a method."""
    raw["spaces"]["ft"] = raw["spaces"]["autoft"]
    raw["search"]["spaces"] = ["ft"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dimension("learnin_rate", low=1, high=2), ["spaces.autoft.dimensions: ", "did you mean 'learning_rate'?"]),
        (dimension("objective.hing", low=1, high=2), ["dimensions.objective.hing: ", "did you mean 'hinge'?"]),
        (dimension("objective.ce@head", low=1, high=2), ["dimensions.objective.ce@head: only l1zero"]),
        (dimension("objective.l2init@haed", low=1, high=2), ["objective.l2init@haed: ", "did you mean 'head'?"]),
        (dimension("rates.haed", low=1, high=2), ["dimensions.rates.haed: ", "did you mean 'head'?"]),
        (dimension("decays.haed", low=1, high=2), ["dimensions.decays.haed: ", "did you mean 'head'?"]),
        (dimension("schedule", choices=["cosine", "cosin"]), ["dimensions.schedule: ", "did you mean 'cosine'?"]),
        (dimension("ema", low=0.5, high=1.5), ["spaces.autoft.dimensions.ema: Input should be less than 1"]),
        (dimension("learning_rate", low=-1, high=1), ["dimensions.learning_rate: Input should be greater than 0"]),
        (space("dimensions", "learning_rate", value=0), ["dimensions.learning_rate: Input should be greater than 0"]),
        (space("dimensions", "learning_rate", value="x"), ["dimensions.learning_rate: Input should be a valid number"]),
        (dimension("learning_rate", low=2, high=1), ["dimensions.learning_rate: low 2 is not below high 1"]),
        (dimension("learning_rate", low=1, high=1), ["dimensions.learning_rate: low 1 is not below high 1"]),
        (
            dimension("weight_decay", low=0, high=1, log=True),
            ["dimensions.weight_decay: a logarithmic range needs low"],
        ),
        (dimension("learning_rate", lo=1, high=2), ["dimensions.learning_rate.lo", "did you mean 'low'?"]),
        (dimension("learning_rate", low=1), ["dimensions.learning_rate: give either low and high, or choices"]),
        (dimension("learning_rate"), ["dimensions.learning_rate: give either low and high, or choices"]),
        (dimension("ema", low=0.1, high=0.2, choices=[0.1, 0.2]), ["dimensions.ema: give either low and high"]),
        (dimension("ema", choices=[0.1]), ["dimensions.ema.choices: List should have at least 2"]),
        (dimension("ema", choices=[0.1, 0.2], log=True), ["dimensions.ema: log, integer and relative are for a range"]),
        (dimension("ema", low=0.1, high=0.2, use="trial"), ["dimensions.ema.use: ", "did you mean 'trials'?"]),
        (dimension("warmup", low=0.5, high=3, integer=True), ["dimensions.warmup: integer needs whole low and high"]),
        (
            dimension("warmup", low=1, high=3, integer=True, relative=True),
            ["dimensions.warmup: integer needs whole low and high, which are not relative"],
        ),
        (
            dimension("ema", low=0.1, high=0.9, relative=True),
            [
                "dimensions.ema: relative needs a positive value of the method ft-both under recipe emoji",
                "which has None",
            ],
        ),
        (
            dimension("objective.kd", low=0.1, high=0.9, relative=True),
            ["dimensions.objective.kd: relative needs a positive value", "which has None"],
        ),
        (dimension("share", low=0.1, high=0.9), ["dimensions.share: trials share the images and the start"]),
        (dimension("head.bias", choices=[True, False]), ["dimensions.head.bias: trials share"]),
        (space("dimensions", value={"objective.ce": 1}), ["spaces.autoft: every dimension is pinned"]),
        (space("dimensions", value={}), ["spaces.autoft.dimensions"]),
        (space("dimensions", "seed", value=3), ["dimensions.seed: leave it out to search with the run's own seed"]),
        (space("dimensions", value={"objective.ce": {"low": 0, "high": 1}}), ["objective: every weight is 0"]),
        (space("metric", value="top2"), ["spaces.autoft.metric: ", "did you mean 'top1'?"]),
        (space("sampler", value="tpee"), ["spaces.autoft.sampler: ", "did you mean 'tpe'?"]),
        (space("eval_set", value="id_test"), ["spaces.autoft.eval_set: ", "known: id_val, ood_val"]),
        (space("eval_set", value="line"), ["spaces.autoft.eval_set: ", "known: id_val, ood_val"]),
        (space("images", value=1), ["spaces.autoft.images: "]),
        (space("method", value="ft-bot"), ["spaces.autoft.method: ", "did you mean 'ft-both'?"]),
        (
            space("dimensions", value={"ema": {"low": 0.1, "high": 0.2, "use": "final"}}),
            ["no dimension is used by the trials"],
        ),
        (put("methods", "ft-both", "tpgm", value={}), ["spaces.autoft.method: ft-both projects its final weights"]),
        (space("method", value="zeroshot"), ["spaces.autoft.method: zeroshot trains nothing by steps"]),
        (space("recipes", "emoji", "trial", value={"step": 5}), ["spaces.autoft.trial: ", "did you mean 'steps'?"]),
        (
            space("recipes", "emoji", "trial", value={"steps": 0}),
            ["spaces.autoft.trial.steps: Input should be greater than 0"],
        ),
        (
            space("recipes", "emoji", "trial", value={"share": 0.5}),
            ["spaces.autoft.trial.share: trials share the images"],
        ),
        (space("final", value={"kep": "best"}), ["spaces.autoft.final: ", "did you mean 'keep'?"]),
        (space("methd", value="ft"), ["spaces.autoft.methd", "did you mean 'method'?"]),
        (put("search", "spaces", value=["autof"]), ["search.spaces: ", "did you mean 'autoft'?"]),
        (put("search", "spaces", value=["autoft", "autoft"]), ["search.spaces: an entry stands twice"]),
        (put("search", "reference", value="autof"), ["search.reference: ", "did you mean 'autoft'?"]),
        (put("search", "shards", value=11), ["search: shards: 11 jobs cannot share rounds of 10 trials"]),
        (put("search", "trials", value=0), ["search.trials: Input should be greater than 0"]),
        (put("search", "seeds", value=[3000]), ["search.seeds.0: Input should be less than 3000"]),
        (put("search", "seeds", value=[]), ["search.seeds"]),
        (put("recipes", "emoji", "steps", value=0), ["recipes.emoji.steps: Input should be greater than 0"]),
        (put("recipes", "emoji", "batches", value="draw"), ["recipes.emoji.batches: ", "did you mean 'draws'?"]),
        (put("recipes", "emoji", "warmup_share", value=2), ["recipes.emoji.warmup_share: Input should be less than"]),
        (put("recipes", "emoji", "accumulation", value=1024), ["recipes.emoji", "1024, more parts than batch_size 64"]),
        (put("methods", "ft", "decays", value={"haed": 1}), ["methods.ft.decays", "did you mean 'head'?"]),
        (put("methods", "ft", "objective", value={"ce": 0}), ["methods.ft.objective: every weight is 0"]),
        (put("methods", "ft", "options", value={"distances": "lives"}), ["options.distances", "did you mean 'live'?"]),
        (named_as_a_method, ["spaces.ft: there is a method of this name; choose another"]),
    ],
)
def test_a_mistake_in_a_search_is_one_line_that_names_its_key(change: Callable[[dict], None], words: list[str]) -> None:
    raw = raw_config()
    change(raw)
    with pytest.raises(UserError) as caught:
        parse_config(raw)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert len(str(caught.value).splitlines()) == 2, str(caught.value)


def test_a_mistake_in_a_search_is_said_once_for_tasks_of_several_recipes() -> None:
    raw = raw_config()
    raw["tasks"]["other"] = raw["tasks"]["emoji-style"] | {"recipe": "clip"}
    raw["run"]["tasks"].append("other")
    parse_config(raw)
    dimension("learnin_rate", low=1, high=2)(raw)
    with pytest.raises(UserError) as caught:
        parse_config(raw)
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


def test_keys_that_stand_twice_in_one_map_are_told_with_their_lines(tmp_path: Path) -> None:
    """YAML's readers keep the last. Merged maps may have the keys of what they merge, and other maps the same keys."""
    path = tmp_path / "config.yaml"
    fine = "a: &a {x: 1, y: 2}\nb: {<<: *a, <<: *a, x: 3}\nc: [{x: 1}, {x: 2}, {1: 1, '1': 2}]\nd: *a\n"
    path.write_text(fine)
    assert repeated_keys(path) == []
    path.write_text(f"{fine}e:\n  - z: {{x: 1, x: 2}}\nb: {{}}\n")
    said = [f"{path}: 'b' stands in lines 2 and 7; keep one", f"{path}: 'x' stands in lines 6 and 6; keep one"]
    assert repeated_keys(path) == said
    with pytest.raises(UserError) as caught:
        parse_config(raw_config(), [path])
    assert all(line in str(caught.value) for line in said)
    path.write_text('{\n\t"seeds": [0]\n}')  # JSON, which need not be YAML
    assert repeated_keys(path) == []
