"""Random streams: one per purpose, derived from the run seed, so that a new consumer shifts nobody else."""

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch


def derive(seed: int, *purpose: object) -> int:
    """A 63-bit seed that depends on the run seed and on the names of the purpose only."""
    text = "\x1f".join([str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def unit(*purpose: object) -> float:
    """A number in [0, 1) fixed by its purpose: a coin that needs no state and no order."""
    return derive(0, *purpose) / 2**63


def stream_seed(seed: int, entry: dict[str, Any]) -> int:
    """Seed of a run's order, changes and texts: the run's own, or one for each value of an entry's `seed`."""
    return derive(seed, "searched seed", entry["seed"]) if entry.get("seed") is not None else seed


def numpy_stream(seed: int, *purpose: object) -> "np.random.Generator":
    """A NumPy generator for one purpose."""
    import numpy as np

    return np.random.default_rng(derive(seed, *purpose))


def torch_stream(seed: int, *purpose: object) -> "torch.Generator":
    """A CPU torch generator for one purpose; drawing on the CPU keeps runs equal across devices."""
    import torch

    return torch.Generator().manual_seed(derive(seed, *purpose))
