"""Random streams."""

import numpy as np
import torch

from surefoot.seeds import derive, numpy_stream, torch_stream, unit


def test_a_stream_is_fixed_by_seed_and_purpose() -> None:
    assert numpy_stream(1, "a", 2).random() == numpy_stream(1, "a", 2).random()
    assert torch.equal(torch.rand(3, generator=torch_stream(1, "a")), torch.rand(3, generator=torch_stream(1, "a")))


def test_other_seeds_purposes_and_cuts_of_a_purpose_give_other_streams() -> None:
    seeds = [
        derive(0),
        derive(1),
        derive(0, "a"),
        derive(0, "a", "b"),
        derive(0, "ab"),
        derive(0, "b", "a"),
        derive(0, "a", 1),
    ]
    assert len(set(seeds)) == len(seeds)


def test_global_generators_neither_matter_nor_move() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    expected, before, state = derive(3, "x"), torch.get_rng_state(), np.random.get_state()[1].copy()
    torch_stream(3, "x"), numpy_stream(3, "x").random()
    assert torch.equal(before, torch.get_rng_state()) and np.array_equal(state, np.random.get_state()[1])
    torch.manual_seed(1)
    assert derive(3, "x") == expected


def test_seeds_are_the_same_on_every_machine() -> None:
    """A changed derivation would change every result of the project."""
    assert derive(0, "order", 1) == 3560704936019802908
    assert 0 <= derive(0, "x") < 2**63


def test_unit_is_uniform() -> None:
    draws = np.array([unit("test", i) for i in range(4000)])
    assert draws.min() >= 0 and draws.max() < 1
    counts, _ = np.histogram(draws, bins=10, range=(0, 1))
    assert abs(counts - 400).max() < 4 * np.sqrt(400)
