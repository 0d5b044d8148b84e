"""The evidence of a decision: raw scores of two cascades on the same patients, whom neither has learned from."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from tumor_cascade.content import describe_content
from tumor_cascade.data.cohort import iterate_volumes
from tumor_cascade.errors import DataError
from tumor_cascade.evaluation.cohort import evaluate_volumes
from tumor_cascade.network_folder import hash_patient
from tumor_cascade.params import EvaluateCascadeParams
from tumor_cascade.product import load_cascade, read_artifact_json, read_seen_patients
from tumor_cascade.registry.judged_metrics import Scores
from tumor_cascade.settings import choose_device
from tumor_cascade.storage import CONTENT_NAME, canonical_json

PER_SLICE, PER_PATIENT = "per_slice.csv", "per_patient.csv"
FLOAT_FORMAT = "%.6g"  # of an evaluation's tables
TOLERANCE = 1e-3  # between the same scores computed on two machines
TEXTS = ("patient_id", "institution")


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
    """Predict and score all patients with a packed cascade, as an evaluation's tables hold it."""
    return score_rows(cascade, patients.slices, patients.rows, params)


def score_rows(cascade: Path, slices: Path, rows: pd.DataFrame, params: EvaluateCascadeParams) -> Scores:
    """Predict and score the patients of some manifest rows."""
    product = load_cascade(cascade).to(torch.device(choose_device()))
    volumes = iterate_volumes(slices, rows.assign(is_scored=True))
    evaluation = evaluate_volumes(product, volumes, params, num_patients=rows["patient_id"].nunique())
    return round_scores(Scores(evaluation.slices, evaluation.patients))


def round_scores(scores: Scores) -> Scores:
    """Return scores with the digits that files hold, so that none has more than the one it is compared with."""
    tables = []
    for table in (scores.slices, scores.patients):
        floats = table.select_dtypes(["float32", "float64"]).columns
        rounded = {name: [float(FLOAT_FORMAT % value) for value in table[name]] for name in floats}
        tables.append(table.assign(**rounded))
    return Scores(*tables)


def reuse_report(
    report: Path, cascade: Path, patients: Patients, params: EvaluateCascadeParams, inputs: Mapping[str, Path]
) -> Scores | None:
    """Return the scores of an earlier evaluation where it is of these very bytes, code and params; else None.

    One patient, chosen by hash, is scored again and must agree: the tables themselves are under no hash.

    Args:
        report: Folder of `evaluate_cascade`.
        cascade: Packed cascade.
        patients: All of them must be in it.
        params: How they are scored.
        inputs: `manifest` and `splits` of the evaluation.
    """
    if not (report / CONTENT_NAME).is_file():
        return None
    content = describe_content(
        "evaluate_cascade", {"evaluate_cascade": params.model_dump()}, {"cascade": cascade, **inputs}
    )
    if read_artifact_json(report / CONTENT_NAME).get("content_id") != content["content_id"]:
        return None
    found = Scores(read_table(report / PER_SLICE), read_table(report / PER_PATIENT).set_index("patient_id"))
    if not set(patients.names) <= set(found.patients.index) or not patients.names:
        return None
    scores = found.select(pd.Index(patients.names, name="patient_id"))
    sample = min(patients.names, key=hash_patient)
    again = score_rows(cascade, patients.slices, patients.rows[patients.rows["patient_id"] == sample], params)
    return scores if is_close(scores.select(again.patients.index), again) else None


def read_table(path: Path) -> pd.DataFrame:
    """Return a table of an evaluation; an empty cell is text where text is due and NaN elsewhere."""
    texts: dict[str, Any] = dict.fromkeys(TEXTS, str)
    table = pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=[""])
    return table.assign(**{name: table[name].fillna("") for name in TEXTS if name in table})


def is_close(first: Scores, second: Scores) -> bool:
    """Say whether two scores of the same patients are the same but for rounding on another machine."""
    tables = ((first.slices, second.slices), (first.patients, second.patients))
    for one, other in tables:
        numbers = one.select_dtypes(["number", "bool"]).columns
        if list(one.columns) != list(other.columns) or len(one) != len(other):
            return False
        pair = (one[numbers].to_numpy(float), other[numbers].to_numpy(float))
        if not np.allclose(*pair, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
            return False
    return True
