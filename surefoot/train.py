"""The training loop."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from surefoot.augment import augment
from surefoot.clip import Classifier, Preprocess
from surefoot.data import Examples
from surefoot.files import BadValues
from surefoot.gradients import Gradients
from surefoot.images import Crops, ahead
from surefoot.method_entries import Augmentation, Recipe, Training
from surefoot.names import ON_IMAGES
from surefoot.objective import FROM_START, Context, Objective
from surefoot.passes import encode
from surefoot.rates import Factors, Rates
from surefoot.references import References
from surefoot.resume import Resumable, Saves
from surefoot.seeds import torch_stream
from surefoot.weights import Weights

CHECK_STEPS = 50


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        training, recipe: what is trained on which objective, and how.
        examples: training images.
        preprocess: the model's input transform.
        references: what the terms compare with.
        seed: order and changes of the images depend on it and on the epoch alone.
        progress: saved states; a run that was killed goes on from the last one and ends with the same bytes. None:
            the run is too short to be worth one.
        name: of the run's saved state, and in messages; begins with the entry of `section`.
        quiet: no progress bar, because the run is one of many short ones.
        encoded: features of the examples by batch size, where nothing changes them; runs that share it encode once.
        watch: value of the model on validation images, higher is better; used where the recipe keeps the best epoch.
        section: of the config: methods, or spaces for the trials of a search.
    """

    training: Training
    recipe: Recipe
    examples: Examples
    preprocess: Preprocess
    references: References
    seed: int
    progress: Resumable | None
    name: str
    watch: Callable[[Classifier], float] | None = None
    quiet: bool = False
    section: str = "methods"
    encoded: dict[int, torch.Tensor] = field(default_factory=dict)

    @property
    def entry(self) -> str:
        """Key of the config that the run is of, for messages."""
        return f"{self.section}.{self.name.split()[0]}"


@dataclass
class History:
    """Per epoch: the mean of each term, the factors of the rates (where they change) and the watched value.

    `parts` is the number of parts that a step was computed in at the end; more than asked for where memory was short.
    """

    terms: list[dict[str, float]] = field(default_factory=list)
    factors: list[Factors] = field(default_factory=list)
    watched: list[float] = field(default_factory=list)
    parts: int = 1


