"""The cascade: classifiers say which slices to look at, segmenters where the tumor is, both whether there is one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from tumor_cascade.models.decision import CascadeSettings, decide_slices, measure_entropy, open_gate
from tumor_cascade.models.scoring import ScoringNetwork, SegmenterScores, score_masks, score_slices


@dataclass(frozen=True)
class VolumePrediction:
    """What the cascade says of one volume of Z slices, at the volume's own size.

    Attributes:
        probabilities: float32 `(Z,)`, that a slice shows tumor, by all networks that have seen it.
        is_positive: bool `(Z,)`, the decision.
        masks: bool `(Z, H, W)`, empty where the slice is not positive.
        uncertainty: float32 `(Z,)` in [0, 1]: entropy of the slice probability, in bits.
        gate_is_open: bool `(Z,)`, whether the slice was worth segmenting.
        classifier_logits: float32 `(Z,)`, neither smoothed nor calibrated.
        segmenter_scores: float32 `(Z,)`, see `scoring.score_masks`; NaN where not segmented.
        slice_head_logits: float32 `(Z,)`, NaN where not segmented; None unless all segmenters have a slice head.
        mask_probabilities: float32 `(Z, H, W)`, of the segmenter for every slice; None unless asked for.
        segmenter_masks: bool `(Z, H, W)`, of the segmenter alone, without gate and decision; None unless asked for.
    """

    probabilities: NDArray[np.float32]
    is_positive: NDArray[np.bool_]
    masks: NDArray[np.bool_]
    uncertainty: NDArray[np.float32]
    gate_is_open: NDArray[np.bool_]
    classifier_logits: NDArray[np.float32]
    segmenter_scores: NDArray[np.float32]
    slice_head_logits: NDArray[np.float32] | None = None
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
        is_open = open_gate(logits, settings)
        wanted = np.flatnonzero(np.ones_like(is_open) if is_every_slice_segmented else is_open)
        answers = [score_masks(net, volume, wanted, settings.has_flip_averaging) for net in self.segmenters]
        seen = average_scores(answers)
        scores = spread(seen.slice_scores, wanted, len(images), np.nan)
        heads = None if seen.head_logits is None else spread(seen.head_logits, wanted, len(images), np.nan)
        decision = decide_slices(logits, scores, settings)
        segmented = spread(seen.mask_probabilities >= settings.mask_threshold, wanted, len(images), False)
        masks = self.postprocess(segmented & is_open[:, None, None]) & decision.is_positive[:, None, None]
        return VolumePrediction(
            probabilities=decision.probabilities,
            is_positive=decision.is_positive,
            masks=masks,
            uncertainty=measure_entropy(decision.probabilities),
            gate_is_open=is_open,
            classifier_logits=logits,
            segmenter_scores=scores,
            slice_head_logits=heads,
            mask_probabilities=seen.mask_probabilities if is_every_slice_segmented else None,
            segmenter_masks=self.postprocess(segmented) if is_every_slice_segmented else None,
        )

    def postprocess(self, masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return a volume's masks `(Z, H, W)` after the settings' post-processing."""
        return remove_components(masks, self.settings.min_component_voxels, self.settings.has_only_largest_component)


def average_scores(answers: Sequence[SegmenterScores]) -> SegmenterScores:
    """Return the mean of what several segmenters say of the same slices."""
    heads = [answer.head_logits for answer in answers if answer.head_logits is not None]
    total = answers[0].mask_probabilities  # added up in place: these are by far the largest arrays here
    for answer in answers[1:]:
        total += answer.mask_probabilities
    total /= len(answers)
    return SegmenterScores(
        mask_probabilities=total,
        slice_scores=np.mean([answer.slice_scores for answer in answers], axis=0),
        head_logits=np.mean(heads, axis=0) if len(heads) == len(answers) else None,
    )


def spread(values: NDArray[Any], wanted: NDArray[np.intp], num_slices: int, fill: float) -> NDArray[Any]:
    """Return the values `(N, ...)` of the slices `wanted` at their places in a volume `(Z, ...)`, the rest filled."""
    whole = np.full((num_slices, *values.shape[1:]), fill, dtype=values.dtype)
    whole[wanted] = values
    return whole


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
