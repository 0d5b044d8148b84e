"""Cohorts in which patients stand twice, and what the near-duplicate scan makes of them."""

from pathlib import Path

import numpy as np
import pytest

from phantoms import Cohort, ingest_phantom
from tumor_cascade.data.copied_patients import ALTERATIONS, COPY_SUFFIX, deal_copies, write_cohort_with_copies
from tumor_cascade.data.duplicates import find_near_duplicates
from tumor_cascade.data.split import TEST_FOLD
from tumor_cascade.data.stratification import split_slices
from tumor_cascade.data.volumes import read_volume


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Five generated patients."""
    return ingest_phantom(tmp_path_factory.mktemp("phantom"), 5)


def test_write_cohort_with_copies__describes_what_it_wrote(phantom: Cohort, tmp_path: Path) -> None:
    rows = phantom.rows
    original = rows["patient_id"].iloc[0]
    both = write_cohort_with_copies(tmp_path, phantom.slices, rows, [original], ALTERATIONS["contrast x 0.7"])
    assert len(both) == len(rows) + (rows["patient_id"] == original).sum()
    assert {path.stem for path in tmp_path.iterdir()} == set(both["patient_id"])
    first, copy = (read_volume(tmp_path, both[both["patient_id"] == one]) for one in (original, original + COPY_SUFFIX))
    assert np.array_equal(copy.images, np.round(0.7 * first.images.astype(float)))
    assert np.array_equal(copy.masks, first.masks)


@pytest.mark.parametrize("name", list(ALTERATIONS)[:5])
def test_find_near_duplicates__altered_copy_of_a_patient(phantom: Cohort, tmp_path: Path, name: str) -> None:
    rows = phantom.rows
    patients = sorted(rows["patient_id"].unique())
    both = write_cohort_with_copies(tmp_path, phantom.slices, rows, patients, ALTERATIONS[name])
    splits = deal_copies(split_slices(rows, "patient_level", seed=1, test_share=0.25, num_folds=2), both)
    pairs = find_near_duplicates(both, splits["fold"].to_numpy(), tmp_path, max_hash_distance=4, min_correlation=0.985)
    assert {pair.patients for pair in pairs} == {(patient, patient + COPY_SUFFIX) for patient in patients}


def test_deal_copies__each_on_another_side_than_its_original(phantom: Cohort, tmp_path: Path) -> None:
    rows = phantom.rows
    patients = sorted(rows["patient_id"].unique())
    both = write_cohort_with_copies(tmp_path, phantom.slices, rows, patients, ALTERATIONS["unchanged"])
    before = split_slices(rows, "patient_level", seed=1, test_share=0.25, num_folds=2)
    after = deal_copies(before, both)
    assert after[["patient_id", "slice_index"]].equals(both[["patient_id", "slice_index"]])
    folds = after.groupby("patient_id")["fold"].unique()
    for patient, fold in before.groupby("patient_id")["fold"].first().items():
        assert folds[patient] == [fold]
        assert folds[f"{patient}{COPY_SUFFIX}"] == [0 if fold == TEST_FOLD else TEST_FOLD]