def fit(classifier: Classifier, run: Run) -> History:
    """Train a classifier in place. Raises UserError when the loss is not finite or a part or term does not exist."""
    training, recipe = run.training, run.recipe
    entry = run.entry
    objective = Objective(training.objective, f"{entry}.objective")
    weights = Weights(classifier, run)
    if objective.asks_for(FROM_START):
        run.references.remember_start(weights.trained)
    inputs = Inputs(classifier, run, objective)
    labels = torch.from_numpy(run.examples.labels).to(inputs.device)
    per_epoch = math.ceil(len(run.examples) / recipe.batch_size)
    total = recipe.steps or recipe.epochs * per_epoch
    length = math.ceil(total / per_epoch)  # in epochs
    rates = Rates(training, weights.trained, length, entry, [name for name, _ in classifier.named_parameters()])
    decays = rates.per_part(training.decays, "decays")
    history, step, factors, sums, seen = History(parts=recipe.accumulation), 0, {}, {}, 0
    if run.progress and (state := run.progress.load(f"{run.name}.pt")):
        history, step, factors = History(**state["history"]), state["step"], state["factors"]
        sums, seen = state["sums"], state["seen"]
        weights.load(state["weights"])
        optimizer = make_optimizer(weights.trained, factors, recipe, decays)
        optimizer.load_state_dict(state["optimizer"])
    done = len(history.terms)
    gradients = Gradients(
        objective, classifier, weights.trained, run.name, recipe.out_of_memory == "halve", history.parts
    )

    def state_now() -> dict[str, Any]:
        return {
            "weights": weights.state(),
            "optimizer": optimizer.state_dict(),
            "history": vars(history),
            "factors": factors,
            "step": step,
            "sums": sums,
            "seen": seen,
        }

    with Saves(run.progress, f"{run.name}.pt") as saves:
        for epoch in tqdm(range(done, length), desc=run.name, initial=done, total=length, disable=run.quiet):
            if step == epoch * per_epoch:  # else the run goes on within the epoch
                found = rates.at(
                    epoch, lambda per_image, e=epoch, s=step: probe(weights, inputs, labels, e, s, per_image)
                )
                if found != factors:
                    factors = found
                    optimizer = make_optimizer(weights.trained, factors, recipe, decays)
            for indices, x in inputs.batches(islice(batches(run, epoch, step), total - step), step):
                for group in optimizer.param_groups:
                    group["lr"] = recipe.learning_rate * group["factor"] * rate(step, total, recipe)
                loss, values = gradients(
                    lambda part, x=x, y=labels[indices], s=step: Context(
                        classifier,
                        x[part],
                        y[part],
                        recipe.label_smoothing,
                        weights.trained,
                        run.references,
                        s,
                        recipe.precision,
                        part.start,
                    ),
                    len(indices),
                )
                history.parts = gradients.parts
                if step % CHECK_STEPS == 0:
                    check_finite(loss, run.name, step)
                if recipe.clip_norm:
                    torch.nn.utils.clip_grad_norm_(weights.trained.values(), recipe.clip_norm)
                optimizer.step()
                weights.after_step()
                step, seen = step + 1, seen + len(indices)
                for term, value in values.items():
                    sums[term] = sums.get(term, 0) + value * len(indices)
                saves.after_step(state_now)
            check_finite(sum(sums.values()), run.name, step)
            history.terms.append({term: float(value) / seen for term, value in sums.items()})
            sums, seen = {}, 0
            if not isinstance(training.rates, dict) and training.rates != "one":
                history.factors.append(factors)
            if recipe.keep == "best":
                history.watched.append(weights.watch())
            saves.after_step(state_now, last=epoch + 1 == length)
    weights.finish()
    return history


def batches(run: Run, epoch: int, step: int) -> Iterator[np.ndarray]:
    """Positions of the images of an epoch's steps from `step` on."""
    size = run.recipe.batch_size
    number = math.ceil(len(run.examples) / size)
    if run.recipe.batches == "epochs":
        return islice(run.examples.shuffled(size, run.seed, epoch), step - epoch * number, None)
    return (next(run.examples.shuffled(size, run.seed, f"step {s}")) for s in range(step, (epoch + 1) * number))


