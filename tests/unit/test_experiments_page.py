"""The page of experiments, and which published numbers each experiment meets."""

from collections import Counter
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from snakemake.utils import update_config

from surefoot import docs
from surefoot.experiments_page import first_sentence, merge, plan_of, plans
from surefoot.fingerprint import ROOT
from surefoot.flow import Plan
from surefoot.flow_search import Searches
from surefoot.meets import shared
from surefoot.published import (
    CHOSEN,
    compare,
    load_published,
    metric_rows,
    online_rows,
    published_files,
    surgical_rows,
)
from surefoot.results import AVERAGE
from surefoot.spaces import METRIC_NAMES

NUMBERS = load_published(published_files())
RULE = {"tolerance": 1.0, "deviations": 2.0}


def test_the_experiments_meet_all_comparable_numbers_but_these() -> None:
    """Which quantities the plans of the experiments measure, of those that somebody published."""
    left = {row for row in NUMBERS if row.comparable != "no"}
    left -= {row for plan in plans().values() for row in plan.meets(NUMBERS)}
    assert Counter((row.task, row.model) for row in left) == {
        ("domainnet", "RN50"): 12,  # TPGM's own setting
        ("imagenet", "ViT-L-14"): 2,  # FLYP's
        ("cifar10", "ViT-L-14-336"): 1,  # WiSE-FT's, as a list of records has it
        ("sst2", "ViT-B-16"): 1,  # our tasks of these have other names, by their number of labels
        ("pcam", "ViT-B-16"): 1,
    }


@pytest.mark.parametrize("name", ["autoft_imagenet", "autoft_nine_shifts", "lipsum_imagenet"])
def test_other_imagenet_tasks_meet_the_numbers_of_their_shifts(name: str) -> None:
    """Zero-shot as published, what is trained roughly; an ID test set only where it is the same."""
    plan = plan_of(name)
    task = next(task for task in plan.config.run.tasks if task.startswith("imagenet-"))
    met = [row for row in plan.meets(NUMBERS) if row.task == task]
    sets = {s.name for s in plan.tasks[task].eval_sets if s.role == "ood_test"} | {"id_test"}
    whole = {s.name: s.parts for s in plan_of("wise_ft").tasks["imagenet"].eval_sets}
    same = {s.name for s in plan.tasks[task].eval_sets if s.name in sets and s.parts == whole[s.name]}
    assert {row.eval_set for row in met if ":" not in row.eval_set} == same
    assert ("id_test" in same) == (name == "lipsum_imagenet")
    trained = [row for row in met if row.alpha != 0]
    assert {row.comparable for row in trained} == {"roughly"} and {"ft", "l2-sp"} <= {row.method for row in trained}
    assert "yes" in {row.comparable for row in met if row.alpha == 0}


