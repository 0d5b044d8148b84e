"""Several volumes through a cascade at once.

One forward of the gate over all slices, one of the segmenter over those that are wanted; all but the batch is what
`Cascade.predict_volume` does with one volume.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tumor_cascade.data.preprocessing import Preprocessing, preprocess_volume, resize_images_to, stack_neighbors
from tumor_cascade.models.cascade import Cascade, VolumePrediction, average_scores, spread
from tumor_cascade.models.decision import CascadeSettings, decide_slices, measure_entropy, open_gate
from tumor_cascade.models.scoring import BATCH_SIZE, ScoringNetwork, SegmenterScores, soften_maximum

Positions = NDArray[np.intp]


@dataclass(frozen=True)
class Volume:
    """A volume and the numbers it is judged by.

    Attributes:
        images: uint8 `(Z, 3, H, W)`.
        settings: The product's, with thresholds that a request may have changed.
    """

    images: NDArray[np.uint8]
    settings: CascadeSettings


def predict_volumes(cascade: Cascade, volumes: Sequence[Volume]) -> list[VolumePrediction]:
    """Return what the cascade's networks say of each volume; sizes may differ.

    Floats depend on the batch in their last digits, so a mask may differ in pixels within about 1e-4 of its threshold.
    """
    if len(volumes) == 1:
        alone = Cascade(cascade.classifiers, cascade.segmenters, volumes[0].settings)
        return [alone.predict_volume(volumes[0].images)]
    with torch.inference_mode():
        everything = [np.arange(len(volume.images)) for volume in volumes]
        answers = [run_network(scoring, volumes, everything) for scoring in cascade.classifiers]
        logits = [np.mean([one.numpy() for one in per_volume], axis=0) for per_volume in zip(*answers, strict=True)]
        is_open = [open_gate(one, volume.settings) for one, volume in zip(logits, volumes, strict=True)]
        wanted = [np.flatnonzero(one) for one in is_open]
        seen = [score_masks(scoring, volumes, wanted) for scoring in cascade.segmenters]
        return [
            join_answers(cascade, *parts)
            for parts in zip(volumes, logits, is_open, map(average_scores, zip(*seen, strict=True)), strict=True)
        ]


def join_answers(
    cascade: Cascade,
    volume: Volume,
    logits: NDArray[np.float32],
    is_open: NDArray[np.bool_],
    seen: SegmenterScores,
) -> VolumePrediction:
    """Return the prediction of a volume from what the networks say of it."""
    settings, wanted, num_slices = volume.settings, np.flatnonzero(is_open), len(volume.images)
    scores = spread(seen.slice_scores, wanted, num_slices, np.nan)
    decision = decide_slices(logits, scores, settings)
    segmented = spread(seen.mask_probabilities >= settings.mask_threshold, wanted, num_slices, False)
    judged = Cascade(cascade.classifiers, cascade.segmenters, settings)
    return VolumePrediction(
        probabilities=decision.probabilities,
        is_positive=decision.is_positive,
        masks=judged.postprocess(segmented) & decision.is_positive[:, None, None],
        uncertainty=measure_entropy(decision.probabilities),
        gate_is_open=is_open,
        classifier_logits=logits,
        segmenter_scores=scores,
    )


def score_masks(
    scoring: ScoringNetwork, volumes: Sequence[Volume], wanted: Sequence[Positions]
) -> list[SegmenterScores]:
    """Return what a segmenter says of the wanted slices of each volume; of a slice head nothing."""
    answers = []
    for volume, logits in zip(volumes, run_network(scoring, volumes, wanted), strict=True):
        size = (volume.images.shape[-2], volume.images.shape[-1])
        pixels, scores = np.zeros((0, *size), np.float32), np.zeros(0, np.float32)
        if len(logits):
            pixels = torch.sigmoid(resize_images_to(logits, size))[:, 0].numpy()
            scores = soften_maximum(logits).numpy()
        answers.append(SegmenterScores(pixels, scores, None))
    return answers


def run_network(scoring: ScoringNetwork, volumes: Sequence[Volume], wanted: Sequence[Positions]) -> list[Tensor]:
    """Return a network's logits for the wanted slices of each volume, on the CPU; flips averaged as logits."""
    lengths = [len(positions) for positions in wanted]
    if not any(lengths):
        return [torch.zeros(0) for _ in volumes]
    parts = zip(volumes, wanted, strict=True)
    inputs = torch.cat([prepare(scoring.preprocessing, *part) for part in parts if len(part[1])])
    device = next(scoring.network.parameters()).device
    batches = []
    for batch in torch.split(inputs, BATCH_SIZE):
        images = batch.to(device, memory_format=torch.channels_last)
        logits = scoring.network(images)
        if volumes[0].settings.has_flip_averaging:  # the same for all: no request changes it
            mirrored = scoring.network(images.flip(-1))
            logits = (logits + (mirrored.flip(-1) if mirrored.ndim == images.ndim else mirrored)) / 2
        batches.append(logits.float().cpu())
    return list(torch.split(torch.cat(batches), lengths))


def prepare(preprocessing: Preprocessing, volume: Volume, positions: Positions) -> Tensor:
    """Return the network inputs `(N, C, S, S)` of some slices of a volume."""
    inputs = preprocess_volume(torch.from_numpy(np.ascontiguousarray(volume.images)), preprocessing)
    index = torch.from_numpy(positions)
    if not preprocessing.has_neighbor_slices:
        return inputs[index]
    return stack_neighbors(inputs, index, torch.full_like(index, len(inputs)), index)
