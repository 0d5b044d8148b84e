"""What a cascade makes of slice scores: which slices it segments, how likely each shows tumor, which are positive.

Two stages: the gate reads the classifier alone and saves the segmenter's work; where it is open, the decision reads
both networks. All here are numbers of one volume, so that they are the same when thresholds are chosen and in use.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.special import expit

Floats = NDArray[np.floating]
MIN_PROBABILITY = 1e-6


@dataclass(frozen=True)
class CascadeSettings:
    """Numbers chosen on validation patients; part of the product.

    Attributes:
        smoothing_slices: Standard deviation of the Gaussian that smooths slice scores along the volume; 0: off.
        temperature: Divides classifier logits before the sigmoid.
        gate_threshold: A slice is segmented if its calibrated probability is at least this; 0: no gate.
        classifier_weight: Of the classifier's logit in the logit of a segmented slice.
        segmenter_weight: Of the segmenter's score in it.
        bias: Added to both.
        decision_threshold: A segmented slice is positive if its probability is at least this.
        mask_threshold: A pixel is tumor if the segmenter's probability is at least this.
        has_flip_averaging: Average over left-right flips.
        min_component_voxels: Smaller 26-connected components are removed.
        has_only_largest_component: Keep the largest component alone.
    """

    smoothing_slices: float
    temperature: float
    gate_threshold: float
    classifier_weight: float
    segmenter_weight: float
    bias: float
    decision_threshold: float
    mask_threshold: float
    has_flip_averaging: bool
    min_component_voxels: int
    has_only_largest_component: bool

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "CascadeSettings":
        """Take plain values; unknown or missing keys are a TypeError."""
        return cls(**values)


@dataclass(frozen=True)
class SliceDecision:
    """What is said of the slices of a volume.

    Attributes:
        gate_is_open: bool `(Z,)`, whether a slice is segmented.
        probabilities: float32 `(Z,)`, that a slice shows tumor: of both networks where the gate is open.
        is_positive: bool `(Z,)`, never where the gate is closed.
    """

    gate_is_open: NDArray[np.bool_]
    probabilities: NDArray[np.float32]
    is_positive: NDArray[np.bool_]


def open_gate(logits: Floats, settings: CascadeSettings) -> NDArray[np.bool_]:
    """Return which slices of a volume are segmented, `(Z,)`, from the classifier's logits `(Z,)`."""
    smoothed = smooth_scores(logits, settings.smoothing_slices)
    return calibrate_logits(smoothed, settings.temperature) >= settings.gate_threshold


def decide_slices(logits: Floats, scores: Floats, settings: CascadeSettings) -> SliceDecision:
    """Return the decision on each slice of a volume.

    Args:
        logits: `(Z,)`, the classifier's.
        scores: `(Z,)`, the segmenter's slice scores; those of slices behind a closed gate have no say.
        settings: Of the cascade.
    """
    is_open = open_gate(logits, settings)
    smoothed = smooth_scores(logits, settings.smoothing_slices)
    seen = smooth_scores(np.where(is_open, scores, np.nan), settings.smoothing_slices)
    joined = settings.classifier_weight * smoothed + settings.segmenter_weight * np.where(is_open, seen, 0)
    calibrated = calibrate_logits(smoothed, settings.temperature)
    probabilities = np.where(is_open, expit(joined + settings.bias), calibrated).astype(np.float32)
    return SliceDecision(is_open, probabilities, is_open & (probabilities >= settings.decision_threshold))


def smooth_scores(scores: Floats, width: float) -> NDArray[np.float64]:
    """Return a volume's scores `(Z,)` averaged under a Gaussian along its slices; NaN has no say and stays NaN.

    Args:
        scores: `(Z,)`, NaN where unknown.
        width: Standard deviation in slices; 0 leaves the scores as they are.
    """
    values = np.asarray(scores, dtype=np.float64)
    if width == 0:
        return values
    is_known = ~np.isnan(values)
    # Divided by the weights inside the volume and known, so that no value from outside is made up.
    totals = gaussian_filter1d(np.where(is_known, values, 0.0), width, mode="constant")
    weights = gaussian_filter1d(is_known.astype(np.float64), width, mode="constant")
    smoothed = np.full_like(values, np.nan)
    np.divide(totals, weights, out=smoothed, where=is_known)
    return smoothed


def calibrate_logits(logits: Floats, temperature: float) -> NDArray[np.float32]:
    """Return calibrated probabilities, elementwise."""
    probabilities: NDArray[np.float32] = expit(np.asarray(logits) / temperature).astype(np.float32)
    return probabilities


def measure_entropy(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the entropy in bits of tumor against no tumor, elementwise: 0 where certain, 1 at 0.5."""
    p = np.clip(probabilities.astype(np.float64), MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    return (-(p * np.log2(p) + (1 - p) * np.log2(1 - p))).astype(np.float32)