def test_the_page_of_experiments_is_up_to_date() -> None:
    assert (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8") == docs.experiments_page(), docs.REMAKE


def test_configs_are_merged_as_snakemake_does() -> None:
    base, changes = {"a": {"b": 1, "c": [1, 2]}, "d": 3}, {"a": {"c": [9], "e": {"f": 1}}, "d": {"g": 1}}
    expected = deepcopy(base)
    update_config(expected, changes)
    assert merge(base, changes) == expected == {"a": {"b": 1, "c": [9], "e": {"f": 1}}, "d": {"g": 1}}


def test_merging_into_one_place_of_an_alias_leaves_the_other() -> None:
    shared = {"x": 1}
    assert merge(merge({}, {"a": shared, "b": shared}), {"a": {"x": 2}}) == {"a": {"x": 2}, "b": {"x": 1}}


def test_the_first_sentence_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("# A paper (Some et al. 2022) on\n# two data sets, at 0.5. More of it.\n#   a command\nkey: 1\n")
    assert first_sentence(path) == "A paper (Some et al. 2022) on two data sets, at 0.5"


@pytest.mark.parametrize("name", sorted(name for name in plans() if name.startswith("autoft")))
def test_autofts_baselines_choose_their_epoch_as_its_final_runs_do(name: str) -> None:
    """On id_val (AutoFT's code, for every data set and list of losses), or the searches would have an advantage."""
    plan = plan_of(name)
    for task in plan.config.run.tasks:
        recipe = plan.config.tasks[task].recipe
        kept = {method: plan.config.resolve(method, recipe)[1].keep for method in plan.config.run.methods}
        kept |= {space: plan.config.spaces[space].final["keep"] for space in plan.config.search.spaces}
        assert set(kept.values()) == {"best"}, (task, kept)


def test_a_published_objective_is_trained_as_a_searched_one_is() -> None:
    """Batch, length, warm-up and clipping are the task's, by the scripts; objective, rate and decay are learned."""
    wilds = ["iwildcam", "fmow"]
    for name, tasks in {"autoft_imagenet": ["imagenet"], "autoft_wilds": wilds, "autoft_wilds_l14_336": wilds}.items():
        plan = plan_of(name)
        for task in plan.config.run.tasks:
            recipe = plan.config.tasks[task].recipe
            base, own = plan.config.resolve("ft-both", recipe)
            for method in (f"autoft-{learned}" for learned in tasks):
                training, how = plan.config.resolve(method, recipe)
                learned = {key: getattr(how, key) for key in ("learning_rate", "weight_decay")}
                assert how == own.model_copy(update=learned) and training.train == base.train, (task, method)


def test_how_validation_images_of_wilds_are_drawn_otherwise_is_said() -> None:
    """Their code divides the number by all classes, ours by those that are there (surefoot/search.py)."""
    plan = plan_of("autoft_wilds")
    space = plan.config.spaces["autoft"]
    for task, own in (("iwildcam", "draws {} images of each"), ("fmow", "and {} of FMoW's")):
        classes = len(plan.tasks[task].classes)
        assert own.format(space.images // classes) in space.differs and f"{classes}" in space.differs
    assert space.differs.startswith(plan_of("autoft_imagenet").config.spaces["autoft"].differs)


def measured(plan: Plan) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A main table and a table of metrics as the run would make them, with zeros."""
    config, main, metrics = plan.config, [], []
    for task in config.run.tasks:
        sets = [(s.name, s.role, s.metric or config.tasks[task].metric) for s in plan.tasks[task].eval_sets]
        sets += [(AVERAGE, "ood_test", config.tasks[task].metric)]
        for model in config.run.models:
            for method in [*config.run.methods, *config.search.spaces]:
                zero_shot = method == "zeroshot"
                named = {"task": task, "model": model, "method": method, "seeds": 1, "value": 0.0}
                alphas = [0.0] if zero_shot else config.alphas
                for name, role, metric in sets:
                    cell = named | {"eval_set": name, "role": role}
                    metrics += [
                        cell | {"space": "weights", "alpha": alpha, "metric": each}
                        for alpha in alphas
                        for each in METRIC_NAMES
                    ]
                    labels = {method: alphas[-1]} if zero_shot else {method: 1.0, f"{method} + WiSE (0.5)": 0.5}
                    labels |= {} if zero_shot else {method + CHOSEN[1]: 0.3}
                    main += [
                        cell | {"label": label, "alpha": alpha, "metric": metric, "low": 0.0, "high": 0.0}
                        for label, alpha in labels.items()
                        if role in ("id_test", "ood_test")
                    ]
    how = config.surgical
    adapted, online = (
        pd.DataFrame(
            {"model": config.run.models[0], "shots": shots, "method": arm, "label": arm, "seeds": 1, "eval_set": task}
            | {"value": 0.0, "low": 0.0, "high": 0.0}
            for task in each.tasks
            for arm in each.methods
            for shots in how.shots
        )
        for each in (how, config.online)
    )
    for rows, table in ((surgical_rows, adapted), (online_rows, online)):
        if len(table):
            main += rows(table, {t: config.tasks[t].metric for t in how.tasks}).to_dict("records")
    return pd.DataFrame(main), pd.DataFrame(metrics)


PUBLISHED = sorted(name for name in plans() if "emoji" not in name and name not in ("smoke", "surgical_resnet"))


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_experiment_has_a_smoke_scale(name: str) -> None:
    """Behind it, what is trained and searched takes a few steps of a few images, whatever the experiment asks for."""
    plan = plan_of(name, "scales/smoke")
    for task in plan.config.run.tasks:
        for method in plan.config.run.methods:
            training, recipe = plan.config.resolve(method, plan.config.tasks[task].recipe)
            if training.train and recipe.optimizer != "lbfgs":
                assert recipe.steps == 4 and recipe.batch_size == 8, (task, method)
        for space in plan.config.search.spaces:
            entry = Searches(plan).space_entry(SimpleNamespace(task=task, space=space))
            found = entry["images"], entry["trial"]["steps"], entry["recipe"]["batch_size"]
            assert found == (20, 2, 8), (task, space)
    adapted, online = plan.config.surgical, plan.config.online
    for arm in adapted.methods if adapted.tasks else ():
        training, recipe = plan.config.resolve(arm, adapted.recipe)
        assert not training.train or (recipe.steps == 4 and recipe.batch_size == 8), arm
    assert [len(how.learning_rates) for how in (adapted, online)] == [1, 1]
    assert (adapted.shots, online.copies) == ([2], 2)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_table_shows_what_a_plan_says_that_it_meets(name: str) -> None:
    """The table of the run, from made-up measurements, against the plan, which has measured nothing."""
    plan = plan_of(name)
    main, metrics = measured(plan)
    labels = {method: method for method in set(metrics["method"])}
    numbers = shared(NUMBERS, plan.config.comparison.model_dump()["shared"])
    shown = compare(main, metric_rows(metrics, labels), numbers, RULE)
    shown = shown[shown["published"].notna()]
    expected = Counter((r.paper, r.table, r.task, r.model, r.method, r.metric, r.value) for r in plan.meets(NUMBERS))
    keys = ["paper", "table", "task", "model", "method", "metric", "published"]
    assert Counter(shown[keys].itertuples(index=False, name=None)) == expected
