"""One fine-tuning run: from the start of a method through its training to weights and a record."""

from pathlib import Path

import torch

from surefoot import config
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
from surefoot.files import UserError, sha256, write_json
from surefoot.metrics import mean_per_class, top1
from surefoot.passes import predict
from surefoot.probe import solve
from surefoot.records import load_trained, metered, versions
from surefoot.references import References
from surefoot.resume import Resumable
from surefoot.tpgm import fit_radii
from surefoot.train import History, Run, fit

WATCHED = {"top1": top1, "mean_per_class": mean_per_class}


def start_classifier(
    model: Path, head: State, training: config.Training, convention: config.Head, base: Path | None, seed: int
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


def finetune(
    model: Path,
    head: Path,
    base: Path | None,
    data: Data,
    method: dict,
    seed: int,
    progress: Resumable,
    code: str,
    weights: Path,
    record: Path,
    meter: Path,
) -> None:
    """Run one method under one seed and write its weights, its record and what it cost.

    Args:
        model, head: model folder and zero-shot head.
        base: trained weights to start from; None: the method's own start.
        data: prepared splits of the task.
        method: resolved entry: name, training, recipe, metric.
        seed: run seed; it also chooses the fold on tasks that have folds.
        progress: saved states of this job.
        code: digest of the code that runs, for the record.

    The record is the same for the same config, code, data and versions; the meter never is.
    """
    device = pick_device()
    recipe = config.Recipe.model_validate(method["recipe"])
    training = config.Training.model_validate(method["training"])
    name, zero_shot, preprocess = f"{method['name']} seed {seed}", load_state(head), Preprocess.of(model)
    classifier = start_classifier(model, zero_shot, training, recipe.head, base, seed).to(device)
    examples = data.training(seed, training.share)
    references = References(model, zero_shot, data.task, training.options, seed, device)
    validation = data.examples(data.task.parts_of("id_val"), seed)

    def watch(trained: Classifier) -> float:
        predicted = predict(trained, validation, preprocess, recipe.batch_size)
        return WATCHED[method["metric"]](predicted, validation.labels)

    run = Run(training, recipe, examples, preprocess, references, seed, progress, name, watch)
    history, radii = History(), {}
    with metered(len(examples) * recipe.epochs) as cost:
        if training.train:
            history = (solve if recipe.optimizer == "lbfgs" else fit)(classifier, run)
        if training.tpgm:
            anchor = zero_shot_classifier(model, zero_shot, recipe.head).to(device).state_dict()
            radii = fit_radii(classifier, anchor, validation, preprocess, training.tpgm, seed, name)
    state = classifier.state_dict()
    if broken := [key for key, tensor in state.items() if not torch.isfinite(tensor).all()]:
        raise UserError(f"{name}: {broken[0]} is not finite; lower the learning_rate")
    save_state(weights, state)
    write_json(
        record,
        {
            "task": data.task.name,
            "method": method,
            "seed": seed,
            "base": sha256(base) if base else None,
            "training_images": len(examples),
            "history": vars(history) | {"radii": radii},
            "code": code,
            "data": data.digests,
            "model": sha256(model / WEIGHTS),
            "head": sha256(head),
            "weights": sha256(weights),
            "versions": versions(),
        },
    )
    write_json(meter, {**cost, "resumed": progress.resumed})
