import math

import numpy as np
import pytest

from tumor_cascade.data.facts import describe_patient, describe_slice, find_real_sequences, hash_perceptually
from tumor_cascade.data.manifest import MANIFEST_SCHEMA
from tumor_cascade.data.source import SourcePatient, SourceSlice
from tumor_cascade.data.volumes import hash_pixels

SIZE = 16


def make_slice(number: int = 1, *, has_mask: bool = True) -> SourceSlice:
    """All 100 in FLAIR, 50 in pre, left half 20 and right half 220 in post; a 2x4 tumor away from the border."""
    image = np.empty((3, SIZE, SIZE), np.uint8)
    image[0], image[1] = 50, 100
    image[2, :, :8], image[2, :, 8:] = 20, 220
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[4:6, 4:8] = 1
    return SourceSlice(number, f"P_{number}.tif", image, mask if has_mask else None)


def make_noise(number: int, seed: int = 1) -> SourceSlice:
    image = np.random.default_rng(seed + number).integers(0, 256, (3, SIZE, SIZE), dtype=np.uint8)
    return SourceSlice(number, f"P_{number}.tif", image, None)


def test_describe_slice__intensities() -> None:
    facts = describe_slice(make_slice())
    assert (facts["pre_mean"], facts["pre_std"], facts["pre_p01"], facts["pre_p99"]) == (50, 0, 50, 50)
    # Half the pixels 20, half 220: mean 120, each 100 away from it.
    assert (facts["post_mean"], facts["post_std"], facts["post_p01"], facts["post_p99"]) == (120, 100, 20, 220)
    assert facts["foreground_share"] == 1
    # The four 8x8 corners of a 16x16 image are all of it: (50 + 100 + 120) / 3.
    assert facts["corner_mean"] == 90


def test_describe_slice__tumor() -> None:
    one = make_slice()
    one.image[1, 4, 4:6] = 10  # 2 of the 8 mask pixels are background in FLAIR
    one.image[1, 5, 4:8] = 200
    facts = describe_slice(one)
    assert (facts["tumor_area_px"], facts["has_tumor"], facts["has_border_mask"]) == (8, True, False)
    assert facts["mask_background_share"] == 0.25
    assert facts["tumor_mean_flair"] == (2 * 10 + 2 * 100 + 4 * 200) / 8
    assert facts["tissue_mean_flair"] == 100


@pytest.mark.parametrize("place", [(0, 5), (SIZE - 1, 5), (5, 0), (5, SIZE - 1)])
def test_describe_slice__mask_on_the_border(place: tuple[int, int]) -> None:
    one = make_slice()
    assert one.mask is not None
    one.mask[place] = 1
    assert describe_slice(one)["has_border_mask"]


def test_describe_slice__blank_and_without_mask() -> None:
    facts = describe_slice(SourceSlice(1, "P_1.tif", np.zeros((3, SIZE, SIZE), np.uint8), None))
    assert (facts["has_mask"], facts["has_tumor"], facts["tumor_area_px"], facts["mask_sha256"]) == (
        False,
        False,
        0,
        "",
    )
    assert (facts["foreground_share"], facts["mask_background_share"]) == (0, 0)
    undefined = ("tumor_mean_flair", "tissue_mean_flair", "pre_flair_correlation", "post_flair_correlation")
    assert all(math.isnan(facts[name]) for name in undefined)
    assert facts["perceptual_hash"] == "0" * 16


def test_describe_slice__correlations() -> None:
    one = make_noise(1)
    one.image[1, :, :8] = one.image[0, :, :8] = 0  # background in both: does not count
    one.image[0, :, 8:] = 255 - one.image[1, :, 8:]
    one.image[2] = one.image[1]
    facts = describe_slice(one)
    assert facts["pre_flair_correlation"] == pytest.approx(-1)
    assert facts["post_flair_correlation"] == pytest.approx(1)


def test_describe_slice__hashes_are_of_the_stored_pixels() -> None:
    one = make_slice()
    assert one.mask is not None
    facts = describe_slice(one)
    assert facts["image_sha256"] == hash_pixels(one.image)
    assert facts["mask_sha256"] == hash_pixels(one.mask)


def test_describe_patient__rows_fit_the_manifest() -> None:
    patient = SourcePatient("P", "CS", [make_slice(3), make_slice(7)], spacing_mm=0.5)
    rows = describe_patient(patient, has_patient_ids=False)
    assert [sorted(row) for row in rows] == [sorted(MANIFEST_SCHEMA.names)] * 2
    # A gap in the numbers is a fact, not a fault; the index counts rows of the array file.
    assert [(row["slice_number"], row["slice_index"]) for row in rows] == [(3, 0), (7, 1)]
    assert {(row["institution"], row["spacing_mm"], row["has_patient_ids"]) for row in rows} == {("CS", 0.5, False)}


def test_find_real_sequences__stand_in_on_every_slice() -> None:
    slices = [make_noise(1), make_noise(2)]
    for one in slices:
        one.image[0] = one.image[1]
    slices[0].image[2] = slices[0].image[1]  # post equals FLAIR on one slice only
    assert find_real_sequences(slices) == (False, True, True)


def test_describe_patient__source_knows_which_sequences_are_real() -> None:
    patient = SourcePatient("P", "CS", [make_noise(1)], is_sequence_real=(True, True, False))
    row = describe_patient(patient, has_patient_ids=True)[0]
    assert (row["is_pre_real"], row["is_post_real"]) == (True, False)


def count_bits(first: str, second: str) -> int:
    return (int(first, 16) ^ int(second, 16)).bit_count()


def test_hash_perceptually__near_and_far_pictures() -> None:
    rng = np.random.default_rng(5)
    pictures = [np.kron(rng.integers(0, 200, (8, 8)), np.ones((8, 8))).astype(np.uint8) for _ in range(2)]
    near = (pictures[0] + rng.integers(0, 6, (64, 64))).astype(np.uint8)
    hashes = [hash_perceptually(picture) for picture in (*pictures, near)]
    assert all(len(one) == 16 for one in hashes)
    assert count_bits(hashes[0], hashes[2]) <= 4
    # Unrelated pictures differ in half of the 63 free bits: 31.5 with a standard deviation of 4.
    assert count_bits(hashes[0], hashes[1]) >= 20
