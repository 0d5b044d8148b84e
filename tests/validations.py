"""Made-up answers of networks to validation patients: what a cascade's numbers are chosen from."""

import numpy as np
import pandas as pd

from tumor_cascade.evaluation.validation import ValidationScores
from tumor_cascade.params import AssembleCascadeParams, PostprocessingParams

MASK_THRESHOLDS = [0.3, 0.5]


def make_params(**changes: object) -> AssembleCascadeParams:
    values: dict[str, object] = {
        "folds": [0, 1],
        "gate": "classifier",
        "gate_target_sensitivity": 0.98,
        "gate_smoothing_slices": 0.0,
        "slice_score": "combined",
        "target_sensitivity": 0.9,
        "mask_thresholds": MASK_THRESHOLDS,
        "has_flip_averaging": True,
        "postprocessing": PostprocessingParams(min_component_voxels=4, has_only_largest_component=False),
    }
    return AssembleCascadeParams.model_validate({**values, **changes})


def make_scores(num_patients: int = 12, num_slices: int = 12, num_folds: int = 2, seed: int = 0) -> ValidationScores:
    """Return patients with tumor on slices 4 to 7; the segmenter knows better than the classifier where it is.

    At mask threshold 0.5 the segmenter finds 80 of 100 tumor pixels on a tumor slice and marks nothing else; at 0.3 it
    marks 40 false pixels more on every slice.
    """
    rng = np.random.default_rng(seed)
    number, position = np.divmod(np.arange(num_patients * num_slices), num_slices)
    has_tumor = (position >= 4) & (position < 8)
    sign = np.where(has_tumor, 1.0, -1.0)
    slices = pd.DataFrame(
        {
            "patient_id": [f"AA_{value:04d}" for value in number],
            "institution": "AA",
            "slice_index": position,
            "fold": number % num_folds,
            "is_scored": True,
            "has_tumor": has_tumor,
            "tumor_px": 100 * has_tumor,
            "classifier_logit": (2 * sign + rng.normal(0, 2, len(sign))).astype(np.float32),
            "segmenter_score": (4 * sign + rng.normal(0, 2, len(sign))).astype(np.float32),
        }
    )
    slices = slices.sort_values(["fold", "patient_id", "slice_index"], kind="stable", ignore_index=True)
    hits = 80 * slices["has_tumor"].to_numpy().astype(np.int64)
    return ValidationScores(slices, np.column_stack([hits + 40, hits]), np.column_stack([hits, hits]))
