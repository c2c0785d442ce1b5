"""The checks between the sections of a config: names that must be known, and entries that exclude each other."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from surefoot.method_entries import TEXT_TERMS, Training, changed
from surefoot.mistakes import suggestion
from surefoot.spaces import Dimension

if TYPE_CHECKING:
    from surefoot.config import Config


def inconsistencies(config: "Config") -> list[str]:
    """One line per mistake, each with its key, of every check whose needs are met."""
    found: dict[Check, list[str]] = {}
    for check, needs in CHECKS.items():
        if all(found.get(need) == [] for need in needs):
            found[check] = list(check(config))
    return list(dict.fromkeys(mistake for mistakes in found.values() for mistake in mistakes))


def _unknown_names(config: "Config") -> Iterator[str]:
    run, surgical, online = config.run, config.surgical, config.online
    own_spaces = {name: space for name, space in config.spaces.items() if not space.learned}
    for key, names, known in (
        ("run.tasks", run.tasks, config.tasks),
        ("run.models", run.models, config.models),
        ("run.methods", run.methods, config.methods),
        ("run.baselines", run.baselines, config.methods),
        ("run.reference", [run.reference] if run.reference else [], run.methods),
        ("surgical.tasks", surgical.tasks, config.tasks),
        ("surgical.methods", surgical.methods, config.methods),
        ("surgical.source", [surgical.source] if surgical.tasks else [], config.methods),
        ("surgical.recipe", [surgical.recipe] if surgical.tasks else [], config.recipes),
        ("online.tasks", online.tasks, surgical.tasks),
        ("online.methods", online.methods, config.methods),
        ("online.recipe", [online.recipe] if online.tasks else [], config.recipes),
        ("comparison.shared", config.comparison.shared, config.tasks),
        ("search.spaces", config.search.spaces, config.spaces),
        ("search.reference", [config.search.reference] if config.search.reference else [], config.search.spaces),
        ("search.lengths.spaces", config.search.lengths.spaces, config.search.spaces),
        ("search.without.spaces", config.search.without.spaces, config.search.spaces),
        *((f"spaces.{n}.method", [entry.method], config.methods) for n, entry in own_spaces.items()),
        *((f"tasks.{n}.source", [task.source], config.tasks) for n, task in config.tasks.items() if task.source),
        *((f"tasks.{n}.recipe", [task.recipe], config.recipes) for n, task in config.tasks.items()),
        *((f"methods.{n}.base", [entry.base], config.methods) for n, entry in config.methods.items() if entry.base),
        *((f"methods.{n}.recipes", entry.recipes, config.recipes) for n, entry in config.methods.items()),
        *((f"methods.{n}.grids", entry.grids, config.recipes) for n, entry in config.methods.items()),
        *((f"spaces.{n}.recipes", entry.recipes, config.recipes) for n, entry in own_spaces.items()),
    ):
        for name in names:
            if name not in known:
                yield f"{key}: unknown name {name!r}{suggestion(name, known)}"


def _grid_of_alphas(config: "Config") -> Iterator[str]:
    if abs(round(1 / config.alpha_step) * config.alpha_step - 1) > 1e-9:
        yield f"alpha_step: {config.alpha_step} does not divide 1; try 0.1 or 0.05"
    elif config.fixed_alpha not in config.alphas:
        yield f"fixed_alpha: {config.fixed_alpha} is not on the grid {config.alphas}"


def _lists(config: "Config") -> Iterator[str]:
    found = {"seeds": config.seeds}
    for section in ("run", "surgical", "online", "search"):
        entries = getattr(config, section)
        found |= {f"{section}.{key}": value for key, value in entries if isinstance(value, list)}
    for key, names in found.items():
        if len(set(names)) < len(names):
            yield f"{key}: an entry stands twice in {names}"


def _tasks(config: "Config") -> Iterator[str]:
    for name, task in config.tasks.items():
        if task.family not in config.image_size:
            yield f"image_size: missing key {task.family}, the family of task {name}"
    for name in config.run.tasks:
        if config.tasks[name].shift != "style":
            yield f"run.tasks: {name} has no shifted test set, but targets; use surgical.tasks"
    for name in config.surgical.tasks:
        if config.tasks[name].shift == "style":
            yield f"surgical.tasks: {name} has no targets; use a task whose shift is not style"


def _methods(config: "Config") -> Iterator[str]:
    for name, method in config.methods.items():
        try:
            for recipe in method.recipes:
                config.resolve(name, recipe)
            for recipe in method.grids:
                points = config.grid_points(name, recipe)
                if len(points) != config.tuning.settings:
                    yield (
                        f"methods.{name}.grids.{recipe}: {len(points)} settings, but every method tries "
                        f"{config.tuning.settings} (tuning.settings)"
                    )
                for point in points:
                    config.resolve(name, recipe, point)
        except ValueError as error:
            yield str(error)
        if method.start == "random" and method.base:
            yield f"methods.{name}: start random and base {method.base} exclude each other"
        if method.share < 1 and not method.train:
            yield f"methods.{name}.share: nothing is trained"
        yield from _bases(config, name)


def _bases(config: "Config", method: str) -> Iterator[str]:
    chain = [method]
    while base := config.methods[chain[-1]].base:
        if base in chain:
            if base == method == min(chain):  # a circle is said once, not by each that leads into it
                yield f"methods.{method}.base: {' -> '.join([*chain, base])} goes in a circle"
            return
        chain.append(base)
    if len(chain) > 1 and not config.methods[chain[1]].changes_weights:
        yield f"methods.{method}.base: {chain[1]} trains nothing; leave base out"


def _labels(config: "Config") -> Iterator[str]:
    """Tables and figures know methods by their labels."""
    names = [(f"methods.{name}", config.methods[name].label) for name in config.run.methods if name in config.methods]
    names += [(f"spaces.{name}", config.spaces[name].label) for name in config.search.spaces if name in config.spaces]
    seen: dict[str, str] = {}
    for where, label in dict(names).items():
        if (other := seen.setdefault(label, where)) != where:
            yield f"{where}.label: {other} has the label {label!r} too; tables could not tell them apart"


def _run(config: "Config") -> Iterator[str]:
    run, methods = config.run, config.methods
    if not any(methods[method].changes_weights for method in run.methods):
        yield "run.methods: none of them trains anything; add one that does, such as ft"
    for name in run.methods:
        if methods[name].start == "random":
            yield f"run.methods: {name} starts from random weights and has no line; use run.baselines"
    for name in run.baselines:
        if methods[name].start != "random":
            yield f"run.baselines: {name} must have start: random"
    if len(run.baselines) == 1:
        yield "run.baselines: one point makes no line; give two or more, or none"
    for pair in run.pairs:
        if pair not in run.methods:
            near = suggestion(pair, run.methods)
            yield f"run.pairs: {pair!r} is not in run.methods (or set run.pairs to []){near}"
        elif not methods[pair].changes_weights:
            yield f"run.pairs: {pair} trains nothing, so two seeds of it are one model"


def _arms(config: "Config") -> Iterator[str]:
    """An arm adapts a source model, so it has no start of its own; online it follows MEMO's loss alone."""
    start = {"base": None, "tpgm": None, "start": "zero-shot", "share": 1}
    loss = {"objective": Training().objective, "rates": "one", "ema": None}
    for section, ignored in (("surgical", start), ("online", start | loss)):
        how = getattr(config, section)
        for name in how.methods:
            arm = config.methods[name]
            for field, default in ignored.items():
                if getattr(arm, field) != default:
                    yield f"{section}.methods: {name} sets {field}, which has no meaning here"
            if how.tasks and config.resolve(name, how.recipe)[1].optimizer == "lbfgs":
                yield f"{section}.methods: {name} uses optimizer lbfgs, which knows no rates and epochs"


