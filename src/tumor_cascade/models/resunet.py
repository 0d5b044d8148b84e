"""ResUNet: a U-Net whose decoder, and in the study's form its encoder, are made of residual blocks.

Source: the residual block and the five levels 16-32-64-128-256 follow the widely copied ResUNet for the LGG data set;
U-Net: Ronneberger et al. 2015 (https://arxiv.org/abs/1505.04597); residual learning: He et al. 2015
(https://arxiv.org/abs/1512.03385).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from tumor_cascade.models.encoders import build_encoder


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


class ResidualEncoder(nn.ModuleList):
    """Residual blocks behind max pooling, one per level below full resolution."""

    def forward(self, features: Tensor) -> list[Tensor]:
        """Map the stem's features `(N, F, H, W)` to levels of features, from fine to coarse."""
        levels = []
        for block in self:
            features = block(functional.max_pool2d(features, 2))
            levels.append(features)
        return levels


class TrainingOutputs(NamedTuple):
    """What a training learns from.

    Attributes:
        masks: Logits `(N, 1, H, W)`.
        slices: Logits `(N,)`, or None without a slice head.
        coarse_masks: Logits `(N, 1, H, W)` of coarser decoder levels; empty without deep supervision.
    """

    masks: Tensor
    slices: Tensor | None
    coarse_masks: list[Tensor]


class ResUNet(nn.Module):
    """Residual decoder with skip connections on an encoder; one logit per pixel.

    Args:
        in_channels: Image channels.
        widths: Channels of the decoder per level, from full resolution down. With encoder `residual` they are the
            encoder's too, and height and width of an input are multiples of `2 ** (len(widths) - 1)`; the others have
            five levels below full resolution, so five widths, and take multiples of 32.
        encoder: `residual`: the study's; else one that ImageNet weights fit, beside the stem at full resolution.
        has_slice_head: Whether the coarsest features also give one logit per slice: does it show tumor?
        has_deep_supervision: Whether the two decoder levels below full resolution give masks, to learn from alone.
    """

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int],
        encoder: Literal["residual", "efficientnet_lite0", "resnet50"],
        has_slice_head: bool,
        has_deep_supervision: bool,
    ) -> None:
        super().__init__()
        self.has_slice_head, self.is_residual = has_slice_head, encoder == "residual"
        self.stem = Stem(in_channels, widths[0])
        if encoder == "residual":
            self.encoder: nn.Module = ResidualEncoder(ResidualBlock(fine, coarse) for fine, coarse in pairwise(widths))
            channels, decoder_widths = tuple(widths), tuple(widths[:-1])
        else:
            pretrainable = build_encoder(encoder, in_channels)
            self.encoder, channels, decoder_widths = pretrainable, (widths[0], *pretrainable.channels), tuple(widths)
        inputs = (*decoder_widths[1:], channels[-1])  # what each level gets from the one below
        self.decoder = nn.ModuleList(
            ResidualBlock(below + skip, width)
            for below, skip, width in reversed(list(zip(inputs, channels[:-1], decoder_widths, strict=True)))
        )
        self.head = nn.Conv2d(widths[0], 1, 1)
        for part in (self.stem, *([self.encoder] if self.is_residual else []), self.decoder, self.head):
            part.apply(_initialize)
        # Made last, so that the rest starts from the same weights with and without them.
        if has_slice_head:
            self.slice_head = nn.Linear(2 * channels[-1], 1)
        coarse_widths = decoder_widths[1:3] if has_deep_supervision else ()
        self.coarse_heads = nn.ModuleList(nn.Conv2d(width, 1, 1) for width in coarse_widths).apply(_initialize)

    def forward(self, images: Tensor) -> Tensor:
        """Map images `(N, C, H, W)` to logits `(N, 1, H, W)`."""
        logits: Tensor = self.head(self._decode(self._encode(images))[-1])
        return logits  # (N, 1, H, W)

    def forward_slices(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map images to logits of masks `(N, 1, H, W)` and of slices `(N,)`; only with a slice head."""
        levels = self._encode(images)
        return self.head(self._decode(levels)[-1]), self._score(levels[-1])

    def forward_training(self, images: Tensor) -> TrainingOutputs:
        """Map images `(N, C, H, W)` to all that a training learns from."""
        levels = self._encode(images)
        *coarser, finest = self._decode(levels)
        coarse_masks = [
            functional.interpolate(head(features), size=images.shape[-2:], mode="bilinear", align_corners=False)
            for head, features in zip(self.coarse_heads, reversed(coarser), strict=False)
        ]
        return TrainingOutputs(
            self.head(finest), self._score(levels[-1]) if self.has_slice_head else None, coarse_masks
        )

    def _encode(self, images: Tensor) -> list[Tensor]:
        """Return features from full resolution down."""
        features = self.stem(images)
        return [features, *self.encoder(features if self.is_residual else images)]

    def _decode(self, levels: list[Tensor]) -> list[Tensor]:
        """Return the decoder's features, from coarse to fine."""
        decoded, features = [], levels[-1]
        for block, skip in zip(self.decoder, reversed(levels[:-1]), strict=True):
            features = functional.interpolate(features, scale_factor=2.0, mode="nearest")
            features = block(torch.cat([features, skip], dim=1))
            decoded.append(features)
        return decoded

    def _score(self, features: Tensor) -> Tensor:
        pooled = torch.cat([features.mean((2, 3)), features.amax((2, 3))], dim=1)  # (N, 2 F)
        logits: Tensor = self.slice_head(pooled)
        return logits.squeeze(1)  # (N,)


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
