"""One fine-tuning run: from the zero-shot classifier through the stages of a method to weights and a record."""

from pathlib import Path

import torch

from surefoot import config
from surefoot.clip import WEIGHTS, Preprocess, load_state, save_state, zero_shot_classifier
from surefoot.data import Data
from surefoot.device import pick_device
from surefoot.files import UserError, sha256, write_json
from surefoot.records import metered, versions
from surefoot.resume import Resumable
from surefoot.train import fit


def finetune(
    model: Path,
    head: Path,
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
        data: prepared splits of the task.
        method: resolved entry: name, stages, recipe.
        seed: run seed; it also chooses the fold on tasks that have folds.
        progress: saved states of this job.
        code: digest of the code that runs, for the record.

    The record is the same for the same config, code, data and versions; the meter never is.
    """
    device = pick_device()
    recipe = config.Recipe.model_validate(method["recipe"])
    stages = [config.Stage.model_validate(stage) for stage in method["stages"]]
    classifier = zero_shot_classifier(model, load_state(head)).to(device)
    examples = data.training(seed)
    history = []
    with metered(len(examples) * recipe.epochs * len(stages)) as cost:
        for number, stage in enumerate(stages):
            name = f"{method['name']} seed {seed}" + (f" stage {number + 1}" if len(stages) > 1 else "")
            history.append(fit(classifier, stage, recipe, examples, Preprocess.of(model), seed, progress, name))
    state = classifier.state_dict()
    if broken := [key for key, tensor in state.items() if not torch.isfinite(tensor).all()]:
        raise UserError(f"{method['name']} seed {seed}: {broken[0]} is not finite; lower the learning_rate")
    save_state(weights, state)
    write_json(
        record,
        {
            "task": data.task.name,
            "method": method,
            "seed": seed,
            "training_images": len(examples),
            "history": history,
            "code": code,
            "data": data.digests,
            "model": sha256(model / WEIGHTS),
            "head": sha256(head),
            "weights": sha256(weights),
            "versions": versions(),
        },
    )
    write_json(meter, {**cost, "resumed": progress.resumed})
