from copy import deepcopy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from manifests import make_manifest, write_volumes
from trainings import NUM_SLICES, deal, write_artifacts
from tumor_cascade.data.cohort import CohortTensors, iterate_volumes, read_cohort, read_rows
from tumor_cascade.data.manifest import read_manifest, write_manifest
from tumor_cascade.data.preprocessing import Preprocessing, preprocess_volume
from tumor_cascade.data.split import write_splits
from tumor_cascade.data.volumes import read_volume
from tumor_cascade.errors import DataError

PLAIN, WITH_NEIGHBORS = (Preprocessing(32, "unit_range", flag) for flag in (False, True))


@pytest.fixture
def artifacts(tmp_path: Path) -> dict[str, Path]:
    return write_artifacts(tmp_path)


def read_two(artifacts: dict[str, Path], preprocessing: Preprocessing) -> tuple[pd.DataFrame, CohortTensors]:
    rows = read_rows(artifacts["manifest"], artifacts["splits"])
    rows = rows[rows["patient_id"].isin(["AA_0000", "BB_0001"])].reset_index(drop=True)
    return rows, read_cohort(artifacts["slices"], rows, preprocessing)


def test_read_rows__joins_manifest_and_splits(artifacts: dict[str, Path]) -> None:
    rows = read_rows(artifacts["manifest"], artifacts["splits"])
    assert len(rows) == 10 * NUM_SLICES
    assert set(rows.loc[rows["partition"] == "test", "fold"]) == {-1}
    assert rows.loc[rows["patient_id"] == "AA_0000", "fold"].unique().tolist() == [0]
    assert rows["fold"].dtype == np.int64
    pd.testing.assert_frame_equal(rows[["patient_id", "slice_index"]], rows[["patient_id", "slice_index"]].sort_index())


@pytest.mark.parametrize("change", ["fewer", "more", "other"])
def test_read_rows__refuses_splits_of_other_slices(artifacts: dict[str, Path], tmp_path: Path, change: str) -> None:
    rows = read_manifest(artifacts["manifest"])
    others = {
        "fewer": rows.iloc[:-1],
        "more": pd.concat([rows, rows.iloc[-1:].assign(slice_index=NUM_SLICES)], ignore_index=True),
        "other": rows.assign(patient_id=rows["patient_id"].str.replace("AA", "AB")),
    }
    write_splits(artifacts["splits"], deal(others[change], 2), {})
    with pytest.raises(DataError, match="splits and manifest name different slices; run split_data again"):
        read_rows(artifacts["manifest"], artifacts["splits"])


def test_iterate_volumes__yields_whole_patients_in_order(artifacts: dict[str, Path]) -> None:
    rows = read_manifest(artifacts["manifest"])
    found = list(iterate_volumes(artifacts["slices"], rows))
    assert [volume.patient_id for _, volume in found] == sorted(rows["patient_id"].unique())
    assert all(len(patient_rows) == len(volume.images) == NUM_SLICES for patient_rows, volume in found)
    assert pd.concat([patient_rows for patient_rows, _ in found]).index.tolist() == rows.index.tolist()


def test_read_cohort__rows_and_tensors_name_the_same_slices(artifacts: dict[str, Path]) -> None:
    rows, cohort = read_two(artifacts, PLAIN)
    assert cohort.images.shape == (16, 3, 32, 32) and cohort.masks.shape == (16, 1, 32, 32)
    assert cohort.has_tumor.tolist() == rows["has_tumor"].tolist()
    assert cohort.has_tumor.tolist() == cohort.masks.flatten(1).any(1).tolist()
    assert cohort.masks.flatten(1).sum(1).tolist() == rows["tumor_area_px"].tolist()
    assert cohort.position.tolist() == rows["slice_index"].tolist()
    assert cohort.num_slices.tolist() == [NUM_SLICES] * 16
    assert cohort.patient.tolist() == [0] * 8 + [1] * 8
    second = read_volume(artifacts["slices"], rows[8:])
    torch.testing.assert_close(cohort.images[8:], preprocess_volume(torch.from_numpy(second.images), PLAIN))


def test_gather__gives_wanted_slices_in_order(artifacts: dict[str, Path]) -> None:
    _, cohort = read_two(artifacts, PLAIN)
    images, masks = cohort.gather(torch.tensor([11, 2]))
    assert torch.equal(images, cohort.images[[11, 2]])
    assert torch.equal(masks, cohort.masks[[11, 2]].float())


