"""The training loop."""

import math
import time
from collections.abc import Iterator

import numpy as np
import torch
from tqdm import tqdm

from surefoot import config
from surefoot.augment import augment
from surefoot.clip import Classifier, Preprocess
from surefoot.data import Examples
from surefoot.files import UserError
from surefoot.methods import set_trained
from surefoot.objective import Context, Objective
from surefoot.resume import Resumable
from surefoot.seeds import torch_stream

SAVE_SECONDS = 20
CHECK_STEPS = 50


def fit(
    classifier: Classifier,
    stage: config.Stage,
    recipe: config.Recipe,
    examples: Examples,
    preprocess: Preprocess,
    seed: int,
    progress: Resumable,
    name: str,
) -> list[dict[str, float]]:
    """Train a classifier in place through one stage; returns per epoch the mean of each term.

    Args:
        classifier: the start, on the device that computes.
        stage, recipe: what is trained on which objective, and how.
        examples: training images.
        preprocess: the model's input transform.
        seed: run seed; order and changes of the images depend on it and on the epoch alone.
        progress: saved states; a run that was killed goes on from the last one and ends with the same bytes.
        name: of the stage's saved state, and in messages.

    Raises UserError when the loss is not finite.
    """
    device = next(classifier.parameters()).device
    trained = set_trained(classifier, stage.train)
    objective = Objective(stage.objective)
    optimizer = make_optimizer(list(trained.values()), recipe)
    inputs = Inputs(classifier, stage, recipe, examples, preprocess, seed)
    labels = torch.from_numpy(examples.labels).to(device)
    total = recipe.epochs * math.ceil(len(examples) / recipe.batch_size)
    history, step, saved = [], 0, time.monotonic()
    if state := progress.load(f"{name}.pt"):
        classifier.load_state_dict(state["classifier"])
        optimizer.load_state_dict(state["optimizer"])
        history, step = state["history"], state["step"]
    for epoch in tqdm(range(len(history), recipe.epochs), desc=name, initial=len(history), total=recipe.epochs):
        sums, seen = {}, 0
        for indices in examples.shuffled(recipe.batch_size, seed, epoch):
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * rate(step, total, recipe)
            context = Context(classifier, inputs.batch(indices, step), labels[indices], recipe.label_smoothing)
            loss, values = objective(context)
            if step % CHECK_STEPS == 0:
                check_finite(loss, name, step)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if recipe.clip_norm:
                torch.nn.utils.clip_grad_norm_(trained.values(), recipe.clip_norm)
            optimizer.step()
            step, seen = step + 1, seen + len(indices)
            for term, value in values.items():
                sums[term] = sums.get(term, 0) + value * len(indices)
        check_finite(sum(sums.values()), name, step)
        history.append({term: float(value) / seen for term, value in sums.items()})
        if time.monotonic() - saved > SAVE_SECONDS or epoch + 1 == recipe.epochs:
            saved = time.monotonic()
            progress.save(
                f"{name}.pt",
                {
                    "classifier": classifier.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "history": history,
                    "step": step,
                },
            )
    classifier.eval()
    return history


class Inputs:
    """What the objective is computed on: changed images, or features encoded once where nothing can change them."""

    def __init__(
        self,
        classifier: Classifier,
        stage: config.Stage,
        recipe: config.Recipe,
        examples: Examples,
        preprocess: Preprocess,
        seed: int,
    ) -> None:
        self.recipe, self.examples, self.preprocess, self.seed = recipe, examples, preprocess, seed
        self.device = next(classifier.parameters()).device
        self.features = None
        if "image" not in stage.train and recipe.augmentation == config.Augmentation():
            self.features = torch.cat(list(self._encode(classifier)))

    @torch.no_grad()
    def _encode(self, classifier: Classifier) -> Iterator[torch.Tensor]:
        for indices in self.examples.batches(self.recipe.batch_size):
            yield classifier.encode(self.preprocess(self.examples.images(indices).to(self.device)))

    def batch(self, indices: np.ndarray, step: int) -> torch.Tensor:
        """Features [B, D] or preprocessed images [B, 3, H, W] of some positions."""
        if self.features is not None:
            return self.features[indices]
        x = self.preprocess.scale(self.examples.images(indices).to(self.device))
        x = augment(x, self.recipe.augmentation, torch_stream(self.seed, "changes", step))
        return self.preprocess.normalise(x)


def make_optimizer(parameters: list[torch.nn.Parameter], recipe: config.Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer; weight decay acts on every trained tensor, as in WiSE-FT."""
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, momentum=0.9)


def rate(step: int, total: int, recipe: config.Recipe) -> float:
    """Part of the peak learning rate at a step: linear warm-up, then half a cosine to zero or a constant."""
    warmup = min(recipe.warmup, total // 10)
    if step < warmup:
        return (step + 1) / warmup
    if recipe.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def check_finite(loss: torch.Tensor, name: str, step: int) -> None:
    """Raises UserError for a loss that is not finite."""
    if not torch.isfinite(loss):
        raise UserError(
            f"{name}: the loss is {float(loss)} around step {step}; lower the learning_rate or the weights of the terms"
        )
