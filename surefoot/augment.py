"""Training transforms on a batch. B images, H x W pixels."""

import math

import torch
import torch.nn.functional as F

from surefoot.method_entries import Augmentation


def augment(images: torch.Tensor, how: Augmentation, stream: torch.Generator) -> torch.Tensor:
    """Random rotation, scale, shift and mirror image of each image, in one resampling.

    Args:
        images: float [B, 3, H, W] in [0, 1]. What lies outside an image is white.
        how: ranges; all zero returns the images as they are.
        stream: CPU generator; the same stream gives the same transforms on every device.
    """
    if how.model_copy(update={"crop": None}) == Augmentation():  # crops are made where images are loaded
        return images
    return change(images, how, draws(len(images), stream))


def draws(count: int, stream: torch.Generator) -> torch.Tensor:
    """Uniform numbers [count, 5] in [-1, 1) that decide what `change` does to each of some images."""
    return torch.rand(count, 5, generator=stream) * 2 - 1


def change(images: torch.Tensor, how: Augmentation, uniform: torch.Tensor) -> torch.Tensor:
    """What `augment` does, with the `draws` [B, 5] of its images given."""
    angle = uniform[:, 0] * math.radians(how.rotate)
    scale = torch.exp(uniform[:, 1] * math.log1p(how.scale))
    mirror = torch.where(uniform[:, 4] < 2 * how.mirror - 1, -1.0, 1.0)
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    shift = uniform[:, 2:4] * 2 * how.shift
    theta = torch.stack(
        [torch.stack([cos * mirror, -sin, shift[:, 0]], 1), torch.stack([sin * mirror, cos, shift[:, 1]], 1)], 1
    ).to(images.device)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return 1 - F.grid_sample(1 - images, grid, align_corners=False)
