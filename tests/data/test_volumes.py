from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from manifests import make_manifest, write_volumes
from tumor_cascade.data.volumes import Volume, hash_pixels, read_volume, volume_path, write_volume
from tumor_cascade.errors import DataError


@pytest.fixture
def patient(tmp_path: Path) -> tuple[Path, pd.DataFrame]:
    """Return the folder of one packed patient and its manifest rows."""
    rows = write_volumes(tmp_path, make_manifest(num_patients=1, num_slices=8))
    return tmp_path, rows


def test_read_volume__gives_back_what_was_written(tmp_path: Path) -> None:
    rows = make_manifest(num_patients=1, num_slices=3).assign(height_px=4, width_px=6)
    rng = np.random.default_rng(0)
    images, masks = rng.integers(0, 256, (3, 3, 4, 6), np.uint8), rng.integers(0, 2, (3, 4, 6), np.uint8)
    write_volume(tmp_path, Volume("AA_0000", images, masks))
    digests = {"image_sha256": list(map(hash_pixels, images)), "mask_sha256": list(map(hash_pixels, masks))}
    volume = read_volume(tmp_path, rows.assign(**digests))
    assert volume.patient_id == "AA_0000"
    np.testing.assert_array_equal(volume.images, images)
    assert volume.masks is not None
    np.testing.assert_array_equal(volume.masks, masks)
    assert volume.images.dtype == volume.masks.dtype == np.uint8


def test_read_volume__gives_memory_that_may_be_written_to(patient: tuple[Path, pd.DataFrame]) -> None:
    volume = read_volume(*patient)
    volume.images[0] = 0  # no memory map of the file
    assert read_volume(*patient).images[0].any()


def test_read_volume__without_masks(tmp_path: Path) -> None:
    rows = write_volumes(tmp_path, make_manifest(num_patients=1, has_mask=False))
    assert read_volume(tmp_path, rows).masks is None


def test_read_volume__missing_file(patient: tuple[Path, pd.DataFrame]) -> None:
    folder, rows = patient
    volume_path(folder, "AA_0000").unlink()
    with pytest.raises(DataError, match=r"AA_0000.npy cannot be read \(FileNotFoundError\); run ingest_data again"):
        read_volume(folder, rows)


@pytest.mark.parametrize("num_bytes", [0, 5, 100, 1000])
def test_read_volume__truncated_file(patient: tuple[Path, pd.DataFrame], num_bytes: int) -> None:
    folder, rows = patient
    path = volume_path(folder, "AA_0000")
    path.write_bytes(path.read_bytes()[:num_bytes])
    with pytest.raises(DataError, match=r"AA_0000\.npy cannot be read"):
        read_volume(folder, rows)


def test_read_volume__pickled_objects_are_not_loaded(patient: tuple[Path, pd.DataFrame]) -> None:
    folder, rows = patient
    np.save(volume_path(folder, "AA_0000"), np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"AA_0000\.npy cannot be read"):
        read_volume(folder, rows)


def test_read_volume__other_shape_or_type(patient: tuple[Path, pd.DataFrame]) -> None:
    folder, rows = patient
    path = volume_path(folder, "AA_0000")
    array = np.load(path)
    for wrong in (array[:-1], array[:, :3], array[..., :-1], array.astype(np.int16)):
        np.save(path, wrong)
        with pytest.raises(DataError, match=r"the manifest says uint8 \(8, 4, 64, 64\)"):
            read_volume(folder, rows)


@pytest.mark.parametrize("channel", [0, 3])
def test_read_volume__one_changed_pixel_is_found(patient: tuple[Path, pd.DataFrame], channel: int) -> None:
    folder, rows = patient
    path = volume_path(folder, "AA_0000")
    array = np.load(path)
    array[5, channel, 10, 10] ^= 1
    np.save(path, array)
    with pytest.raises(DataError, match=r"AA_0000\.npy: slice 5 has other pixels than the manifest's SHA-256"):
        read_volume(folder, rows)


def test_hash_pixels__is_of_the_values_in_c_order() -> None:
    # SHA-256 of the bytes 01 02 03 04.
    expected = "9f64a747e1b97f131fabb6b447296c9b6f0201e79fb3c5356e6c77e89b6a806a"
    pixels = np.array([[1, 2], [3, 4]], np.uint8)
    assert hash_pixels(pixels) == hash_pixels(np.asfortranarray(pixels)) == expected
