"""What both stages of a cascade cost: time per slice on the machine at hand."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tumor_cascade.models.cascade import Cascade
from tumor_cascade.models.scoring import score_masks, score_slices


@dataclass(frozen=True)
class Costs:
    """Time per slice, in ms."""

    classifier_ms: float
    segmenter_ms: float


@torch.inference_mode()
def time_networks(cascade: Cascade, images: NDArray[np.uint8], num_repeats: int) -> Costs:
    """Return the time that a cascade's classifiers and segmenters take per slice, each the fastest of some runs.

    Args:
        cascade: On the device where it is to be timed.
        images: uint8 `(Z, 3, H, W)`, a volume.
        num_repeats: Runs; one more goes before them to warm up.
    """
    volume, has_flips = torch.from_numpy(np.ascontiguousarray(images)), cascade.settings.has_flip_averaging
    every = np.arange(len(images))
    seconds: dict[str, list[float]] = {"classifier": [], "segmenter": []}
    for _ in range(num_repeats + 1):
        start = time.perf_counter()
        for scoring in cascade.classifiers:
            score_slices(scoring, volume, has_flips)
        middle = time.perf_counter()
        for scoring in cascade.segmenters:
            score_masks(scoring, volume, every, has_flips)
        seconds["classifier"].append(middle - start)
        seconds["segmenter"].append(time.perf_counter() - middle)
    fastest = {role: 1000 * min(runs[1:]) / len(images) for role, runs in seconds.items()}
    return Costs(fastest["classifier"], fastest["segmenter"])
