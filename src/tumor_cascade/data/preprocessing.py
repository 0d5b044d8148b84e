"""What a network sees of a volume: size, normalisation, neighbouring slices. The same code in training and serving."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

FLAIR = 1  # channel of the sequence that the masks were drawn on
FOREGROUND_LEVEL = 10  # grey level above which a pixel counts as head
MIN_FOREGROUND_PIXELS = 100
MEDIAN_LEVEL, MEDIAN_LIMITS = 0.3, (0.05, 0.95)


@dataclass(frozen=True)
class Preprocessing:
    """How a uint8 volume becomes a network's input; stored beside the weights.

    Attributes:
        input_size_px: Height and width that a network sees.
        normalization: `unit_range` (divide by 255), `slice_zscore` (per slice over all channels),
            `volume_percentile` (per volume and channel, 1st and 99th percentile of the foreground to 0 and 1) or
            `volume_landmarks` (the same, and the median of the foreground to 0.3, linear in between).
        has_neighbor_slices: Whether FLAIR of slices z-1 and z+1 follow as two more channels.
    """

    input_size_px: int
    normalization: str
    has_neighbor_slices: bool

    @property
    def num_channels(self) -> int:
        """Channels of a network's input."""
        return 5 if self.has_neighbor_slices else 3

    @classmethod
    def from_params(cls, params: Any) -> "Preprocessing":
        """Take the three values from anything that has them as attributes."""
        return cls(params.input_size_px, params.normalization, params.has_neighbor_slices)


def preprocess_volume(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Return the network inputs of a volume, neighbouring slices apart.

    Args:
        images: uint8 `(Z, 3, H, W)`, the ordered slices of one patient.
        preprocessing: What the network expects.

    Returns:
        float32 `(Z, 3, S, S)`.
    """
    resized = resize_images(normalize_volume(images, preprocessing.normalization), preprocessing.input_size_px)
    return resized.contiguous()


def normalize_volume(images: Tensor, normalization: str) -> Tensor:
    """Return a uint8 volume `(Z, 3, H, W)` as float32 in the units of a normalisation.

    Constant slices and volumes without foreground map to 0: no division by a vanishing spread.
    """
    values = images.float()
    if normalization == "unit_range":
        return values / 255
    if normalization == "slice_zscore":
        mean = values.mean(dim=(1, 2, 3), keepdim=True)
        std = values.std(dim=(1, 2, 3), keepdim=True, unbiased=False)
        return torch.where(std < 1, 0.0, (values - mean) / std.clamp_min(1))
    if normalization in ("volume_percentile", "volume_landmarks"):
        low, median, high = (value[None, :, None, None] for value in measure_quantiles(images, (0.01, 0.5, 0.99)))
        span = high - low
        scaled = torch.where(span < 1, 0.0, ((values - low) / span.clamp_min(1)).clamp(0, 1))
        if normalization == "volume_percentile":
            return scaled
        return move_median(scaled, (median - low) / span.clamp_min(1))
    raise ValueError(f"unknown normalization {normalization!r}")


def measure_quantiles(images: Tensor, shares: Sequence[float]) -> list[Tensor]:
    """Return quantiles of the foreground per channel of a uint8 volume, a float32 `(3,)` for each share.

    The foreground are pixels above 10 grey levels in that channel, over all slices; all are 0 where there are fewer
    than 100 of them. Taken from a 256-bin histogram, so exact for uint8 and cheap.
    """
    levels = torch.zeros(len(shares), images.shape[1])
    for number, channel in enumerate(images.unbind(dim=1)):
        counts = torch.bincount(channel.flatten().int(), minlength=256).double()
        counts[: FOREGROUND_LEVEL + 1] = 0
        if counts.sum() >= MIN_FOREGROUND_PIXELS:
            below = counts.cumsum(0) / counts.sum()
            levels[:, number] = torch.tensor([float((below >= share).int().argmax()) for share in shares])
    return list(levels)


def move_median(values: Tensor, median: Tensor) -> Tensor:
    """Return values in 0 to 1 with their median at 0.3: linear below and above it.

    Scanners differ in how bright tissue is between its darkest and its brightest parts. The landmarks are those of
    Nyul and Udupa, "On standardizing the MR image intensity scale", Magnetic Resonance in Medicine 42 (1999), here
    three: without a training set, and with room for a bright tumor above the median.

    Args:
        values: float `(Z, C, H, W)`.
        median: Where the median of each channel is now, broadcastable; taken as 0.05 to 0.95 at most.
    """
    median = median.clamp(*MEDIAN_LIMITS)
    below = values * (MEDIAN_LEVEL / median)
    above = MEDIAN_LEVEL + (values - median) * ((1 - MEDIAN_LEVEL) / (1 - median))
    return torch.where(values < median, below, above)


def resize_images(images: Tensor, size_px: int) -> Tensor:
    """Return float images `(N, C, H, W)` at `(N, C, size, size)`: antialiased bilinear; unchanged where sizes agree."""
    return resize_images_to(images, (size_px, size_px))


def resize_images_to(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Return float images `(N, C, H, W)` at `(N, C, *size)`: antialiased bilinear; unchanged where sizes agree."""
    if tuple(images.shape[-2:]) == size:
        return images
    return functional.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)


def resize_masks(masks: Tensor, size_px: int) -> Tensor:
    """Return masks {0, 1} `(N, H, W)` as float32 {0, 1} `(N, 1, size, size)`: a pixel is tumor where half of it was."""
    return (resize_images(masks[:, None].float(), size_px) >= 0.5).float()


def stack_neighbors(images: Tensor, index: Tensor, num_slices: Tensor, position: Tensor) -> Tensor:
    """Return images of slices with FLAIR of the slice before and after as channels 3 and 4.

    Args:
        images: float `(M, 3, S, S)`, all slices of all volumes, one volume after another.
        index: int64 `(N,)`, rows of `images` that are wanted.
        num_slices: int64 `(N,)`, slices of the volume that each belongs to.
        position: int64 `(N,)`, position of each in its volume.

    Returns:
        float `(N, 5, S, S)`; at the ends of a volume a slice is its own neighbour.
    """
    before = index - (position > 0).long()
    after = index + (position < num_slices - 1).long()
    return torch.cat([images[index], images[before, FLAIR : FLAIR + 1], images[after, FLAIR : FLAIR + 1]], dim=1)
