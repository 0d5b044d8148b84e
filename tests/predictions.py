"""Volumes and predictions drawn by hand, and a stand-in for a cascade that gives them back."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logit

from tumor_cascade.data.volumes import Volume
from tumor_cascade.evaluation.cohort import Evaluation, evaluate_volumes
from tumor_cascade.models.cascade import VolumePrediction
from tumor_cascade.params import EvaluateCascadeParams

SIZE_PX = 64
GATE_THRESHOLD, DECISION_THRESHOLD = 0.25, 0.5
PARAMS = EvaluateCascadeParams(
    partition="test",
    num_bootstrap=200,
    confidence=0.95,
    seed=1,
    surface_tolerances_px=[1.0, 2.0],
    area_strata_px=[100, 500],
    min_lesion_voxels=10,
    min_lesion_overlap=0.1,
    num_example_slices=6,
)


def draw_square(side: int, top: int = 8, left: int = 8) -> NDArray[np.bool_]:
    """Return a mask `(64, 64)` with one square; side 0 leaves it empty."""
    mask = np.zeros((SIZE_PX, SIZE_PX), dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


def draw_squares(sides: Sequence[int], top: int = 8, left: int = 8) -> NDArray[np.bool_]:
    """Return masks `(Z, 64, 64)` with a square in each slice."""
    return np.stack([draw_square(side, top, left) for side in sides])


def make_prediction(probabilities: Sequence[float], segmenter_masks: NDArray[np.bool_]) -> VolumePrediction:
    """Return what a cascade with these parts says: slices below 0.5 are left empty, below 0.25 unsegmented."""
    scores = np.array(probabilities, dtype=np.float32)
    is_positive = scores >= DECISION_THRESHOLD
    return VolumePrediction(
        probabilities=scores,
        is_positive=is_positive,
        masks=segmenter_masks & is_positive[:, None, None],
        uncertainty=np.zeros_like(scores),
        gate_is_open=scores >= GATE_THRESHOLD,
        classifier_logits=logit(scores),
        segmenter_scores=segmenter_masks.sum(axis=(1, 2)).astype(np.float32),
        mask_probabilities=segmenter_masks.astype(np.float32),
        segmenter_masks=segmenter_masks,
    )


class StandIn:
    """Answers with given predictions, one call after another."""

    def __init__(self, predictions: Sequence[VolumePrediction]) -> None:
        self.predictions = iter(predictions)

    def predict_volume(self, images: NDArray[np.uint8], *, is_every_slice_segmented: bool) -> VolumePrediction:
        assert is_every_slice_segmented
        return next(self.predictions)


def make_volume(patient_id: str, truth: NDArray[np.bool_]) -> Volume:
    """Return a volume whose FLAIR is brighter in the tumor."""
    images = np.full((len(truth), 3, *truth.shape[1:]), 60, dtype=np.uint8)
    images[:, 1][truth] = 180
    return Volume(patient_id, images, truth.astype(np.uint8))


def evaluate_patients(
    truths: Sequence[NDArray[np.bool_]],
    predictions: Sequence[VolumePrediction],
    is_scored: Sequence[bool] | None = None,
    params: EvaluateCascadeParams = PARAMS,
) -> Evaluation:
    """Evaluate patients p0, p1, ...; `is_scored` holds for each of them, by default all slices count."""
    volumes = []
    for number, truth in enumerate(truths):
        rows = pd.DataFrame({"slice_index": range(len(truth)), "slice_number": range(1, len(truth) + 1)})
        rows = rows.assign(patient_id=f"p{number}", institution="AA", is_scored=is_scored or True)
        volumes.append((rows, make_volume(f"p{number}", truth)))
    return evaluate_volumes(StandIn(predictions), volumes, params, num_patients=len(volumes))


def make_evaluation() -> Evaluation:
    """Return three patients: two with tumor and every outcome of the gate among them, one without.

    p0: slices of 0, 10 x 10, 20 x 20, 0 tumor pixels; the segmenter shifts all by 2 px down and marks 5 x 5 on slice 0;
    the gate opens slices 1 and 2. p1: 0, 10 x 10, 10 x 10; the segmenter is right; the gate misses slice 1. p2: no
    tumor; the segmenter marks 4 x 4 on slice 1, whose gate is open.
    """
    truths = [draw_squares([0, 10, 20, 0]), draw_squares([0, 10, 10]), draw_squares([0, 0])]
    shifted = draw_squares([5, 10, 20, 0], top=10)
    predictions = [
        make_prediction([0.1, 0.9, 0.8, 0.2], shifted),
        make_prediction([0.3, 0.4, 0.7], truths[1]),
        make_prediction([0.2, 0.6], draw_squares([0, 4])),
    ]
    return evaluate_patients(truths, predictions)