OF_THE_START = ("start", "share", "head", "tpgm")


def _ends(dimension: "float | Dimension") -> list[Any]:
    if isinstance(dimension, float):
        return [dimension]
    return dimension.choices or [dimension.low, dimension.high]


def _searches(config: "Config") -> Iterator[str]:
    """Every end of every range must mean something, in the trials and in the final run."""
    search = config.search
    for name in search.spaces:
        if name in config.methods:
            yield f"spaces.{name}: there is a method of this name; choose another"
        space = config.spaces[name]
        base = config.methods[space.method].base
        if base and (search.final_seeds > 1 or set(search.seeds) - set(config.seeds)):
            yield (
                f"spaces.{name}: {space.method} starts from {base}, which is trained for the seeds of the run only: "
                "search.seeds must be among them and search.final_seeds 1"
            )
        if config.methods[space.method].tpgm:
            yield (
                f"spaces.{name}.method: {space.method} projects its final weights (tpgm), which trials would not; "
                "search around a method without it"
            )
        if space.learned:  # what else could be wrong with it is wrong with the space that searches
            yield from _learned_elsewhere(config, name)
            continue
        if name in search.without.spaces and not any(
            key.startswith("objective.") and isinstance(d, Dimension) for key, d in space.dimensions.items()
        ):
            yield f"search.without.spaces: {name} learns no terms to leave out"
        for recipe in dict.fromkeys(config.tasks[task].recipe for task in config.run.tasks):
            space = config.spaces[name].under(recipe)
            training, how = entry = [part.model_dump() for part in config.resolve(space.method, recipe)]
            if how["optimizer"] == "lbfgs" or not training["train"]:
                yield f"spaces.{name}.method: {space.method} trains nothing by steps, so there is nothing to search"
                return
            try:
                for part, keys in (("dimensions", space.dimensions), ("trial", space.trial)):
                    for key in keys:
                        if key.partition(".")[0] in OF_THE_START:
                            raise ValueError(
                                f"spaces.{name}.{part}.{key}: trials share the images and the start of the method "
                                f"{space.method}; set it there"
                            )
                for part, settings in (("trial", space.trial), ("final", space.final)):
                    changed(*entry, settings, f"spaces.{name}.{part}")
                ends = {key: _ends(d) for key, d in config.dimensions(name, recipe).items() if key != "seed"}
                others = {key: values[-1] for key, values in ends.items()}
                for key, value in ((key, value) for key, values in ends.items() for value in values):
                    for settings in (space.trial, space.final):
                        changed(*entry, {**settings, **others, key: value}, f"spaces.{name}.dimensions")
            except ValueError as error:
                yield str(error)


