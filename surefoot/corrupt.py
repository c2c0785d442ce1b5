"""Common corruptions of small images at severities 1 to 5, from torchvision's maintained functions.

The kinds follow Hendrycks and Dietterich 2019 (noise, blur, weather, digital); the strengths are scaled to images of
about 50 pixels and are this project's own.
"""

from collections.abc import Callable

import numpy as np
import torch
from torchvision.transforms.v2 import functional as F

from surefoot.seeds import torch_stream


def _gaussian_noise(x: torch.Tensor, level: int, stream: torch.Generator) -> torch.Tensor:
    noise = torch.randn(x.shape, generator=stream) * (0.04, 0.08, 0.12, 0.18, 0.26)[level]
    return ((x / 255 + noise).clamp(0, 1) * 255).round().to(torch.uint8)


def _gaussian_blur(x: torch.Tensor, level: int, stream: torch.Generator) -> torch.Tensor:
    return F.gaussian_blur(x, [9, 9], [(0.6, 0.9, 1.2, 1.6, 2.2)[level]] * 2)


def _brightness(x: torch.Tensor, level: int, stream: torch.Generator) -> torch.Tensor:
    return F.adjust_brightness(x, (0.85, 0.7, 0.55, 0.4, 0.25)[level])


def _contrast(x: torch.Tensor, level: int, stream: torch.Generator) -> torch.Tensor:
    return F.adjust_contrast(x, (0.7, 0.5, 0.35, 0.25, 0.15)[level])


def _pixelate(x: torch.Tensor, level: int, stream: torch.Generator) -> torch.Tensor:
    height, width = x.shape[-2:]
    part = (0.7, 0.55, 0.45, 0.35, 0.25)[level]
    small = F.resize(x, [round(height * part), round(width * part)], antialias=True)
    return F.resize(small, [height, width], interpolation=F.InterpolationMode.NEAREST)


def _jpeg(x: torch.Tensor, level: int, stream: torch.Generator) -> torch.Tensor:
    return F.jpeg(x, (50, 30, 20, 12, 7)[level])


CORRUPTIONS: dict[str, Callable[[torch.Tensor, int, torch.Generator], torch.Tensor]] = {
    "gaussian_noise": _gaussian_noise,
    "gaussian_blur": _gaussian_blur,
    "brightness": _brightness,
    "contrast": _contrast,
    "pixelate": _pixelate,
    "jpeg": _jpeg,
}


def corrupt_all(images: np.ndarray, names: list[str], severity: int) -> np.ndarray:
    """Corrupt image i of uint8 [N, H, W, 3] with the corruption names[i]; the noise is fixed by i.

    Raises KeyError for an unknown corruption and ValueError for a severity outside 1 to 5.
    """
    if severity not in range(1, 6):
        raise ValueError(f"severity {severity} is not in 1 to 5")
    out = np.empty_like(images)
    for index, (image, name) in enumerate(zip(images, names, strict=True)):
        x = torch.from_numpy(image.copy()).permute(2, 0, 1)
        x = CORRUPTIONS[name](x, severity - 1, torch_stream(0, "corruption", name, index))
        out[index] = x.permute(1, 2, 0).numpy()
    return out
