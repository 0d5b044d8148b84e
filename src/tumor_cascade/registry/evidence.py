"""The evidence of a decision: raw scores of two cascades on the same patients, whom neither has learned from."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from tumor_cascade.data.cohort import iterate_volumes
from tumor_cascade.errors import DataError
from tumor_cascade.evaluation.cohort import evaluate_volumes
from tumor_cascade.network_folder import hash_patient
from tumor_cascade.params import EvaluateCascadeParams
from tumor_cascade.product import load_cascade, read_seen_patients
from tumor_cascade.registry.judged_metrics import Scores
from tumor_cascade.settings import choose_device
from tumor_cascade.storage import canonical_json


@dataclass(frozen=True)
class Patients:
    """Whom both cascades are scored on.

    Attributes:
        slices: Folder of packed volumes.
        rows: Manifest rows of whole patients, all of them new to both cascades.
        origin: Who they are, in words.
        excluded: Cascade -> number of patients left out because it knows them.
        data: SHA-256 of their pixels and of how they are scored.
    """

    slices: Path
    rows: pd.DataFrame
    origin: str
    excluded: dict[str, int]
    data: str

    @property
    def names(self) -> list[str]:
        """Their ids, sorted."""
        return sorted(self.rows["patient_id"].unique())


def select_strangers(
    slices: Path, rows: pd.DataFrame, origin: str, params: EvaluateCascadeParams, cascades: Mapping[str, Path]
) -> Patients:
    """Return the patients that no network of any cascade was trained or validated on.

    Args:
        slices: Folder of packed volumes.
        rows: Manifest rows of whole patients.
        origin: Who they are.
        params: How they are scored.
        cascades: Name -> packed cascade.

    Raises:
        DataError: A patient has no masks, or nobody can say who is who.
    """
    without = sorted(rows.loc[~rows["has_mask"], "patient_id"].unique())
    if without:
        raise DataError(
            [f"patient {name} has no masks; leave it out or give its masks." for name in without],
            "the gate compares masks with masks:",
        )
    if not rows["has_patient_ids"].all():
        raise DataError(f"{origin}: the images have no patient ids, so nobody can say who is new; they decide nothing.")
    excluded = {}
    for name, folder in cascades.items():
        seen = set[str]().union(*read_seen_patients(folder))
        is_known = rows["patient_id"].map(lambda patient, seen=seen: hash_patient(patient) in seen).astype(bool)
        excluded[name] = int(rows.loc[is_known, "patient_id"].nunique())
        rows = rows[~is_known]
    facts = rows[["patient_id", "slice_index", "image_sha256", "mask_sha256"]].astype(str).to_numpy().tolist()
    digest = hashlib.sha256(canonical_json([facts, params.model_dump(mode="json")])).hexdigest()
    return Patients(slices, rows.sort_values(["patient_id", "slice_index"]), origin, excluded, digest)


def score(cascade: Path, patients: Patients, params: EvaluateCascadeParams) -> Scores:
    """Predict and score all patients with a packed cascade."""
    product = load_cascade(cascade).to(torch.device(choose_device()))
    volumes = iterate_volumes(patients.slices, patients.rows.assign(is_scored=True))
    evaluation = evaluate_volumes(product, volumes, params, num_patients=len(patients.names))
    return Scores(evaluation.slices, evaluation.patients)
