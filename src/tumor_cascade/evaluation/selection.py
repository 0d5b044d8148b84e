"""Who is scored by which networks: the locked test set by all, or each development patient by those of its fold."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from tumor_cascade.data.split import DEVELOPMENT, TEST
from tumor_cascade.errors import DataError
from tumor_cascade.evaluation.no_learning import Scores
from tumor_cascade.models.cascade import Cascade
from tumor_cascade.network_folder import hash_patient
from tumor_cascade.product import (
    list_folds,
    load_cascade,
    load_fold_cascade,
    read_seen_patients,
)

OUT_OF_FOLD = "oof"  # split in the names of metrics


@dataclass(frozen=True)
class Cohort:
    """Whom a product is scored on.

    Attributes:
        parts: Networks and manifest rows of whole patients for them. A bool column `is_scored` says which slices count;
            without it, all.
        split: Between model and metric in the names of metrics.
        scope: Who these patients are, in words.
        protocol: How they were kept apart from training.
        is_leaky: Whether they were not.
        baselines: What no learning scores on the same slices, see `score_baselines`; empty without a training side.
    """

    parts: list[tuple[Cascade, pd.DataFrame]]
    split: str
    scope: str
    protocol: str
    is_leaky: bool
    baselines: Scores = field(default_factory=dict)


def select_test(cascade: Path, rows: pd.DataFrame, protocol: str, is_leaky: bool) -> Cohort:
    """Return the locked test set, for all networks together.

    Under slice_level a patient is in part on the other side: the volume is predicted whole, its test slices count.

    Raises:
        DataError: A network knows a test patient.
    """
    rows = rows.assign(is_scored=rows["partition"] == TEST)
    if not is_leaky:
        seen = set[str]().union(*read_seen_patients(cascade))
        known = find_known(rows.loc[rows["is_scored"], "patient_id"], seen)
        refuse_known(f"test patient {patient} was in training or validation." for patient in known)
    rows = rows[rows.groupby("patient_id")["is_scored"].transform("any")]
    return Cohort([(load_cascade(cascade), rows)], TEST, "the locked test set", protocol, is_leaky)


def select_out_of_fold(cascade: Path, rows: pd.DataFrame, protocol: str, is_leaky: bool) -> Cohort:
    """Return the development patients, each for the networks of the fold that held it out.

    Under slice_level volumes are predicted whole; the slices that the fold held out count.

    Raises:
        DataError: A network has learned from a patient of its fold; or a split by slice has several folds, so that a
            patient would be scored in parts.
    """
    folds, parts, lines = list_folds(cascade), [], list[str]()
    if is_leaky and len(folds) > 1:
        raise DataError(
            f"evaluate_cascade.partition is out_of_fold with folds {folds} of a split by slice ({protocol}), "
            "which deals a patient to several folds; choose one fold, or partition test."
        )
    for fold in folds:
        marked = rows.assign(is_scored=(rows["partition"] == DEVELOPMENT) & (rows["fold"] == fold))
        held_out = marked[marked.groupby("patient_id")["is_scored"].transform("any")]
        if not is_leaky:
            known = find_known(held_out["patient_id"], read_seen_patients(cascade, fold)[0])
            lines += [f"patient {patient} of fold {fold} was in its training." for patient in known]
        parts.append((load_fold_cascade(cascade, fold), held_out))
    refuse_known(lines)
    scope = "development patients, each predicted by the networks of the fold that held it out; " + (
        "thresholds chosen on the other folds, each network's best epoch on its own"
        if len(folds) > 1
        else "one fold only: epochs and thresholds were chosen on these very patients, so all looks a little too good"
    )
    return Cohort(parts, OUT_OF_FOLD, scope, protocol, is_leaky)


def find_known(patients: Iterable[str], seen: set[str]) -> list[str]:
    """Return the patients, sorted, whose hashes are among those that networks have seen."""
    return [patient for patient in sorted(set(patients)) if hash_patient(patient) in seen]


def refuse_known(lines: Iterable[str]) -> None:
    """Refuse a cascade that knows patients it would be scored on, a line for each; nothing happens without any.

    Raises:
        DataError: With all lines.
    """
    if found := list(lines):
        raise DataError(found, "the cascade was made with other splits than these; run from train_classifier on again:")