def test_gather__neighbors_never_come_from_another_patient(artifacts: dict[str, Path]) -> None:
    _, cohort = read_two(artifacts, WITH_NEIGHBORS)
    images, _ = cohort.gather(torch.arange(16))
    assert images.shape == (16, 5, 32, 32)
    flair = cohort.images[:, 1]
    assert not torch.equal(flair[7], flair[8])
    # The last slice of the first patient and the first of the second are their own neighbors at that end.
    assert torch.equal(images[7, 4], flair[7]) and torch.equal(images[7, 3], flair[6])
    assert torch.equal(images[8, 3], flair[8]) and torch.equal(images[8, 4], flair[9])
    for index in range(16):
        first = index // 8 * 8
        assert torch.equal(images[index, 3], flair[max(index - 1, first)])
        assert torch.equal(images[index, 4], flair[min(index + 1, first + 7)])


def test_gather__lone_slices_beside_longer_patients(tmp_path: Path) -> None:
    manifest = pd.concat([make_manifest(1, 4), make_manifest(3, 4)[4:5], make_manifest(3, 4)[8:]], ignore_index=True)
    lengths = manifest.groupby("patient_id").size()
    manifest = write_volumes(tmp_path, manifest.sort_values(["patient_id", "slice_index"], ignore_index=True))
    cohort = read_cohort(tmp_path, manifest, Preprocessing(64, "unit_range", True))
    images, _ = cohort.gather(torch.arange(len(manifest)))
    assert sorted(lengths) == [1, 4, 4]
    lone = int((cohort.num_slices == 1).nonzero())
    assert torch.equal(images[lone, 3], images[lone, 1]) and torch.equal(images[lone, 4], images[lone, 1])


def test_read_cohort__percentiles_are_of_each_patient_alone(artifacts: dict[str, Path]) -> None:
    rows = read_rows(artifacts["manifest"], artifacts["splits"])
    together = read_cohort(artifacts["slices"], rows, Preprocessing(32, "volume_percentile", False))
    alone = read_cohort(artifacts["slices"], rows[8:16], Preprocessing(32, "volume_percentile", False))
    assert torch.equal(together.images[8:16], alone.images)


def test_read_cohort__resizes_masks_with_images(artifacts: dict[str, Path]) -> None:
    rows = read_rows(artifacts["manifest"], artifacts["splits"])
    cohort = read_cohort(artifacts["slices"], rows, Preprocessing(64, "unit_range", False))
    assert cohort.images.shape[-2:] == cohort.masks.shape[-2:] == (64, 64)
    # Doubling both sides makes four of each pixel, more or less one row at the squares' edges.
    areas = torch.from_numpy(rows["tumor_area_px"].to_numpy().copy())
    ratio = (cohort.masks.flatten(1).sum(1) / areas)[cohort.has_tumor]
    assert ((ratio > 3.3) & (ratio < 4.7)).all()


def test_read_cohort__needs_masks(tmp_path: Path) -> None:
    manifest = write_volumes(tmp_path, make_manifest(2, has_mask=False))
    with pytest.raises(DataError, match="training needs a mask for every slice"):
        read_cohort(tmp_path, manifest, PLAIN)


def test_read_cohort__checks_the_pixels(artifacts: dict[str, Path]) -> None:
    rows = read_manifest(artifacts["manifest"])
    write_manifest(rows.assign(image_sha256=rows["image_sha256"].iloc[::-1].to_numpy()), artifacts["manifest"])
    with pytest.raises(DataError, match=r"AA_0000\.npy: slice 0 has other pixels"):
        read_cohort(artifacts["slices"], read_rows(artifacts["manifest"], artifacts["splits"]), PLAIN)


def test_deepcopy__shares_the_pixels(artifacts: dict[str, Path]) -> None:
    _, cohort = read_two(artifacts, PLAIN)
    assert deepcopy({"cohort": cohort})["cohort"].images.data_ptr() == cohort.images.data_ptr()


def test_to__keeps_everything(artifacts: dict[str, Path]) -> None:
    _, cohort = read_two(artifacts, WITH_NEIGHBORS)
    moved = cohort.to(torch.device("cpu"))
    assert moved.has_neighbor_slices
    assert torch.equal(moved.gather(torch.arange(16))[0], cohort.gather(torch.arange(16))[0])
