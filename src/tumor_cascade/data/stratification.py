"""Deal patients (or slices) out over a test set and folds, alike in institution and tumor burden.

Patients are laid out in one row, sorted by institution and, within it, by third of tumor burden (up in one institution,
down in the next, so that neighbors are alike everywhere); within a third the order is a seeded hash of the patient's
id. The test set is every n-th patient of that row from a seeded start; what is left goes round and round over the
folds. So any stretch of the row, be it an institution or a third of it, gives the test set and each fold its share to
within one patient.
"""

import hashlib
from typing import Any, Literal

import numpy as np
import pandas as pd

from tumor_cascade.data.split import DEVELOPMENT, SLICE_KEY, SPLITS_SCHEMA, TEST, TEST_FOLD
from tumor_cascade.errors import DataError, ParamsError

NUM_BURDEN_BINS = 3

Protocol = Literal["patient_level", "slice_level"]


def split_slices(
    manifest: pd.DataFrame, protocol: Protocol, *, seed: int, test_share: float, num_folds: int
) -> pd.DataFrame:
    """Return the partition and fold of every slice, the same whatever the order of the manifest's rows.

    Args:
        manifest: One row per slice.
        protocol: `patient_level`, or `slice_level`: slices of one patient on all sides, for comparison only.
        seed: Decides among equally balanced splits.
        test_share: Share of patients (or slices) in the test set; at least one.
        num_folds: Folds over the rest.

    Returns:
        The columns of `SPLITS_SCHEMA`.

    Raises:
        DataError: `patient_level` is asked of data without patient ids.
        ParamsError: Fewer patients (or slices) than the folds and the test set need.
    """
    if protocol == "slice_level":
        units = order_slices(manifest, seed)
    else:
        _check_patient_ids(manifest)
        units = order_patients(manifest, seed)
    folds = deal_folds(len(units), seed=seed, test_share=test_share, num_folds=num_folds)
    # On patient_id alone, or with slice_index too: the units are the key.
    splits = manifest[SLICE_KEY].merge(units.assign(fold=folds), validate="many_to_one")
    splits["partition"] = np.where(splits["fold"] == TEST_FOLD, TEST, DEVELOPMENT)
    splits = splits.sort_values(SLICE_KEY, ignore_index=True)
    return splits[list(SPLITS_SCHEMA.names)]


def order_patients(manifest: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return the `patient_id`s in the order in which they are dealt: institution, burden, seeded hash.

    Patients without masks have no burden: a bin of their own in each institution.
    """
    patients = manifest.groupby("patient_id", as_index=False).agg(
        institution=("institution", "first"), has_mask=("has_mask", "first"), burden=("tumor_area_px", "sum")
    )
    patients["key"] = _hash_units(patients["patient_id"], seed)
    patients = patients.sort_values(["has_mask", "burden", "key"], ignore_index=True)
    rank = patients["has_mask"].cumsum() - 1  # labelled patients come last, from the smallest burden on
    patients["bin"] = (rank * NUM_BURDEN_BINS // max(1, int(patients["has_mask"].sum()))).where(
        patients["has_mask"], -1
    )
    is_descending = patients["institution"].rank(method="dense").astype(int) % 2 == 0
    patients["bin"] = patients["bin"].where(~is_descending, -patients["bin"])
    return patients.sort_values(["institution", "bin", "key"], ignore_index=True)[["patient_id"]]


def order_slices(manifest: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return the keys of all slices in the order in which they are dealt: has tumor or not, seeded hash."""
    slices = manifest[[*SLICE_KEY, "has_tumor"]].copy()
    slices["key"] = _hash_units(slices["patient_id"] + ":" + slices["slice_index"].astype(str), seed)
    return slices.sort_values(["has_tumor", "key"], ignore_index=True)[SLICE_KEY]


def deal_folds(num_units: int, *, seed: int, test_share: float, num_folds: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Return the fold of each of a row of units: every n-th is test (-1), the others go round the folds.

    Raises:
        ParamsError: Some fold would be empty.
    """
    num_test = max(1, round(num_units * test_share))
    if num_units - num_test < num_folds:
        raise ParamsError(
            f"params.yaml: split_data.num_folds is {num_folds}; each fold needs a patient, but of {num_units} "
            f"{num_test} go to the test set (test_share {test_share}). Lower num_folds, or bring more data."
        )
    start, rotation = np.random.default_rng(seed).random(2)
    is_test = np.zeros(num_units, dtype=bool)
    is_test[((np.arange(num_test) + start) * num_units / num_test).astype(int)] = True
    folds = np.full(num_units, TEST_FOLD, dtype=np.int32)
    folds[~is_test] = (np.arange(num_units - num_test) + int(rotation * num_folds)) % num_folds
    return folds


def describe_groups(manifest: pd.DataFrame, splits: pd.DataFrame, by: str) -> dict[str, dict[str, float]]:
    """Return counts and shares per partition (`by="partition"`) or fold (`by="fold"`).

    Returns:
        Group -> `num_patients`, `num_slices`, `num_positive_slices`, `positive_share`, `tumor_pixel_share`.
    """
    rows = manifest.merge(splits, on=SLICE_KEY, validate="one_to_one")
    facts = {}
    for name, group in rows.groupby(by):
        num_pixels = int((group["height_px"].astype("int64") * group["width_px"]).sum())
        facts[str(name)] = {
            "num_patients": int(group["patient_id"].nunique()),
            "num_slices": len(group),
            "num_positive_slices": int(group["has_tumor"].sum()),
            "positive_share": round(float(group["has_tumor"].mean()), 6),
            "tumor_pixel_share": round(int(group["tumor_area_px"].sum()) / num_pixels, 6),
        }
    return facts


def count_institutions(manifest: pd.DataFrame, splits: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Return institution -> partition -> number of patients with a slice there."""
    rows = manifest.merge(splits, on=SLICE_KEY, validate="one_to_one")
    table = rows.groupby(["institution", "partition"])["patient_id"].nunique().unstack(fill_value=0)
    return {str(name): {str(k): int(v) for k, v in counts.items()} for name, counts in table.to_dict("index").items()}


def _hash_units(names: "pd.Series[str]", seed: int) -> "pd.Series[str]":
    # A hash per name, so that neither row order nor other patients change how two patients compare.
    return names.map(lambda name: hashlib.sha256(f"{seed}:{name}".encode()).hexdigest())


def _check_patient_ids(manifest: pd.DataFrame) -> None:
    if not manifest["has_patient_ids"].all():
        raise DataError(
            "the data have no patient ids (one was invented per file), so a split by patient would put slices of one "
            "person on both sides; ingest data with patient ids, or set split_data.protocol to slice_level (leaky, "
            "for comparison only, never promotable)."
        )
