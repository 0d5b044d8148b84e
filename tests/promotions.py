"""Scores and policies whose verdict can be worked out on paper."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from tumor_cascade.evaluation.scores import summarize_patients
from tumor_cascade.registry.judged_metrics import Scores
from tumor_cascade.registry.policy import Policy
from tumor_cascade.registry.verdicts import Fact

NUM_TUMOR_SLICES, NUM_FREE_SLICES, TUMOR_PX = 4, 4, 1000
PATIENT_PX = NUM_TUMOR_SLICES * TUMOR_PX
POLICY: dict[str, Any] = {
    "name": "paper",
    "statistics": {
        "confidence": 0.95,
        "error": 0.05,
        "power": 0.8,
        "num_bootstrap": 4000,
        "seed": 1,
        "min_patients": 20,
    },
    "floors": {"slice_auroc": 0.9, "patient_recall": 0.85, "volume_dice": 0.7, "lesion_recall": 0.85},
    "comparison": {
        "primary": {"metric": "volume_dice", "margin": 0.03},
        "safety": [
            {"metric": "slice_auroc", "margin": 0.02},
            {"metric": "slice_sensitivity", "margin": 0.05},
            {"metric": "patient_recall", "margin": 0.15},
        ],
        "if_equal": "abstain",
    },
    "strata": {
        "metric": "volume_dice",
        "margin": 0.1,
        "min_patients": 5,
        "tumor_volume_edges_px": [2000],
        "if_undecidable": "report",
    },
    "health": {
        "max_load_s": 60.0,
        "max_seconds_per_slice": 5.0,
        "max_memory_mb": 8000.0,
        "max_probability_difference": 0.0001,
        "max_mask_difference_px": 0,
    },
}


def build_policy(**changes: Any) -> Policy:
    """Return the policy above; a change is `section__key=value`, or `section=value`."""
    values = {name: dict(value) if isinstance(value, dict) else value for name, value in POLICY.items()}
    for name, value in changes.items():
        section, _, key = name.partition("__")
        if key:
            values[section][key] = value
        else:
            values[section] = value
    return Policy.model_validate(values)


def build_scores(
    dice: Sequence[float],
    *,
    missed: Sequence[int] | None = None,
    tumor_probability: float = 0.9,
    institutions: Sequence[str] = ("A",),
    num_tumor_free: int = 0,
) -> Scores:
    """Return scores of as many patients as Dice values.

    Each patient has 4 tumor slices of 1,000 px and 4 tumor-free ones of probability 0.1. The cascade marks as many
    pixels as there are (D = 2 h / (t + p) with p = t = 4,000 is h / 4,000), so a Dice of 0.8 is 3,200 hits.

    Args:
        dice: Of each patient.
        missed: Tumor slices of each patient that are called negative; none without it.
        tumor_probability: Of tumor slices.
        institutions: Dealt to the patients in turn.
        num_tumor_free: More patients, of 8 tumor-free slices each, who come last.
    """
    num_tumor = len(dice)
    missed = [*(missed or [0] * num_tumor), *[0] * num_tumor_free]
    dice = [*dice, *[0.0] * num_tumor_free]
    rows = []
    for number, (value, num_missed) in enumerate(zip(dice, missed, strict=True)):
        for index in range(NUM_TUMOR_SLICES + NUM_FREE_SLICES):
            has_tumor = number < num_tumor and index < NUM_TUMOR_SLICES
            rows.append(
                {
                    "patient_id": f"P{number:03d}",
                    "institution": institutions[number % len(institutions)],
                    "slice_index": index,
                    "num_px": 4096,
                    "tumor_px": TUMOR_PX * has_tumor,
                    "has_tumor": has_tumor,
                    "probability": tumor_probability if has_tumor else 0.1,
                    "is_positive": has_tumor and index >= num_missed,
                    "uncertainty": 0.5,
                    "gate_is_open": has_tumor,
                    **{f"{model}_px": TUMOR_PX * has_tumor for model in ("cascade", "segmenter")},
                    **{f"{model}_hit_px": round(value * TUMOR_PX) * has_tumor for model in ("cascade", "segmenter")},
                    **{f"{model}_slice_dice": value if has_tumor else np.nan for model in ("cascade", "segmenter")},
                }
            )
    slices = pd.DataFrame(rows)
    patients = summarize_patients(slices)
    found = (patients["num_missed_slices"] < patients["num_tumor_slices"]).astype(int)
    lesions = pd.DataFrame(
        {
            "num_lesions": (patients["num_tumor_slices"] > 0).astype(int),
            "cascade_lesions_found": found,
            "cascade_false_lesions": 0,
        }
    )
    institution = slices.groupby("patient_id")["institution"].first()
    return Scores(slices, patients.join(lesions).join(institution))


def build_fact(*faults: str) -> Fact:
    """Return an integrity fact, broken where there are faults."""
    return Fact("integrity", "no_pickle", "No pickle", "safetensors and JSON only", "all files", faults, {})
