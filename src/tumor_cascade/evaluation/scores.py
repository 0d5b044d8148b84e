"""Raw scores of predictions: a row of counts and contour scores per slice, lesion counts and sums per patient.

Nothing is averaged over patients here: these tables are what every metric, interval and curve is made from.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tumor_cascade.evaluation.lesions import count_lesions
from tumor_cascade.evaluation.statistics import divide
from tumor_cascade.evaluation.surfaces import score_contour
from tumor_cascade.models.cascade import VolumePrediction
from tumor_cascade.params import EvaluateCascadeParams

Mask = NDArray[np.bool_]

# Whose masks are compared with the truth: the cascade's, and its segmenter's on every slice without gate and decision.
MODELS = ("cascade", "segmenter")
# The segmenter behind a decision that never errs; its counts follow from the segmenter's.
ORACLE = "oracle"


def score_slices(truth: Mask, prediction: Mask, tolerances_px: Sequence[float]) -> pd.DataFrame:
    """Return the counts and scores of one model's masks, a row per slice.

    Args:
        truth: bool `(Z, H, W)`.
        prediction: bool `(Z, H, W)`.
        tolerances_px: Of the surface Dice.

    Returns:
        Columns `px` and `hit_px` (predicted pixels, and those of them on tumor), `slice_dice`, `slice_iou`,
        `surface_dice_<t>px`, `hd95_px`; the scores are NaN on tumor-free slices: with empty truth they are undefined.
    """
    axes = (1, 2)
    tumor_px, px, hit_px = truth.sum(axes), prediction.sum(axes), (truth & prediction).sum(axes)
    contours = [score_contour(*pair, tolerances_px) for pair in zip(truth, prediction, strict=True)]
    has_tumor = tumor_px > 0
    scores: dict[str, Any] = {
        "px": px,
        "hit_px": hit_px,
        "slice_dice": np.where(has_tumor, divide(2 * hit_px, tumor_px + px), np.nan),
        "slice_iou": np.where(has_tumor, divide(hit_px, tumor_px + px - hit_px), np.nan),
    }
    for column, tolerance in enumerate(tolerances_px):
        scores[f"surface_dice_{tolerance:g}px"] = [shares[column] for shares, _ in contours]
    scores["hd95_px"] = [distance for _, distance in contours]
    return pd.DataFrame(scores)


def score_volume(
    truth: Mask, prediction: VolumePrediction, is_scored: Mask, params: EvaluateCascadeParams
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Score a predicted volume against its truth.

    Args:
        truth: bool `(Z, H, W)`.
        prediction: Of the same volume.
        is_scored: bool `(Z,)`, the slices that count.
        params: The stage's section.

    Returns:
        A row per scored slice; and lesion counts of the volume, NaN unless all its slices count (scattered slices
        have no 3D components).
    """
    if prediction.segmenter_masks is None:
        raise ValueError("an evaluation needs every slice segmented")
    masks = dict(zip(MODELS, (prediction.masks, prediction.segmenter_masks), strict=True))
    slices = pd.DataFrame(
        {
            "num_px": truth[0].size,
            "tumor_px": truth.sum(axis=(1, 2)),
            "has_tumor": truth.any(axis=(1, 2)),
            "probability": prediction.probabilities,
            "is_positive": prediction.is_positive,
            "uncertainty": prediction.uncertainty,
            "gate_is_open": prediction.gate_is_open,
            "classifier_logit": prediction.classifier_logits,
            "segmenter_score": prediction.segmenter_scores,
        }
    )[is_scored]
    lesions = {"num_lesions": np.nan}
    if prediction.mask_probabilities is not None:  # sums of probabilities, for soft indices
        soft = prediction.mask_probabilities[is_scored].astype(np.float64)
        slices["segmenter_soft_px"] = soft.sum(axis=(1, 2))
        slices["segmenter_soft_hit_px"] = (soft * truth[is_scored]).sum(axis=(1, 2))
    for model, mask in masks.items():
        scores = score_slices(truth[is_scored], mask[is_scored], params.surface_tolerances_px).add_prefix(f"{model}_")
        slices = slices.join(scores.set_index(slices.index))
        lesions |= {f"{model}_lesions_found": np.nan, f"{model}_false_lesions": np.nan}
        if is_scored.all():
            counts = count_lesions(
                truth, mask, min_voxels=params.min_lesion_voxels, min_overlap=params.min_lesion_overlap
            )
            lesions["num_lesions"] = counts.num_lesions
            lesions |= {f"{model}_lesions_found": counts.num_found, f"{model}_false_lesions": counts.num_false}
    return slices, lesions


def summarize_patients(slices: pd.DataFrame) -> pd.DataFrame:
    """Return sums and means of the per-slice table, a row per patient in sorted order, indexed by `patient_id`.

    Slice scores are means over the patient's tumor slices; a volume score is taken from the patient's summed counts
    and is NaN without tumor.
    """
    is_free = ~slices["has_tumor"]
    sums = {
        "num_slices": 1,
        "num_tumor_slices": slices["has_tumor"],
        "num_positive_slices": slices["is_positive"],
        "num_segmented_slices": slices["gate_is_open"],
        "num_segmented_tumor_slices": slices["has_tumor"] & slices["gate_is_open"],
        "num_missed_slices": slices["has_tumor"] & ~slices["is_positive"],
        "num_false_alarms": is_free & slices["is_positive"],
        "tumor_px": slices["tumor_px"],
        "missed_tumor_px": slices["tumor_px"].where(~slices["is_positive"], 0),
        "tumor_free_px": slices["num_px"].where(is_free, 0),
    }
    for model in MODELS:
        px, is_empty = slices[f"{model}_px"], slices[f"{model}_px"] == 0
        sums[f"{model}_px"], sums[f"{model}_hit_px"] = px, slices[f"{model}_hit_px"]
        sums[f"{model}_unmarked_tumor_slices"] = slices["has_tumor"] & is_empty
        sums[f"{model}_clean_slices"] = is_free & is_empty
        sums[f"{model}_tumor_free_slice_px"] = px.where(is_free, 0)
    for count in ("px", "hit_px"):
        sums[f"{ORACLE}_{count}"] = slices[f"segmenter_{count}"].where(slices["has_tumor"], 0)
    patients = pd.DataFrame(sums, index=slices.index).astype(int).groupby(slices["patient_id"], sort=True).sum()
    names = [f"{model}_{score}" for model in MODELS for score in list_slice_scores(slices)]
    means = slices.groupby("patient_id", sort=True)[names].mean()
    for model in (*MODELS, ORACLE):
        hits, px, tumor = patients[f"{model}_hit_px"], patients[f"{model}_px"], patients["tumor_px"]
        means[f"{model}_volume_dice"] = np.where(tumor > 0, divide(2 * hits, tumor + px), np.nan)
        means[f"{model}_volume_error"] = divide(px - tumor, tumor)
    return patients.join(means)


def list_slice_scores(slices: pd.DataFrame) -> list[str]:
    """Return the names of the scores that tumor slices have, without the model in front."""
    names = [str(name).removeprefix("cascade_") for name in slices if str(name).startswith("cascade_")]
    return [name for name in names if name not in ("px", "hit_px")]
