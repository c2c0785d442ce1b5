"""Weight-space arithmetic."""

import torch

from surefoot.clip import State


def check_alike(theta0: State, theta1: State) -> None:
    """Raises ValueError unless both states have the same keys and shapes."""
    if missing := sorted(theta0.keys() ^ theta1.keys()):
        raise ValueError(f"the two models differ in their tensors: {', '.join(missing)}")
    for key in theta0:
        if theta0[key].shape != theta1[key].shape:
            raise ValueError(f"{key}: shapes {tuple(theta0[key].shape)} and {tuple(theta1[key].shape)} differ")


def interpolate(theta0: State, theta1: State, alpha: float) -> State:
    """(1 - alpha) * theta0 + alpha * theta1 for every tensor (WiSE-FT, equation 1; normalisation buffers too).

    alpha = 0 gives theta0 and alpha = 1 theta1, bit for bit; whole-number tensors (counters) are taken from the nearer
    end. Raises ValueError for an alpha outside [0, 1] or unequal keys or shapes.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha {alpha} is not between 0 (zero-shot) and 1 (fine-tuned)")
    check_alike(theta0, theta1)
    if alpha in (0, 1):
        return {key: tensor.clone() for key, tensor in (theta1 if alpha else theta0).items()}
    near = theta1 if alpha >= 0.5 else theta0
    return {
        key: torch.lerp(theta0[key], theta1[key], alpha) if theta0[key].is_floating_point() else near[key].clone()
        for key in theta0
    }
