"""Surgical fine-tuning: adapt a source model to a target with a few labels, by any method, and pick its rate.

Lee et al. 2023. This is adaptation *to* a target with labels of it, not robust fine-tuning without target data. Every
method gets the same grid of learning rates; rate and epoch are those best on target_val, as in the released code.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from surefoot.clip import Classifier, Preprocess, State, convention_of, load_state, zero_shot_classifier
from surefoot.data import Data, Examples
from surefoot.device import pick_device
from surefoot.files import UserError, write_json, write_parquet
from surefoot.interpolate import check_alike
from surefoot.layers import layers
from surefoot.method_entries import Recipe, Training
from surefoot.metrics import accuracy
from surefoot.passes import predict
from surefoot.records import load_trained, metered, versions
from surefoot.references import References
from surefoot.resume import Resumable, fingerprint
from surefoot.tasks import Target
from surefoot.train import NotFinite, Run, fit

logger = logging.getLogger(__name__)

SHOWN = 5  # classes that a message names


@dataclass(frozen=True)
class Case:
    """One target under one seed with a number of labelled images a class."""

    target: Target
    seed: int
    shots: int

    def __str__(self) -> str:
        return f"{self.target.name} {self.shots} shots seed {self.seed}"


States = Callable[[Case], Resumable]


def case_states(folder: Path, task: dict[str, Any], data: Data, sources: dict[int, Path], *others: Any) -> States:
    """Saved states of each case, which belong to what decides that case and outlive the job.

    So another corruption, seed or number of shots reruns the job, but none of the cases that it already has; and
    experiments that share cases do not undo each other's. `others` are what all cases share: method, code, model, …
    """
    own = {key: value for key, value in task.items() if key != "corruptions"}  # these only say which cases there are
    shared = fingerprint(own, versions(), *others)
    weights = {seed: fingerprint(path) for seed, path in sources.items()}

    def states(case: Case) -> Resumable:
        mark = fingerprint(shared, weights[case.seed], data.splits[case.target.split].digest)
        return Resumable(folder / str(case), mark)

    return states


@dataclass(frozen=True)
class Adaptation:
    """What one method found: all trials, and for the chosen ones the test predictions and the factors of the rates."""

    trials: pd.DataFrame
    predictions: pd.DataFrame
    factors: pd.DataFrame
    cost: dict

    def write(self, trials: Path, predictions: Path, factors: Path, meter: Path) -> None:
        """Write the four files, atomically."""
        write_parquet(trials, self.trials)
        write_parquet(predictions, self.predictions)
        write_parquet(factors, self.factors)
        write_json(meter, self.cost)


def adapt(
    model: Path,
    head: Path,
    sources: dict[int, Path],
    data: Data,
    method: dict,
    rates: list[float],
    shots: list[int],
    states: States,
) -> Adaptation:
    """Adapt the source model of every seed to every target with every number of shots and every rate.

    Args:
        model, head: model folder and zero-shot head of the task.
        sources: seed -> weights of the source model.
        method: resolved entry: name, training, recipe, metric.
        rates: learning rates that are tried; a method that trains nothing has none.
        shots: labelled target images a class.
        states: case -> its result where it is finished, and the states of its unfinished runs.

    Raises UserError when a class has no target image, or a source model does not fit the task.
    """
    shared = Sources(model, load_state(head), data, method)
    cases = [Case(target, seed, n) for target in data.task.targets for n in shots for seed in sources]
    progress = [states(case) for case in cases]
    with metered(0) as cost:
        bar = tqdm(zip(cases, progress, strict=True), f"{method['name']} on {data.task.name}", len(cases))
        found = [shared.adapt(case, sources[case.seed], rates, its) for case, its in bar]
    for result in found:
        logger.log(logging.WARNING if result["lacking"] else logging.INFO, result["used"])
    keys = ("trials", "predictions", "factors")
    trials, predictions, factors = ([row for result in found for row in result[key]] for key in keys)
    cost["resumed"] = any(its.resumed for its in progress)
    if shared.training.train:
        images = sum(trial["images"] for trial in trials) * shared.recipe.epochs
        cost["images_per_second"] = round(images / max(cost["seconds"], 1e-3), 1)  # a resumed job may have none left
    named = {"task": data.task.name, "model": model.name, "method": method["name"]}
    return Adaptation(
        trials=pd.DataFrame(trials).assign(**named),
        predictions=pd.concat([pd.DataFrame(part) for part in predictions], ignore_index=True),
        factors=pd.DataFrame(factors, columns=["seed", "target", "shots", "epoch", "layer", "factor"]),
        cost=cost,
    )


class Sources:
    """Source models and targets of a task, and what the cases of one job share."""

    def __init__(
        self,
        model: Path,
        head: State,
        data: Data,
        method: dict,
    ) -> None:
        self.model, self.head, self.data, self.device = model, head, data, pick_device()
        self.name, self.metric = method["name"], method["metric"]
        self.training = Training.model_validate(method["training"])
        self.recipe = Recipe.model_validate(method["recipe"]).model_copy(update={"keep": "best"})
        self.preprocess = Preprocess.of(model)
        data.check_transform(self.preprocess.size, model)
        self.states: dict[Path, State] = {}
        self.classifier: Classifier | None = None

    def value(self, predicted: np.ndarray, examples: Examples) -> float:
        """Main metric of predictions [N]."""
        return accuracy(self.metric, predicted, examples.labels, examples.groups, examples.clusters)

    def load(self, weights: Path) -> Classifier:
        """A source model, in the memory of the one loaded before. Raises UserError when it does not fit the task."""
        if weights not in self.states:
            self.states[weights] = load_trained(weights)
        state = self.states[weights]
        if self.classifier is None:  # the sources are runs of one method, so their heads are of one convention
            self.classifier = zero_shot_classifier(self.model, self.head, convention_of(state)).to(self.device)
        try:
            check_alike(self.classifier.state_dict(), state)
        except ValueError as error:
            raise UserError(f"{weights} is no source model for task {self.data.task.name}: {error}") from None
        self.classifier.load_state_dict(state)
        return self.classifier.eval()

    def examples(self, case: Case, role: str) -> Examples:
        """The images of a target in a role. Raises UserError for a class that has none."""
        examples = self.data.examples(case.target.parts(case.shots)[role], case.seed)
        counts = np.bincount(examples.labels, minlength=len(self.data.task.classes))
        if empty := [name for name, n in zip(self.data.task.classes, counts, strict=True) if not n]:
            more = f" and {len(empty) - SHOWN} more" if len(empty) > SHOWN else ""
            raise UserError(
                f"task {self.data.task.name}, {role} of {case}: no image of class {', '.join(empty[:SHOWN])}{more}; "
                "give it more labelled images, or leave the class out of the task"
            )
        return examples

    def adapt(self, case: Case, source: Path, rates: list[float], progress: Resumable) -> dict[str, Any]:
        """Rows of one case; a finished case is read from its saved state.

        A rate that ends in a loss that is not finite is a trial without a value. Raises UserError where all rates do.
        """
        if found := progress.load(f"{case}.pt"):
            return found
        train, validation, test = (self.examples(case, f"target_{part}") for part in ("train", "val", "test"))
        where = {"seed": case.seed, "target": case.target.name, "shots": case.shots}
        references = References(self.model, self.head, self.data.task, self.training.options, case.seed, self.device)

        def value(classifier: Classifier) -> float:
            return self.value(predict(classifier, validation, self.preprocess), validation)

        trials, best, predicted, factors, failure = [], -1.0, None, [], None
        for learning_rate in rates if self.training.train else [0.0]:
            classifier, watched, history = self.load(source), [], None
            tried = where | {"learning_rate": learning_rate, "images": len(train)}
            if self.training.train:
                recipe = self.recipe.model_copy(update={"learning_rate": learning_rate})
                name = f"{self.name} {case} rate {learning_rate:g}"
                how = (self.training, recipe, train, self.preprocess, references, case.seed, progress, name)
                run = Run(*how, watch=value, quiet=True)
                try:
                    history = fit(classifier, run)
                except NotFinite as error:  # says something of this rate, and nothing of the others
                    failure = error
                    logger.warning("%s", error)
                    progress.forget(f"{name}.pt")
                    trials.append(tried | {"validation": math.nan, "epoch": 0})
                    continue
                progress.forget(f"{name}.pt")
                watched = history.watched
            reached = max(watched) if watched else value(classifier)
            trials.append(tried | {"validation": reached, "epoch": watched.index(reached) + 1 if watched else 0})
            if reached > best:
                best, chosen = reached, len(trials) - 1
                predicted = predict(classifier, test, self.preprocess)
                factors = _by_layer(history.factors, classifier, where) if history else []
        if predicted is None:
            raise UserError(
                f"{case}: no rate of surgical.learning_rates ends in a finite loss; add a lower one. {failure}"
            ) from failure
        for number, trial in enumerate(trials):
            trial["chosen"] = number == chosen
        table = where | {
            "cluster": test.clusters.tolist(),
            "label": test.labels.tolist(),
            "group": test.groups.tolist(),
            "predicted": predicted.tolist(),
        }
        found = {"trials": trials, "predictions": [table], "factors": factors, **_used(case, train.labels)}
        progress.save(f"{case}.pt", found)
        return found


def _used(case: Case, labels: np.ndarray) -> dict[str, Any]:
    """What target_train really holds, in words, and how many classes have fewer images than were asked for."""
    counts = np.bincount(labels)
    lacking = int((counts < case.shots).sum())
    said = f"{case}: {len(labels)} target images, {counts.min()} to {counts.max()} a class"
    fewer = f"; {lacking} of {len(counts)} classes have fewer than surgical.shots asks for" if lacking else ""
    return {"used": said + fewer, "lacking": lacking}


def _by_layer(history: list[dict[str, float]], classifier: Classifier, where: dict[str, Any]) -> list[dict[str, Any]]:
    """Mean factor of each layer's trained tensors, epoch by epoch."""
    every = layers(name for name, _ in classifier.named_parameters())
    trained = set(history[0]) if history else set()
    found = {layer: [name for name in names if name in trained] for layer, names in every.items()}
    return [
        where | {"epoch": epoch + 1, "layer": layer, "factor": float(np.mean([factors[n] for n in names]))}
        for epoch, factors in enumerate(history)
        for layer, names in found.items()
        if names
    ]
