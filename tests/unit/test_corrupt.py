"""Corruptions."""

import numpy as np
import pytest

from surefoot.corrupt import CORRUPTIONS, corrupt_all

SHARP = np.full((3, 24, 24, 3), 255, np.uint8)
SHARP[:, 6:18, 9:15] = [200, 40, 90]


@pytest.mark.parametrize("severity", [1, 3, 5])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_changes_the_image_and_nothing_else(name: str, severity: int) -> None:
    before = SHARP.copy()
    out = corrupt_all(SHARP, [name] * 3, severity)
    assert out.shape == SHARP.shape and out.dtype == np.uint8
    assert not np.array_equal(out, SHARP) and np.array_equal(SHARP, before)
    assert np.array_equal(out, corrupt_all(SHARP, [name] * 3, severity))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severity_5_is_further_from_the_image_than_severity_1(name: str) -> None:
    def distance(severity: int) -> float:
        return float(np.abs(corrupt_all(SHARP, [name] * 3, severity).astype(int) - SHARP).mean())

    assert distance(5) > distance(1)


def test_noise_is_fixed_by_the_position() -> None:
    noise = corrupt_all(SHARP, ["gaussian_noise"] * 3, 3)
    assert not np.array_equal(noise[0], noise[1])
    assert np.array_equal(noise[1], corrupt_all(SHARP, ["jpeg", "gaussian_noise", "contrast"], 3)[1])


@pytest.mark.parametrize("severity", [0, 6, -1, 2.5])
def test_severity_outside_1_to_5_is_an_error(severity: float) -> None:
    with pytest.raises(ValueError, match="severity"):
        corrupt_all(SHARP, ["jpeg"] * 3, severity)


def test_an_unknown_corruption_or_too_few_names_are_errors() -> None:
    with pytest.raises(KeyError):
        corrupt_all(SHARP, ["fog of war"] * 3, 1)
    with pytest.raises(ValueError, match="shorter"):
        corrupt_all(SHARP, ["jpeg"], 1)
