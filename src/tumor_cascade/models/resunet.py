"""ResUNet: a U-Net whose encoder and decoder are made of residual blocks.

Source: the residual block and the five levels 16-32-64-128-256 follow the widely copied ResUNet for the LGG data set;
U-Net: Ronneberger et al. 2015 (https://arxiv.org/abs/1505.04597); residual learning: He et al. 2015
(https://arxiv.org/abs/1512.03385).
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


class Stem(nn.Sequential):
    """Two 3x3 convolutions, each with ReLU and batch norm, at full resolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            nn.ReLU(),
            nn.BatchNorm2d(out_channels),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
            nn.ReLU(),
            nn.BatchNorm2d(out_channels),
        )


class ResidualBlock(nn.Module):
    """[1x1 conv, BN, ReLU, 3x3 conv, BN] + [1x1 conv, BN], summed, then ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels))

    def forward(self, features: Tensor) -> Tensor:
        """Map `(N, in, H, W)` to `(N, out, H, W)`."""
        return torch.relu(self.main(features) + self.shortcut(features))


class ResUNet(nn.Module):
    """Residual encoder and decoder with skip connections; one logit per pixel.

    Args:
        in_channels: Image channels.
        widths: Channels per level from full resolution down; their number is the depth. Height and width of an input
            must be multiples of `2 ** (len(widths) - 1)`.
    """

    def __init__(self, in_channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.stem = Stem(in_channels, widths[0])
        pairs = list(pairwise(widths))
        self.encoder = nn.ModuleList(ResidualBlock(fine, coarse) for fine, coarse in pairs)
        self.decoder = nn.ModuleList(ResidualBlock(coarse + fine, fine) for fine, coarse in reversed(pairs))
        self.head = nn.Conv2d(widths[0], 1, 1)
        self.apply(_initialize)

    def forward(self, images: Tensor) -> Tensor:
        """Map images `(N, C, H, W)` to logits `(N, 1, H, W)`."""
        features = self.stem(images)
        skips = []
        for block in self.encoder:
            skips.append(features)
            features = block(functional.max_pool2d(features, 2))
        for block in self.decoder:
            features = functional.interpolate(features, scale_factor=2.0, mode="nearest")
            features = block(torch.cat([features, skips.pop()], dim=1))
        logits: Tensor = self.head(features)
        return logits  # (N, 1, H, W)


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
