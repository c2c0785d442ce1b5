"""What tables, figures and report read of the config: names, tasks, methods in words.

No torch here: the Snakefile imports this module.
"""

import json
from typing import Any

from surefoot.config import Config
from surefoot.flow import Plan
from surefoot.method_entries import Augmentation, Method, Recipe, Training
from surefoot.spaces import dumped


def build_story(plan: Plan) -> dict[str, Any]:
    """What tables, figures and report read of the config."""
    config = plan.config
    run, tasks = config.run, config.run.tasks
    named = [*run.methods, *run.baselines, *config.surgical.arms, *config.online.arms]
    spaces = {name: config.spaces[name].label for name in config.search.spaces}
    pairs = {f"{method}.pair": f"{config.methods[method].label}, two seeds" for method in run.pairs}
    return {
        "experiment": config.experiment,
        "notice": config.notice,
        "labels": {method: config.methods[method].label for method in named} | spaces | pairs,
        "baselines": list(run.baselines),
        "reference": _reference(config),
        "figures": list(plan.figures),
        "surgical": _surgical(plan),
        "search": _search(plan),
        "tuned": _tuned(config),
        "methods": _method_pages(config) + _space_pages(config),
        "tasks": {task: _task(plan, task) for task in tasks},
        "titles": _titles(plan),
        "notes": {task: {s.name: s.note for s in plan.tasks[task].eval_sets if s.note} for task in tasks},
        "seeds": list(config.seeds),
        "fixed_alpha": config.fixed_alpha,
        "renders": config.renders,
        "bootstrap": config.bootstrap.model_dump(),
        "comparison": config.comparison.model_dump(),
        "logit_axes": config.logit_axes,
    }


def _task(plan: Plan, name: str) -> dict[str, Any]:
    """What tables read of a task: metric, those of eval sets that have another one, and the line of standard models."""
    own = {s.name: s.metric for s in plan.tasks[name].eval_sets if s.metric}
    return plan.config.tasks[name].model_dump(include={"metric", "baseline_line"}) | {"metrics": own}


def _titles(plan: Plan) -> dict[str, str]:
    """Printed names of the eval sets; a dagger marks those with a note."""
    sets = [eval_set for task in plan.config.run.tasks for eval_set in plan.tasks[task].eval_sets]
    titles = {s.name: s.title + ("†" if s.note else "") for s in sets}
    return titles | {"id_test": "ID test", "average": "Average under shift", "effective": "Effective robustness"}


def _reference(config: Config) -> str:
    """Method that the others are compared with."""
    trained = [m for m in config.run.methods if config.methods[m].changes_weights]
    whole = [m for m in trained if set(config.methods[m].train) >= {"image", "head"}]
    return config.run.reference or (whole or trained)[0]


def _tuned(config: Config) -> dict[str, Any] | None:
    """How many methods have a grid for the recipe of the first task, from which `tune` chooses; None: none has."""
    recipe = config.tasks[config.run.tasks[0]].recipe
    methods = [method for method in config.run.methods if config.methods[method].grids.get(recipe)]
    how = config.tuning
    return {"methods": len(methods), "settings": how.settings, "eval_set": how.eval_set} if methods else None


def _search(plan: Plan) -> dict[str, Any]:
    """Searched spaces, their budget, and for every task the seeds of the run on the folds of the searches."""
    config, how = plan.config, plan.config.search

    def compared(task: str) -> list[int]:
        folds = plan.tasks[task].folds
        return [seed for seed in config.seeds if seed % folds in {s % folds for s in how.seeds}]

    def space(name: str) -> dict[str, Any]:
        dimensions = {task: dumped(config.dimensions(name, config.tasks[task].recipe)) for task in config.run.tasks}
        learned = config.spaces[name].learned
        return {
            "dimensions": dimensions,
            "eval_set": config.spaces[name].eval_set,
            "learned": learned.space if learned else "",
        }

    return {
        "spaces": {name: space(name) for name in how.spaces},
        "trials": how.trials,
        "seeds": list(how.seeds),
        "final_seeds": how.final_seeds,
        "reference": how.reference or next((s for s in reversed(how.spaces) if not config.spaces[s].learned), ""),
        "compared_seeds": {task: compared(task) for task in config.run.tasks},
    }


def _space_pages(config: Config) -> list[dict[str, str]]:
    """What the searched spaces vary around which method."""
    pages = []
    for name in config.search.spaces:
        space = config.spaces[name]
        free = [key for key, dimension in space.dimensions.items() if not isinstance(dimension, float)]
        on = f", by {space.learned.space} on {space.learned.task}" if space.learned else ""
        pages.append(
            {
                "method": name,
                "label": space.label,
                "trains": " + ".join(config.methods[space.method].train),
                "objective": "learned" if any(key.startswith("objective.") for key in free) else "as " + space.method,
                "also": f"{space.sampler} search over {', '.join(free)}{on}",
                "recipe": f"as {space.method}, with the winner's values",
                "source": space.reference,
                "differs": space.differs,
            }
        )
    return pages


