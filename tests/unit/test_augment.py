"""Training transforms."""

import pytest
import torch

from surefoot.augment import augment
from surefoot.method_entries import Augmentation
from surefoot.seeds import torch_stream

IMAGES = torch.rand(6, 3, 16, 16, generator=torch_stream(0, "test"))
ALL = Augmentation(rotate=20, scale=0.3, shift=0.2, mirror=0.5)


def changed(how: Augmentation, images: torch.Tensor = IMAGES, seed: int = 0) -> torch.Tensor:
    """Augmented images under a seed."""
    return augment(images, how, torch_stream(seed, "changes"))


def test_all_zero_is_the_identity() -> None:
    assert torch.equal(changed(Augmentation()), IMAGES)


def test_mirror_1_flips_every_image_left_to_right() -> None:
    torch.testing.assert_close(changed(Augmentation(mirror=1)), IMAGES.flip(-1), atol=1e-5, rtol=0)


def test_mirror_half_flips_some_images_and_leaves_the_others() -> None:
    many = IMAGES[:1].expand(200, -1, -1, -1)
    out = changed(Augmentation(mirror=0.5), many)
    flipped = [torch.allclose(image, IMAGES[0].flip(-1), atol=1e-4) for image in out]
    kept = [torch.allclose(image, IMAGES[0], atol=1e-4) for image in out]
    assert sum(flipped) + sum(kept) == 200 and 70 < sum(flipped) < 130


def test_the_same_stream_gives_the_same_images_and_another_other_ones() -> None:
    assert torch.equal(changed(ALL), changed(ALL))
    assert not torch.equal(changed(ALL), changed(ALL, seed=1))


def test_images_of_a_batch_are_changed_differently() -> None:
    out = changed(ALL, IMAGES[:1].expand(4, -1, -1, -1))
    assert not torch.allclose(out[0], out[1])


def test_outside_is_white() -> None:
    out = changed(Augmentation(shift=1), torch.zeros(50, 3, 16, 16))
    assert out.max() == 1 and out.min() >= 0
    assert torch.equal(changed(ALL, torch.ones(4, 3, 16, 16)), torch.ones(4, 3, 16, 16))


def test_shift_is_a_part_of_the_side_at_most() -> None:
    """A single black pixel in the middle of 16 stays within a quarter of the side, and uses that room."""
    dot = torch.ones(300, 1, 16, 16)
    dot[:, :, 8, 8] = 0
    rows, columns = (1 - changed(Augmentation(shift=0.25), dot.expand(-1, 3, -1, -1)))[:, 0].sum(0).nonzero().T
    for positions in (rows, columns):
        assert positions.min() in (3, 4) and positions.max() in (12, 13)


def test_scale_grows_and_shrinks_by_at_most_the_factor() -> None:
    square = torch.ones(300, 3, 32, 32)
    square[:, :, 8:24, 8:24] = 0
    sides = (1 - changed(Augmentation(scale=0.5), square))[:, 0].sum((1, 2)).sqrt()
    assert sides.min() > 16 / 1.5 - 0.5 and sides.max() < 16 * 1.5 + 0.5
    assert sides.min() < 12 and sides.max() > 22


@pytest.mark.parametrize("degrees", [5, 30])
def test_rotation_stays_within_its_range(degrees: float) -> None:
    """A dot to the right of the centre moves up or down by the sine of the angle."""
    dot = torch.ones(300, 3, 33, 33)
    dot[:, :, 15:18, 27:30] = 0
    weight = (1 - changed(Augmentation(rotate=degrees), dot))[:, 0]
    height = torch.linspace(-16, 16, 33)[None, :, None]
    angles = torch.rad2deg(torch.asin(((weight * height).sum((1, 2)) / weight.sum((1, 2)) / 12).clamp(-1, 1)))
    assert angles.abs().max() == pytest.approx(degrees, rel=0.1)
    assert angles.min() < 0 < angles.max()
