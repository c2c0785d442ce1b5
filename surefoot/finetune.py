"""One fine-tuning run: from the start of a method through its training to weights and a record."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from surefoot.clip import (
    WEIGHTS,
    Classifier,
    Preprocess,
    State,
    convention_of,
    load_state,
    random_classifier,
    save_state,
    zero_shot_classifier,
)
from surefoot.data import Data
from surefoot.device import pick_device
from surefoot.files import UserError, digest_of, write_json
from surefoot.method_entries import Head, Recipe, Training
from surefoot.metrics import accuracy
from surefoot.passes import predict
from surefoot.probe import solve
from surefoot.records import load_trained, metered, versions
from surefoot.references import References
from surefoot.resume import Resumable
from surefoot.seeds import stream_seed
from surefoot.tpgm import fit_radii
from surefoot.train import History, Run, fit


def start_classifier(
    model: Path, head: State, training: Training, convention: Head, base: Path | None, seed: int
) -> Classifier:
    """The first weights of a method: zero-shot, random, or those that another method ended with.

    Raises UserError when the base was trained in another convention of the head.
    """
    if training.start == "random":
        return random_classifier(model, head, convention, seed)
    classifier = zero_shot_classifier(model, head, convention)
    if base:
        state = load_trained(base)
        if convention_of(state) != convention:
            raise UserError(f"{base} was trained with another convention of the head; set the same recipe key head")
        classifier.load_state_dict(state)
    return classifier


@dataclass(frozen=True)
class Bench:
    """What the runs of one method on one task share: model folder, zero-shot head, prepared splits, resolved entry."""

    model: Path
    head: Path
    data: Data
    method: dict[str, Any]

    def run(self, base: Path | None, seed: int, progress: Resumable, quiet: bool = False, mark: str = "") -> "Trained":
        """Train under one seed, from the weights of the base where the method has one; `mark` tells runs apart."""
        device, name, data = pick_device(), f"{self.method['name']} seed {seed}{mark}", self.data
        recipe = Recipe.model_validate(self.method["recipe"])
        training = Training.model_validate(self.method["training"])
        zero_shot, preprocess = load_state(self.head), Preprocess.of(self.model)
        classifier = start_classifier(self.model, zero_shot, training, recipe.head, base, seed).to(device)
        data.check_transform(preprocess.size, self.model)
        examples = data.training(seed, training.share)
        stream = stream_seed(seed, self.method)
        references = References(self.model, zero_shot, data.task, training.options, stream, device)
        validation = data.examples(data.task.parts_of("id_val"), seed)

        def watch(trained: Classifier) -> float:
            predicted = predict(trained, validation, preprocess, recipe.batch_size)
            how = self.method["metric"], predicted
            return accuracy(*how, validation.labels, validation.groups, validation.clusters)

        run = Run(training, recipe, examples, preprocess, references, stream, progress, name, watch, quiet)
        history, radii = History(), {}
        passes = 1 if recipe.optimizer == "lbfgs" else recipe.epochs
        processed = (recipe.steps * recipe.batch_size if recipe.steps else len(examples) * passes) * bool(
            training.train
        )
        processed += training.tpgm.steps * min(training.tpgm.batch_size, len(validation)) if training.tpgm else 0
        with metered(processed) as cost:
            if training.train:
                history = (solve if recipe.optimizer == "lbfgs" else fit)(classifier, run)
            if training.tpgm:
                anchor = zero_shot_classifier(self.model, zero_shot, recipe.head).to(device).state_dict()
                radii = fit_radii(classifier, anchor, validation, preprocess, training.tpgm, seed, name)
        if broken := [key for key, tensor in classifier.state_dict().items() if not torch.isfinite(tensor).all()]:
            raise UserError(f"{name}: {broken[0]} is not finite; lower the learning_rate")
        return Trained(classifier, vars(history) | {"radii": radii}, len(examples), cost)


@dataclass(frozen=True)
class Trained:
    """What a run ended with, and what it cost."""

    classifier: Classifier
    history: dict[str, Any]
    images: int
    cost: dict[str, Any]


def finetune(
    bench: Bench,
    base: Path | None,
    seed: int,
    progress: Resumable,
    code: str,
    weights: Path,
    record: Path,
    meter: Path,
) -> None:
    """Run one method under one seed and write its weights, its record and what it cost.

    Args:
        bench: model, data and method.
        base: trained weights to start from; None: the method's own start.
        seed: run seed; it also chooses the fold on tasks that have folds.
        progress: saved states of this job.
        code: digest of the code that runs, for the record.

    The record is the same for the same config, code, data and versions; the meter never is.
    """
    found = bench.run(base, seed, progress)
    save_state(weights, found.classifier.state_dict())
    write_json(
        record,
        {
            "task": bench.data.task.name,
            "method": bench.method,
            "seed": seed,
            "base": digest_of(base) if base else None,
            "training_images": found.images,
            "history": found.history,
            "code": code,
            "data": bench.data.digests,
            "model": digest_of(bench.model / WEIGHTS),
            "head": digest_of(bench.head),
            "weights": digest_of(weights),
            "versions": versions(),
        },
    )
    write_json(meter, {**found.cost, "resumed": progress.resumed})