class Inputs:
    """What the objective is computed on: changed images, or features encoded once where nothing can change them."""

    def __init__(self, classifier: Classifier, run: Run, objective: Objective) -> None:
        self.run, self.device = run, next(classifier.parameters()).device
        self.features = None
        frozen = not any(p.requires_grad for p in classifier.image.parameters())
        if frozen and run.recipe.augmentation == Augmentation() and not objective.asks_for(ON_IMAGES):
            size = run.recipe.batch_size
            if size not in run.encoded:
                run.encoded[size] = encode(classifier, run.examples, run.preprocess, size)
            self.features = run.encoded[size]

    def batches(self, positions: Iterable[np.ndarray], step: int) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Positions of steps from `step` on, with their inputs; what must be decoded or cropped is loaded ahead."""
        numbered = enumerate(positions, step)
        if self.features is not None:
            yield from ((indices, self.features[indices]) for _, indices in numbered)
            return
        slow = self.run.examples.slow or self.run.recipe.augmentation.crop is not None
        for (number, indices), images in ahead(numbered, lambda item: self._images(item[1], item[0]), slow):
            yield indices, self._changed(images, number)

    def batch(self, indices: np.ndarray, step: int) -> torch.Tensor:
        """Features [B, D] or preprocessed images [B, 3, H, W] of some positions."""
        if self.features is not None:
            return self.features[indices]
        return self._changed(self._images(indices, step), step)

    def _images(self, indices: np.ndarray, step: int) -> torch.Tensor:
        share = self.run.recipe.augmentation.crop
        return self.run.examples.images(indices, Crops(share, self.run.seed, step) if share else None)

    def _changed(self, images: torch.Tensor, step: int) -> torch.Tensor:
        run = self.run
        x = run.preprocess.scale(images.to(self.device))
        x = augment(x, run.recipe.augmentation, torch_stream(run.seed, "changes", step))
        return run.preprocess.normalise(x)


def probe(
    weights: Weights, inputs: Inputs, labels: torch.Tensor, epoch: int, step: int, per_image: bool
) -> Iterator[dict[str, torch.Tensor]]:
    """Gradients of the cross-entropy for the trained tensors, on the first batches of an epoch.

    One dictionary per batch, or per image of these batches. Running statistics of batch norms serve and stay.
    """
    run, tensors = inputs.run, list(weights.trained.values())
    asleep = [tensor for tensor in tensors if not tensor.requires_grad]
    weights.classifier.eval()
    for tensor in asleep:
        tensor.requires_grad_(True)
    order = run.examples.shuffled(run.recipe.batch_size, run.seed, epoch)
    for indices in islice(order, run.training.options.probe_batches):
        x, y = inputs.batch(indices, step), labels[indices]
        for part in range(len(indices)) if per_image else [slice(None)]:
            chosen = slice(part, part + 1) if per_image else part
            logits = Context(weights.classifier, x[chosen], y[chosen], precision=run.recipe.precision).logits
            found = torch.autograd.grad(F.cross_entropy(logits, y[chosen]), tensors, allow_unused=True)
            yield {
                name: torch.zeros_like(tensor) if g is None else g
                for (name, tensor), g in zip(weights.trained.items(), found, strict=True)
            }
    for tensor in asleep:
        tensor.requires_grad_(False)
    weights.train_mode()


def make_optimizer(
    trained: dict[str, torch.nn.Parameter], factors: Factors, recipe: Recipe, decays: Factors | None = None
) -> torch.optim.Optimizer:
    """The recipe's optimizer with one group per factor of the rate and of the decay; factor 0 freezes a tensor.

    Where every factor is 0 (a measured rule found no signal) the optimizer holds all tensors at rate 0, so that the
    epoch's loss is still computed and the rule is asked again in the next. Weight decay acts on every trained tensor,
    as in WiSE-FT, times the tensor's factor in `decays`.
    """
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    still = not any(factors.values())
    for name, tensor in trained.items():
        tensor.requires_grad_(still or factors[name] > 0)
        tensor.grad = None
        if tensor.requires_grad:
            groups.setdefault((factors[name], decays[name] if decays else 1.0), []).append(tensor)
    how = {"lr": recipe.learning_rate}
    kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    if recipe.optimizer == "sgd":
        how["momentum"] = 0.9
    return kinds[recipe.optimizer](
        [
            {"params": tensors, "factor": factor, "weight_decay": recipe.weight_decay * decay}
            for (factor, decay), tensors in groups.items()
        ],
        **how,
    )


def rate(step: int, total: int, recipe: Recipe) -> float:
    """Part of the peak learning rate at a step: linear warm-up, then half a cosine to zero or a constant."""
    share = recipe.warmup_share
    warmup = recipe.warmup if share == 1 else min(recipe.warmup, int(total * share))
    if step < warmup:
        return (step + 1) / warmup
    if recipe.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


class NotFinite(BadValues):
    """A loss is NaN or infinite."""


def check_finite(loss: torch.Tensor, name: str, step: int) -> None:
    """Raises NotFinite for a loss that is not finite."""
    if not torch.isfinite(loss):
        raise NotFinite(
            f"{name}: the loss is {float(loss)} around step {step}; lower the learning_rate or the weights of the terms"
        )
