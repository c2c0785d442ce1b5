"""ResNets as image towers without a text tower: ResNet-26 for small images and torchvision's ResNet-50.

B batch, H x W pixels, D features.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
import torchvision
from torch import nn

GROUPS = 8  # of every group norm
WIDTHS, UNITS = (16, 32, 64), 4  # of the three blocks; 3 x 4 units of two convolutions, the first one and fc: 26 layers


class Unit(nn.Module):
    """Two convolutions, each behind norm and ReLU, beside a shortcut without parameters.

    Where the width doubles, the shortcut averages 2 x 2 pixels and pads the new channels with zeros.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stride = outputs // inputs
        self.bn1 = nn.GroupNorm(GROUPS, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, self.stride, padding=1, bias=False)
        self.bn2 = nn.GroupNorm(GROUPS, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, inputs, H, W] to [B, outputs, H / stride, W / stride]."""
        y = self.conv1(F.relu(self.bn1(x)))
        y = self.conv2(F.relu(self.bn2(y)))
        if self.stride > 1:
            x = F.pad(F.avg_pool2d(x, self.stride), (0, 0, 0, 0, 0, y.shape[1] - x.shape[1]))
        return x + y


class ResNet26(nn.Module):
    """Pre-activation ResNet-26 with group norms: sizes, names of tensors and start are those of MEMO's release.

    (The fc is the classifier's head here, and the last pooling takes all that is left, so 4 must divide H and W, no
    more.)
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False)
        before = (WIDTHS[0], *WIDTHS[:-1])
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(Unit(inputs, outputs), *(Unit(outputs, outputs) for _ in range(UNITS - 1)))
            for inputs, outputs in zip(before, WIDTHS, strict=True)
        )
        self.bn = nn.GroupNorm(GROUPS, WIDTHS[-1])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features [B, 64] of preprocessed images [B, 3, H, W]."""
        x = self.layer3(self.layer2(self.layer1(self.conv1(images))))
        return F.relu(self.bn(x)).mean((2, 3))


def resnet50() -> nn.Module:
    """torchvision's ResNet-50 with random weights, giving features [B, 2048]."""
    tower = torchvision.models.resnet50(weights=None)
    tower.fc = nn.Identity()
    return tower


@dataclass(frozen=True)
class Tower:
    """What a model folder says of a tower, and how to build it with random weights.

    Attributes:
        make: draws from torch's global generator, as torchvision's constructors do; fork it and set a seed.
        width: D.
        size: side of the input images, unless the config names another.
        weights: torchvision's published weights; None where there are none.
    """

    make: Callable[[], nn.Module]
    width: int
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    weights: type[torchvision.models.WeightsEnum] | None = None


TOWERS = {
    "resnet26": Tower(ResNet26, 64, 32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "resnet50": Tower(
        resnet50, 2048, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), torchvision.models.ResNet50_Weights
    ),
}
