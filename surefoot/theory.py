"""Two-layer ReLU networks under a shift: which layer to tune? (Lee et al. 2023, theory of surgical fine-tuning.)

A random teacher f(x) = v . relu(W x) is its own source model, so the source loss is zero by construction. A shift
changes what the model sees (x becomes A x), what it is asked for (y becomes t y), or the model itself (noise on one
layer); then the first layer W, the last layer v, or both are tuned on N target examples by full-batch gradient descent.

Two facts shape the results. Freezing v takes away no function unless a v_j must change its sign, because
relu(a z) = a relu(z) for a > 0: row j of W can absorb any positive factor of v_j. So "first" and "both" reach the same
functions under most shifts, and differ only in the way there. And for t > 0 the first layer alone could answer a label
change by t W; hence t = -1 here.

S seeds, R rates, B = R S networks tuned at once, N examples, D inputs, H hidden units.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from surefoot.files import atomic
from surefoot.seeds import torch_stream

logger = logging.getLogger(__name__)

# Losses are meant to reach zero, and single precision would stop at 1e-13.
DTYPE = torch.float64

SHIFTS = ("rotated_input", "scaled_input", "flipped_block", "label", "noise_first", "noise_last")
ARMS: dict[str, frozenset[str]] = {
    "none": frozenset(),
    "first": frozenset({"first"}),
    "last": frozenset({"last"}),
    "both": frozenset({"first", "last"}),
}


@dataclass(frozen=True)
class Setting:
    """Sizes of the demonstration.

    The grid of examples runs from below the number of hidden units (weights of the last layer) to above the number of
    weights of the first layer, inputs times hidden. Rates are in units of 1 / `curvature`.
    """

    inputs: int = 10
    hidden: int = 10
    examples: tuple[int, ...] = (5, 10, 20, 40, 80, 160)
    seeds: tuple[int, ...] = tuple(range(12))
    rates: tuple[float, ...] = (0.1, 0.3, 1.0)
    steps: int = 2000
    momentum: float = 0.9
    # More than the examples, so that the choice of the rate is not what differs among the arms.
    validation: int = 1000
    test: int = 2000


class Network(NamedTuple):
    """Networks side by side: `first` [..., H, D] is W, `last` [..., H] is v."""

    first: torch.Tensor
    last: torch.Tensor


class Examples(NamedTuple):
    """What the networks see and are asked for: `x` [..., N, D], `y` [..., N]."""

    x: torch.Tensor
    y: torch.Tensor


class Problem(NamedTuple):
    """A shift for each seed: the teacher, the model where tuning starts, the matrix A [S, D, D] and the factor t.

    Where a block size is given, the inputs of an example are zero outside one block, each block as likely.
    """

    seeds: tuple[int, ...]
    source: Network
    start: Network
    change: torch.Tensor
    factor: float = 1.0
    block: int | None = None


def predict(network: Network, x: torch.Tensor) -> torch.Tensor:
    """f(x) = v . relu(W x) for inputs [..., N, D]; returns [..., N]."""
    return (torch.relu(x @ network.first.mT) @ network.last.unsqueeze(-1)).squeeze(-1)


def mean_square(network: Network, examples: Examples) -> torch.Tensor:
    """Mean squared error of each network, [...]; infinite where training diverged."""
    error = predict(network, examples.x) - examples.y
    return error.square().mean(-1).nan_to_num(nan=torch.inf, posinf=torch.inf)


def make_problem(shift: str, seeds: Sequence[int], inputs: int, hidden: int) -> Problem:
    """The teacher and the shift of each seed; every weight of a layer has variance 1 / (its number of inputs).

    - rotated_input: A is a random rotation. scaled_input: A is diagonal with entries exp(z / 2), z standard normal.
      Both are invertible, so the first layer W A^-1 has no loss.
    - flipped_block: inputs come in blocks of two, and A turns the sign of the first block. Examples of the other blocks
      are as they were: a model that keeps what it knows of them need not see them. This is the mechanism by which
      tuning more than needed can hurt; the dense shifts above do not have it.
    - label: y becomes -y; the last layer -v has no loss.
    - noise_first, noise_last: the data stay; noise of half the size of the weights is added to one layer.

    Raises ValueError for an unknown shift.
    """
    if shift not in SHIFTS:
        raise ValueError(f"unknown shift {shift}; there are {', '.join(SHIFTS)}")

    def normal(purpose: str, *shape: int) -> torch.Tensor:
        return torch.stack([torch.randn(*shape, generator=torch_stream(s, purpose), dtype=DTYPE) for s in seeds])

    first = normal("theory teacher, first", hidden, inputs) / inputs**0.5
    source = Network(first, normal("theory teacher, last", hidden) / hidden**0.5)
    start, change, factor, block = source, torch.eye(inputs, dtype=DTYPE).repeat(len(seeds), 1, 1), 1.0, None
    if shift == "rotated_input":
        square = normal("theory rotation", inputs, inputs)
        change = torch.matrix_exp((square - square.mT) / (8 * inputs) ** 0.5)
    elif shift == "scaled_input":
        change = torch.diag_embed(torch.exp(normal("theory scales", inputs) / 2))
    elif shift == "flipped_block":
        block = 2
        change[:, :block] *= -1
    elif shift == "label":
        factor = -1.0
    elif shift == "noise_first":
        noise = normal("theory noise, first", hidden, inputs) / inputs**0.5
        start = source._replace(first=source.first + noise / 2)
    else:
        noise = normal("theory noise, last", hidden) / hidden**0.5
        start = source._replace(last=source.last + noise / 2)
    return Problem(tuple(seeds), source, start, change, factor, block)


def draw(problem: Problem, number: int, purpose: str) -> Examples:
    """Fresh target examples for each seed, x [S, N, D] and y [S, N]; the same for the same purpose and number.

    Source inputs are standard normal; x is A times them and y is t times the teacher's answer to them.
    """
    inputs, drawn = problem.change.shape[-1], []
    for seed in problem.seeds:
        generator = torch_stream(seed, "theory examples", purpose, number)
        x = torch.randn(number, inputs, generator=generator, dtype=DTYPE)
        if problem.block:
            blocks = torch.arange(inputs) // problem.block
            x = x * (blocks == torch.randint(int(blocks[-1]) + 1, (number, 1), generator=generator))
        drawn.append(x)
    x = torch.stack(drawn)
    return Examples(x @ problem.change.mT, problem.factor * predict(problem.source, x))


def curvature(network: Network, x: torch.Tensor) -> Network:
    """Largest curvature of the mean squared error in each layer alone, as factors [S, 1, 1] and [S, 1].

    It is the largest eigenvalue of 2/N J J', J being the derivatives of the predictions for x [S, N, D].
    """
    before = x @ network.first.mT
    gates, active = (before > 0) * network.last.unsqueeze(-2), torch.relu(before)
    kernels = ((x @ x.mT) * (gates @ gates.mT), active @ active.mT)
    # A layer whose units are all silent has no gradient either; any positive number will do for it.
    first, last = (2 / x.shape[-2] * torch.linalg.eigvalsh(k)[:, -1].clamp_min(1e-12) for k in kernels)
    return Network(first[:, None, None], last[:, None])


def tune(
    start: Network,
    examples: Examples,
    layers: frozenset[str],
    rates: Sequence[float],
    steps: int,
    momentum: float = 0.9,
) -> Network:
    """Tune `layers` of start [S, ...] on examples [S, N, ...] with every rate; returns networks [R, S, ...].

    Full-batch gradient descent with heavy-ball momentum on the mean squared error. The step of a layer is the rate
    divided by that layer's curvature at the start, in every arm: tuning both layers starts to move the first just as
    fast as tuning it alone. One common step would leave the first layer far behind the last, and the arms would differ
    in how far they have converged.
    """
    number = examples.x.shape[-2]

    def spread(tensor: torch.Tensor) -> torch.Tensor:
        """[S, ...] to [B, ...], in memory that is contiguous."""
        return tensor.repeat(len(rates), *[1] * (tensor.ndim - 1))

    first, last = (spread(layer) for layer in start)
    # Units before examples: several times faster than the other way round.
    x, y = spread(examples.x), spread(examples.y).unsqueeze(1)  # [B, N, D], [B, 1, N]
    turned = x.mT.contiguous()
    rate = torch.tensor(rates, dtype=DTYPE).repeat_interleave(len(start.last))
    limits = curvature(start, examples.x)
    # The factor of the loss's own gradient, 2/N, is part of the step.
    step_first = 2 / number * rate[:, None, None] / spread(limits.first)
    step_last = 2 / number * rate[:, None] / spread(limits.last)
    speed_first, speed_last = torch.zeros_like(first), torch.zeros_like(last)
    active = torch.bmm(first, turned).relu_()  # [B, H, N]
    for _ in range(steps if layers else 0):
        error = torch.bmm(last.unsqueeze(1), active).sub_(y)  # [B, 1, N]
        # Both gradients are taken before either layer moves. The sign of what left a ReLU is the ReLU's derivative.
        if "first" in layers:
            gradient = torch.bmm(active.sign().mul_(error), x).mul_(last.unsqueeze(-1))  # [B, H, D]
            speed_first.mul_(momentum).addcmul_(step_first, gradient, value=-1)
        if "last" in layers:
            gradient = torch.bmm(active, error.mT).squeeze(-1)  # [B, H]
            speed_last.mul_(momentum).addcmul_(step_last, gradient, value=-1)
            last.add_(speed_last)
        if "first" in layers:
            active = torch.bmm(first.add_(speed_first), turned).relu_()
    return Network(*(layer.unflatten(0, (len(rates), -1)) for layer in (first, last)))


def compare(shift: str, setting: Setting) -> pd.DataFrame:
    """Every arm under one shift: a row per (arm, examples, seed, rate).

    Losses are relative to the mean square of the target labels, so that 1 is the loss of always answering zero.
    `chosen` marks the rate with the least validation loss of each (arm, examples, seed), the first of equals; neither
    the training nor the test loss takes part. The arm "none" is the model as it is, at rate 0.
    """
    problem = make_problem(shift, setting.seeds, setting.inputs, setting.hidden)
    validation, test = (draw(problem, getattr(setting, name), name) for name in ("validation", "test"))
    unit, frames = test.y.square().mean(-1), []
    for number in setting.examples:
        train = draw(problem, number, "train")
        for arm, layers in ARMS.items():
            rates = setting.rates if layers else (0.0,)
            tuned = tune(problem.start, train, layers, rates, setting.steps, setting.momentum)
            losses = [mean_square(tuned, part) / unit for part in (train, validation, test)]  # [R, S] each
            best = losses[1].numpy().argmin(0)  # NumPy's is the first of equals, torch's may be any.
            rows = pd.MultiIndex.from_product([rates, problem.seeds], names=["rate", "seed"]).to_frame(index=False)
            for name, loss in zip(("train_loss", "validation_loss", "test_loss"), losses, strict=True):
                rows[name] = loss.flatten().numpy()
            rows["chosen"] = (np.arange(len(rates))[:, None] == best).ravel()
            frames.append(rows.assign(shift=shift, arm=arm, examples=number))
    columns = ["shift", "arm", "examples", "seed", "rate", "train_loss", "validation_loss", "test_loss", "chosen"]
    return pd.concat(frames, ignore_index=True)[columns]


def run_theory(table: Path, setting: Setting | None = None) -> None:
    """Compare the arms under every shift and write one CSV table; always on the CPU, where it takes seconds."""
    # Thread counts change float sums.
    torch.set_num_threads(1)
    frames = []
    for shift in SHIFTS:
        frames.append(compare(shift, setting or Setting()))
        logger.info("%s: done", shift)
    with atomic(table) as partial:
        pd.concat(frames).to_csv(partial, index=False, float_format="%.6g")
