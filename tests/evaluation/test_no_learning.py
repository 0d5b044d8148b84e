"""Baselines that learn nothing."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from manifests import make_manifest
from phantoms import ingest_phantom
from tumor_cascade.data.volumes import Volume, hash_pixels, write_volume
from tumor_cascade.evaluation.no_learning import score_baselines, score_likeness, score_protocols

SIZE_PX, NUM_SLICES = 64, 10


def write_cohort(slices: Path, num_patients: int = 4) -> pd.DataFrame:
    """Write patients whose every slice has a gray level of its own and, on slices 4 to 6, a square of 10 x 10 px.

    Patient p has gray 60 p + 4 z on slice z: the most similar slice is the next of the same patient, or else an end of
    the patient before or after. The square lies 5 px further down for every patient.
    """
    slices.mkdir()
    manifest = make_manifest(num_patients, NUM_SLICES)
    parts = []
    for number, (patient_id, rows) in enumerate(manifest.groupby("patient_id", sort=True)):
        levels = 60 * number + 4 * np.arange(NUM_SLICES)
        images = np.broadcast_to(levels[:, None, None, None], (NUM_SLICES, 3, SIZE_PX, SIZE_PX)).astype(np.uint8)
        masks = np.zeros((NUM_SLICES, SIZE_PX, SIZE_PX), np.uint8)
        masks[3:6, 5 * number : 5 * number + 10, 5:15] = 1
        write_volume(slices, Volume(str(patient_id), images, masks))
        digests = {"image_sha256": [hash_pixels(one) for one in images], "mask_sha256": [hash_pixels(m) for m in masks]}
        parts.append(rows.assign(tumor_area_px=masks.sum(axis=(1, 2)), **digests))
    return pd.concat(parts, ignore_index=True)


def test_score_baselines__neighbor_slices_of_the_same_patient(tmp_path: Path) -> None:
    rows = write_cohort(tmp_path / "slices")
    is_test = (rows["slice_index"] % 2 == 1).to_numpy()  # 1, 3, 5, 7, 9; the slices between them are known
    scores = score_baselines(tmp_path / "slices", rows.assign(fold=np.where(is_test, -1, 0)), is_test)
    # Slice 3 is as near to 2 (tumor-free) as to 4 (tumor): the first wins, an empty mask. Slice 5 is as near to 4 (its
    # very mask) as to 6. So of each patient's two tumor slices one has Dice 1 and one 0; the volume has
    # 2 x 100 / (200 + 100). Both are draws between the classes, score 0.5, called tumor: every decision is right.
    neighbor = scores["nearest_neighbor"]
    assert neighbor["accuracy"] == 1.0
    assert neighbor["auroc"] == 1.0
    assert neighbor["slice_dice"] == 0.5
    assert neighbor["volume_dice"] == pytest.approx(2 / 3, abs=1e-6)
    # 100 px are missing on one of five slices of 4096 px
    assert neighbor["pixel_accuracy"] == pytest.approx(1 - 100 / (5 * 4096), abs=1e-6)


def test_score_baselines__a_stranger_lends_its_mask(tmp_path: Path) -> None:
    rows = write_cohort(tmp_path / "slices", 2)
    images = np.load(tmp_path / "slices" / "AA_0000.npy")
    masks = np.load(tmp_path / "slices" / "BB_0001.npy")[:, 3:]
    twin = np.concatenate([images[:, :3], masks], axis=1)  # looks like the first patient, slice for slice
    np.save(tmp_path / "slices" / "BB_0001.npy", twin)
    rows["image_sha256"] = [hash_pixels(one) for one in images[:, :3]] * 2
    is_first = (rows["patient_id"] == "AA_0000").to_numpy()
    scores = score_baselines(tmp_path / "slices", rows.assign(fold=np.where(is_first, -1, 0)), is_first)
    # The same slices show tumor, 5 px further down: 50 of 100 px are shared, on each slice and in the volume.
    assert scores["nearest_neighbor"] == {
        "accuracy": 1.0,
        "auroc": 1.0,
        "slice_dice": 0.5,
        "volume_dice": 0.5,
        "pixel_accuracy": pytest.approx(1 - 3 * 100 / (10 * 4096), abs=1e-6),
    }
    assert scores["position"]["auroc"] == 1.0  # the tumor stands where the stranger's does
    assert scores["position"]["slice_dice"] is None


def test_score_baselines__predict_nothing(tmp_path: Path) -> None:
    rows = write_cohort(tmp_path / "slices")
    is_test = (rows["patient_id"] == "AA_0000").to_numpy()
    assert score_baselines(tmp_path / "slices", rows.assign(fold=np.where(is_test, -1, 0)), is_test)["nothing"] == {
        "accuracy": 0.7,  # 7 of 10 slices are tumor-free
        "auroc": 0.5,
        "slice_dice": 0.0,
        "volume_dice": 0.0,
        "pixel_accuracy": pytest.approx(1 - 300 / 40960, abs=1e-6),
    }


def test_score_baselines__out_of_fold_is_answered_from_other_folds(tmp_path: Path) -> None:
    rows = write_cohort(tmp_path / "slices")
    number = pd.factorize(rows["patient_id"])[0]
    everybody = score_baselines(tmp_path / "slices", rows.assign(fold=number), np.ones(len(rows), bool))
    # Patients of gray 0-36, 60-96, 120-156, 180-216: seen from each, the next patient's nearest slice is its first or
    # last, which are tumor-free. So nobody is called positive: 0.7, and nothing is drawn.
    assert everybody["nearest_neighbor"]["accuracy"] == 0.7
    assert everybody["nearest_neighbor"]["slice_dice"] == 0.0


def test_score_baselines__slices_of_one_class(tmp_path: Path) -> None:
    rows = write_cohort(tmp_path / "slices")
    is_test = (rows["slice_index"] == 0).to_numpy()
    scores = score_baselines(tmp_path / "slices", rows.assign(fold=np.where(is_test, -1, 0)), is_test)
    for baseline in scores.values():
        assert (baseline["auroc"], baseline["slice_dice"], baseline["volume_dice"]) == (None, None, None)
    assert scores["nothing"]["accuracy"] == 1.0


@pytest.mark.parametrize("has_tumor", [True, False])
def test_score_likeness__known_slices_of_one_class(has_tumor: bool) -> None:
    thumbnails = np.zeros((3, 8), np.uint8)
    known = pd.DataFrame({"has_tumor": [has_tumor]}, index=[2])
    assert score_likeness(thumbnails, pd.DataFrame(index=[0, 1]), known).tolist() == [float(has_tumor)] * 2


def test_score_protocols__a_split_of_slices_gives_more_away(tmp_path: Path) -> None:
    cohort = ingest_phantom(tmp_path, 6)
    scores = score_protocols(cohort.slices, cohort.rows, seed=1, test_share=0.25, num_folds=3)
    by_slice, by_patient = (scores[name]["nearest_neighbor"] for name in ("slice_level", "patient_level"))
    for name in ("slice_dice", "volume_dice"):
        assert by_slice[name] > by_patient[name] + 0.2
    assert by_slice["auroc"] > by_patient["auroc"]
