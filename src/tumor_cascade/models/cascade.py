"""The cascade: classifiers say which slices show tumor, segmenters say where; one volume in, one answer out."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit

from tumor_cascade.models.scoring import ScoringNetwork, score_pixels, score_slices

MIN_PROBABILITY = 1e-6


@dataclass(frozen=True)
class CascadeSettings:
    """Numbers chosen on validation patients; part of the product.

    Attributes:
        temperature: Divides classifier logits before the sigmoid.
        gate_threshold: A slice is segmented if its calibrated probability is at least this; 0: no gate.
        mask_threshold: A pixel is tumor if the segmenter's probability is at least this.
        has_flip_averaging: Average over left-right flips.
        min_component_voxels: Smaller 26-connected components are removed.
        has_only_largest_component: Keep the largest component alone.
    """

    temperature: float
    gate_threshold: float
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
class VolumePrediction:
    """What the cascade says of one volume of Z slices, at the volume's own size.

    Attributes:
        probabilities: float32 `(Z,)`, calibrated probability that a slice shows tumor.
        is_positive: bool `(Z,)`, the gate's decision.
        masks: bool `(Z, H, W)`, empty where the gate is closed.
        uncertainty: float32 `(Z,)` in [0, 1]: entropy of the slice probability, in bits.
        mask_probabilities: float32 `(Z, H, W)`, of the segmenter for every slice; None unless asked for.
        segmenter_masks: bool `(Z, H, W)`, as if there were no gate; None unless asked for.
    """

    probabilities: NDArray[np.float32]
    is_positive: NDArray[np.bool_]
    masks: NDArray[np.bool_]
    uncertainty: NDArray[np.float32]
    mask_probabilities: NDArray[np.float32] | None = None
    segmenter_masks: NDArray[np.bool_] | None = None


class Cascade:
    """n >= 1 networks per role and the numbers that join them. Several networks of a role are averaged.

    Args:
        classifiers: At least one.
        segmenters: At least one.
        settings: Thresholds, calibration, post-processing.
    """

    def __init__(
        self, classifiers: Sequence[ScoringNetwork], segmenters: Sequence[ScoringNetwork], settings: CascadeSettings
    ) -> None:
        if not classifiers or not segmenters:
            raise ValueError("a cascade needs at least one network per role")
        self.classifiers, self.segmenters, self.settings = list(classifiers), list(segmenters), settings

    def to(self, device: torch.device) -> "Cascade":
        """Move all networks to a device; return self."""
        for scoring in (*self.classifiers, *self.segmenters):
            scoring.network.to(device)
        return self

    @torch.inference_mode()
    def predict_volume(self, images: NDArray[np.uint8], *, is_every_slice_segmented: bool = False) -> VolumePrediction:
        """Run the cascade over the ordered slices of one patient; a lone slice is a volume of one.

        Args:
            images: uint8 `(Z, 3, H, W)`: pre, FLAIR, post.
            is_every_slice_segmented: Segment slices behind a closed gate too, to judge the segmenter alone.
        """
        settings, volume = self.settings, torch.from_numpy(np.ascontiguousarray(images))
        logits = np.mean([score_slices(net, volume, settings.has_flip_averaging) for net in self.classifiers], axis=0)
        probabilities = calibrate_logits(logits, settings.temperature)
        is_positive = probabilities >= settings.gate_threshold
        wanted = np.flatnonzero(np.ones_like(is_positive) if is_every_slice_segmented else is_positive)
        mask_probabilities = np.zeros((len(images), *images.shape[2:]), dtype=np.float32)
        for net in self.segmenters:
            mask_probabilities[wanted] += score_pixels(net, volume, wanted, settings.has_flip_averaging)
        mask_probabilities /= len(self.segmenters)
        segmented = mask_probabilities >= settings.mask_threshold
        masks = self._postprocess(segmented & is_positive[:, None, None])
        uncertainty = measure_entropy(probabilities)
        if not is_every_slice_segmented:
            return VolumePrediction(probabilities, is_positive, masks, uncertainty)
        alone = self._postprocess(segmented)
        return VolumePrediction(probabilities, is_positive, masks, uncertainty, mask_probabilities, alone)

    def cut(self, prediction: VolumePrediction, mask_threshold: float) -> NDArray[np.bool_]:
        """Return the cascade's masks at another threshold, from a prediction of every slice."""
        assert prediction.mask_probabilities is not None
        return self._postprocess(
            (prediction.mask_probabilities >= mask_threshold) & prediction.is_positive[:, None, None]
        )

    def _postprocess(self, masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return remove_components(masks, self.settings.min_component_voxels, self.settings.has_only_largest_component)


def calibrate_logits(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Return calibrated probabilities, elementwise.

    The gate threshold is one of these numbers, so whoever compares with it has to take them from here, to the last bit.
    """
    probabilities: NDArray[np.float32] = expit(logits / temperature).astype(np.float32)
    return probabilities


def remove_components(masks: NDArray[np.bool_], min_voxels: int, has_only_largest: bool) -> NDArray[np.bool_]:
    """Return a volume's masks `(Z, H, W)` without small 26-connected components, or with the largest alone."""
    if min_voxels <= 1 and not has_only_largest:
        return masks
    labels, num = ndimage.label(masks, structure=np.ones((3, 3, 3)))
    if num == 0:
        return masks
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    is_kept = sizes >= min_voxels
    is_kept[0] = False
    if has_only_largest:
        is_kept &= np.arange(len(sizes)) == sizes.argmax()
    kept: NDArray[np.bool_] = is_kept[labels]
    return kept


def measure_entropy(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the entropy in bits of tumor against no tumor, elementwise: 0 where certain, 1 at 0.5."""
    p = np.clip(probabilities.astype(np.float64), MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    return (-(p * np.log2(p) + (1 - p) * np.log2(1 - p))).astype(np.float32)
