"""Where a job computes."""

import torch


def pick_device() -> torch.device:
    """The GPU that the job may see, else the CPU with exactly one thread (thread counts change float sums)."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    torch.set_num_threads(1)
    return torch.device("cpu")
