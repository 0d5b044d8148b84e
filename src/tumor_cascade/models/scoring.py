"""One network over one volume: batches in, logits or probabilities at the volume's own size out."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tumor_cascade.data.preprocessing import Preprocessing, preprocess_volume, resize_images_to, stack_neighbors

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


def score_slices(scoring: ScoringNetwork, volume: Tensor, has_flip_averaging: bool) -> NDArray[np.float32]:
    """Return the classifier's logits `(Z,)` of a uint8 volume `(Z, 3, H, W)`."""
    wanted = np.arange(len(volume))
    return np.concatenate([out.numpy() for out in _forward(scoring, volume, wanted, has_flip_averaging)])


def score_pixels(
    scoring: ScoringNetwork, volume: Tensor, wanted: NDArray[np.intp], has_flip_averaging: bool
) -> NDArray[np.float32]:
    """Return the segmenter's tumor probabilities `(N, H, W)` of the slices `wanted`, at the volume's own size."""
    size = (volume.shape[-2], volume.shape[-1])
    outputs = [
        torch.sigmoid(resize_images_to(logits, size))[:, 0].numpy()
        for logits in _forward(scoring, volume, wanted, has_flip_averaging)
    ]
    return np.concatenate(outputs) if outputs else np.zeros((0, *size), dtype=np.float32)


def _forward(
    scoring: ScoringNetwork, volume: Tensor, wanted: NDArray[np.intp], has_flip_averaging: bool
) -> list[Tensor]:
    """Return a network's logits for the slices `wanted`, batch by batch, on the CPU; flips averaged as logits."""
    preprocessing, network = scoring.preprocessing, scoring.network
    device = next(network.parameters()).device
    inputs = preprocess_volume(volume, preprocessing)
    outputs = []
    for index in torch.split(torch.from_numpy(wanted), BATCH_SIZE):
        images = inputs[index]
        if preprocessing.has_neighbor_slices:
            num_slices = torch.full_like(index, len(volume))
            images = stack_neighbors(inputs, index, num_slices, index)
        images = images.to(device, memory_format=torch.channels_last)
        logits = network(images)
        if has_flip_averaging:
            mirrored = network(images.flip(-1))
            logits = (logits + (mirrored.flip(-1) if mirrored.ndim == images.ndim else mirrored)) / 2
        outputs.append(logits.float().cpu())
    return outputs