def _learned_elsewhere(config: "Config", name: str) -> Iterator[str]:
    """A space that takes what another search learned: that one must be run."""
    space, run, search = config.spaces[name], config.run, config.search
    for key, value, known in (
        ("space", space.learned.space, [s for s in search.spaces if not config.spaces[s].learned]),
        ("task", space.learned.task, run.tasks),
    ):
        if value not in known:
            where = "search.spaces, and search itself" if key == "space" else "run.tasks"
            yield f"spaces.{name}.learned.{key}: {value} must be in {where}{suggestion(value, known)}"
            return
    if len(run.tasks) < 2:
        yield f"spaces.{name}.learned: {space.learned.task} is the only task, so there is none to try it on"
    if name in (*search.lengths.spaces, *search.without.spaces, search.reference):
        yield f"spaces.{name}: it makes no search, so it can be no reference and has no analysis"


def _text_towers(config: "Config") -> Iterator[str]:
    run, surgical, online, tasks = config.run, config.surgical, config.online, config.tasks
    pairs = [(method, tasks[task].recipe) for task in run.tasks for method in (*run.methods, *run.baselines)]
    if surgical.tasks:
        pairs += [(surgical.source, tasks[task].recipe) for task in surgical.tasks]
        pairs += [(method, surgical.recipe) for method in surgical.methods]
    if online.tasks:
        pairs += [(method, online.recipe) for method in online.methods]
    spaces = [(name, tasks[task].recipe) for task in run.tasks for name in config.search.spaces]
    for model in (name for name in run.models if config.models[name].tower):
        for name, recipe in dict.fromkeys([*pairs, *spaces]):
            space = config.spaces.get(name) if name in config.search.spaces else None
            training, _ = config.resolve(space.method if space else name, recipe)
            terms = [
                *training.objective,
                *(key.removeprefix("objective.") for key in (space.dimensions if space else [])),
            ]
            needs = [f"objective {term}" for term in terms if term in TEXT_TERMS]
            needs += ["train: text"] if "text" in training.train else []
            if needs:
                yield f"run.models: {model} has no text tower, but {name} needs one: {', '.join(needs)}"


Check = Callable[["Config"], Iterator[str]]
# Each with the checks that must have found nothing, because it looks names up or resolves methods.
CHECKS: dict[Check, tuple[Check, ...]] = {
    _unknown_names: (),
    _grid_of_alphas: (),
    _lists: (),
    _tasks: (_unknown_names,),
    _methods: (_unknown_names,),
    _labels: (_unknown_names,),
    _run: (_unknown_names,),
    _arms: (_methods,),
    _searches: (_methods,),
    _text_towers: (_methods,),
}
