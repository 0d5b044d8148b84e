"""One network over one volume: slices in batches in, slice scores and masks at the volume's own size out."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tumor_cascade.data.preprocessing import Preprocessing, preprocess_volume, resize_images_to, stack_neighbors
from tumor_cascade.models.resunet import ResUNet

BATCH_SIZE = 32


@dataclass(frozen=True)
class ScoringNetwork:
    """A trained network with what it must be fed.

    Attributes:
        network: Maps `(N, C, S, S)` to logits, in evaluation mode.
        preprocessing: How a volume becomes its input.
    """

    network: nn.Module
    preprocessing: Preprocessing


@dataclass(frozen=True)
class SegmenterScores:
    """What a segmenter says of N slices.

    Attributes:
        mask_probabilities: float32 `(N, H, W)`, tumor probability of each pixel at the volume's own size.
        slice_scores: float32 `(N,)`, a soft maximum of the mask logits: high where the slice shows tumor.
        head_logits: float32 `(N,)`, of the network's slice head; None if it has none.
    """

    mask_probabilities: NDArray[np.float32]
    slice_scores: NDArray[np.float32]
    head_logits: NDArray[np.float32] | None


def score_slices(scoring: ScoringNetwork, volume: Tensor, has_flip_averaging: bool) -> NDArray[np.float32]:
    """Return the classifier's logits `(Z,)` of a uint8 volume `(Z, 3, H, W)`."""
    outputs = _forward(scoring, volume, np.arange(len(volume)), has_flip_averaging)
    return np.concatenate([logits.numpy() for (logits,) in outputs])


def score_masks(
    scoring: ScoringNetwork, volume: Tensor, wanted: NDArray[np.intp], has_flip_averaging: bool
) -> SegmenterScores:
    """Return what a segmenter says of the slices `wanted` `(N,)` of a uint8 volume `(Z, 3, H, W)`."""
    size = (volume.shape[-2], volume.shape[-1])
    pixels, scores, heads = [np.zeros((0, *size), np.float32)], [np.zeros(0, np.float32)], [np.zeros(0, np.float32)]
    has_head = isinstance(scoring.network, ResUNet) and scoring.network.has_slice_head
    for mask_logits, *head_logits in _forward(scoring, volume, wanted, has_flip_averaging):
        pixels.append(torch.sigmoid(resize_images_to(mask_logits, size))[:, 0].numpy())
        scores.append(soften_maximum(mask_logits).numpy())
        heads += [logits.numpy() for logits in head_logits]
    return SegmenterScores(np.concatenate(pixels), np.concatenate(scores), np.concatenate(heads) if has_head else None)


def soften_maximum(mask_logits: Tensor) -> Tensor:
    """Return the log of the mean of exp(logit) over the pixels of each slice, `(N,)` from `(N, 1, H, W)`.

    A soft maximum: the largest logits rule, and more of them say more. All logits equal to x give x.
    """
    flat = mask_logits.flatten(1)  # (N, H W)
    return torch.logsumexp(flat, dim=1) - math.log(flat.shape[1])


def _forward(
    scoring: ScoringNetwork, volume: Tensor, wanted: NDArray[np.intp], has_flip_averaging: bool
) -> Iterator[tuple[Tensor, ...]]:
    """Yield a network's logits for the slices `wanted`, batch by batch, on the CPU; flips averaged as logits."""
    preprocessing, network = scoring.preprocessing, scoring.network
    device = next(network.parameters()).device
    inputs = preprocess_volume(volume, preprocessing)
    for index in torch.split(torch.from_numpy(wanted), BATCH_SIZE):
        if not len(index):
            continue
        images = inputs[index]
        if preprocessing.has_neighbor_slices:
            num_slices = torch.full_like(index, len(volume))
            images = stack_neighbors(inputs, index, num_slices, index)
        images = images.to(device, memory_format=torch.channels_last)
        outputs = _call(network, images)
        if has_flip_averaging:
            mirrored = _call(network, images.flip(-1))
            outputs = tuple(
                (logits + (other.flip(-1) if other.ndim == images.ndim else other)) / 2
                for logits, other in zip(outputs, mirrored, strict=True)
            )
        yield tuple(logits.float().cpu() for logits in outputs)


def _call(network: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """Return a network's logits: one tensor, or masks and slices of a segmenter with a slice head."""
    if isinstance(network, ResUNet) and network.has_slice_head:
        return network.forward_slices(images)
    return (network(images),)