def _surgical(plan: Plan) -> dict[str, Any]:
    """Tasks with metric and shift, arms, those that train one part, the one that trains everything, and how many images
    a class choose, over the targets."""
    config, how, methods = plan.config, plan.config.surgical, plan.config.methods
    plain = {m: methods[m] for m in how.methods if methods[m].rates == "one" and methods[m].objective == {"ce": 1.0}}
    return {
        "tasks": {task: config.tasks[task].metric for task in how.tasks},
        "shifts": {task: config.tasks[task].shift for task in how.tasks},
        "methods": list(how.methods),
        "nothing": next((m for m, entry in plain.items() if not entry.train), ""),
        "blocks": {m: list(e.train) for m, e in plain.items() if e.train and set(e.train) != {"image", "head"}},
        "everything": next((m for m, entry in plain.items() if set(entry.train) == {"image", "head"}), ""),
        "source": methods[how.source].label,
        "learning_rates": list(how.learning_rates),
        "shots": list(how.shots),
        "choosing": sorted({target.validation for task in how.tasks for target in plan.tasks[task].targets}),
    }


def _method_pages(config: Config) -> list[dict[str, str]]:
    """What each method of the run trains, on which objective, how, after whom, and what differs from the source."""
    run, surgical = config.run, config.surgical
    pairs = [(m, config.tasks[run.tasks[0]].recipe) for m in [*run.methods, *run.baselines]]
    pairs += [(m, surgical.recipe) for m in surgical.arms if m not in run.methods]
    pages = []
    for name, recipe in pairs:
        method, (training, how) = config.methods[name], config.resolve(name, recipe)
        read = _read_of(how, arm=name in surgical.arms and recipe == surgical.recipe)
        pages.append(
            {
                "method": name,
                "label": method.label,
                **trained(training),
                "also": "; ".join(besides(method, training)),
                "recipe": f"{recipe}: {', '.join(read)}" if training.train else "",
                "source": method.reference,
                "differs": method.differs,
            }
        )
    return pages


def trained(training: Training) -> dict[str, str]:
    """What is trained, and on which objective, in words."""
    terms = " + ".join(f"{plain(weight)} {term}" for term, weight in training.objective.items())
    return {"trains": " + ".join(training.train) or "nothing", "objective": terms if training.train else ""}


def besides(method: Method, training: Training) -> list[str]:
    """What a method does beyond its parts and its objective, in words."""
    said = [f"from {method.base}"] if method.base else []
    said += [] if training.start == "zero-shot" else [f"{training.start} start"]
    said += [] if training.share == 1 else [f"{plain(training.share)} of the images"]
    said += [] if training.rates == "one" else [f"rates {plain(training.rates)}"]
    said += [f"EMA {plain(training.ema)}"] if training.ema else []
    tpgm = training.tpgm
    return said + ([f"TPGM, {tpgm.steps} steps at {plain(tpgm.learning_rate)}"] if tpgm else [])


def _read_of(how: Recipe, arm: bool) -> list[str]:
    """The settings of a recipe that a run reads; an arm of surgical fine-tuning has rate, keep and head elsewhere."""
    if how.optimizer == "lbfgs":
        return [f"lbfgs, L2 penalty {plain(how.weight_decay)}", *_head_of(how)]
    keys = ["optimizer", "learning_rate", "weight_decay", "batch_size", "epochs"]
    if arm:
        keys.remove("learning_rate")
    usual = Recipe()
    others = [k for k in Recipe.model_fields if k not in {*keys, "learning_rate", "augmentation", "head"}]
    others = [k for k in others if getattr(how, k) != getattr(usual, k) and not (arm and k == "keep")]
    changed = [] if how.augmentation == Augmentation() else ["random changes"]
    return [f"{key} {plain(getattr(how, key))}" for key in (*keys, *others)] + changed + ([] if arm else _head_of(how))


def _head_of(how: Recipe) -> list[str]:
    return [text for text, on in (("scaled head", how.head.scaled), ("head with bias", how.head.bias)) if on]


def plain(value: Any) -> str:
    """A value in YAML's one-line form, with numbers as people write them."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {plain(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(plain, value)) + "]"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if not isinstance(value, float):
        return str(value)
    if value and not 1e-2 <= abs(value) < 1e6:
        digits, exponent = f"{value:.6e}".split("e")
        return f"{float(digits)}e{int(exponent)}"
    return repr(value).removesuffix(".0")
