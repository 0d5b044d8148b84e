"""What networks say of validation patients, slice by slice: the table that all numbers of a cascade are chosen from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tumor_cascade.data.volumes import Volume
from tumor_cascade.evaluation.kept_masks import KeptMasks
from tumor_cascade.evaluation.statistics import Floats
from tumor_cascade.models.cascade import Cascade
from tumor_cascade.models.decision import CascadeSettings, decide_slices, smooth_scores

VOLUME_KEY = ["fold", "patient_id"]
IDENTITY = ["patient_id", "institution", "slice_index", "fold", "is_scored"]


@dataclass(frozen=True)
class ValidationScores:
    """What each fold's networks say of its own validation patients, slice by slice, without a gate.

    Attributes:
        slices: A row per slice of whole volumes, in order: `patient_id`, `institution`, `slice_index`, `fold`,
            `is_scored` (False where a split by slice has it in training), `has_tumor`, `tumor_px`, `classifier_logit`,
            `segmenter_score`, and `slice_head_logit` where the segmenters have a slice head.
        px: int `(S, T)`, pixels marked at each candidate of the mask threshold, after post-processing.
        hit_px: int `(S, T)`, those of them that are tumor.
    """

    slices: pd.DataFrame
    px: NDArray[np.int64]
    hit_px: NDArray[np.int64]

    def select(self, is_wanted: NDArray[np.bool_]) -> "ValidationScores":
        """Return some of the rows."""
        return ValidationScores(self.slices[is_wanted], self.px[is_wanted], self.hit_px[is_wanted])

    def count_masks(self, candidate: int) -> pd.DataFrame:
        """Return the table with `segmenter_px` and `segmenter_hit_px` at one candidate of the mask threshold."""
        return self.slices.assign(segmenter_px=self.px[:, candidate], segmenter_hit_px=self.hit_px[:, candidate])

    def measure_dice(self) -> Floats:
        """Return the volume Dice of the scored slices at each candidate, `(P, T)`, NaN for a patient without tumor."""
        is_scored = self.slices["is_scored"].to_numpy(bool)
        tables = (self.count_masks(candidate)[is_scored] for candidate in range(self.px.shape[1]))
        everything = np.ones(is_scored.sum(), dtype=bool)
        return np.column_stack([KeptMasks.from_table(table).measure_dice(everything) for table in tables])


def score_volume(
    cascade: Cascade, rows: pd.DataFrame, volume: Volume, mask_thresholds: Sequence[float]
) -> ValidationScores:
    """Return what a cascade's networks say of the slices of one volume with masks, whatever its gate.

    Args:
        cascade: Of one fold; its thresholds have no say.
        rows: Manifest rows of the volume with `fold` and `is_scored`.
        volume: The volume.
        mask_thresholds: Candidates.
    """
    assert volume.masks is not None
    truth, axes = volume.masks.astype(bool), (1, 2)
    tumor_px = truth.sum(axis=axes)
    prediction = cascade.predict_volume(volume.images, is_every_slice_segmented=True)
    assert prediction.mask_probabilities is not None
    masks = [cascade.postprocess(prediction.mask_probabilities >= value) for value in mask_thresholds]
    table = rows[IDENTITY].assign(
        has_tumor=tumor_px > 0,
        tumor_px=tumor_px,
        classifier_logit=prediction.classifier_logits,
        segmenter_score=prediction.segmenter_scores,
    )
    if prediction.slice_head_logits is not None:
        table["slice_head_logit"] = prediction.slice_head_logits
    px, hit_px = (np.stack([m.sum(axis=axes) for m in found], axis=1) for found in (masks, [m & truth for m in masks]))
    return ValidationScores(table, px, hit_px)  # (Z, T)


def decide_table(slices: pd.DataFrame, settings: CascadeSettings) -> pd.DataFrame:
    """Return the table with the cascade's `gate_is_open`, `probability` and `is_positive`, volume by volume."""
    parts = []
    for _, rows in slices.groupby(VOLUME_KEY, sort=False):
        logits, scores = (rows[name].to_numpy() for name in ("classifier_logit", "segmenter_score"))
        decision = decide_slices(logits, scores, settings)
        parts.append(
            rows.assign(
                gate_is_open=decision.gate_is_open,
                probability=decision.probabilities,
                is_positive=decision.is_positive,
            )
        )
    return pd.concat(parts).loc[slices.index]


def smooth_volumes(slices: pd.DataFrame, column: str, width: float) -> Floats:
    """Return a column's values `(S,)` smoothed along each volume."""
    groups = slices.groupby(VOLUME_KEY, sort=False)[column]
    smoothed: Floats = groups.transform(lambda values: smooth_scores(values.to_numpy(), width)).to_numpy(float)
    return smoothed
