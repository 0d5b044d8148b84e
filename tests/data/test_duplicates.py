"""The near-duplicate scan."""

import time
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from manifests import SIZE_PX, make_manifest, write_volumes
from tumor_cascade.data.duplicates import (
    DuplicatePair,
    correlate_images,
    describe_leaks,
    find_candidates,
    find_near_duplicates,
)
from tumor_cascade.data.volumes import hash_pixels

RULES = {"max_hash_distance": 4, "min_correlation": 0.985}


def plant(slices_dir: Path, manifest: pd.DataFrame, source: int, target: int, noise: float = 0.0) -> pd.DataFrame:
    """Copy the image of one manifest row over that of another, with noise, and tell the manifest."""
    manifest = manifest.copy()
    (from_id, from_index), (to_id, to_index) = (
        manifest.loc[row, ["patient_id", "slice_index"]] for row in (source, target)
    )
    image = np.load(slices_dir / f"{from_id}.npy")[from_index, :3].astype(float)
    image = np.clip(image + np.random.default_rng(5).normal(0, noise, image.shape), 0, 255).astype(np.uint8)
    array = np.load(slices_dir / f"{to_id}.npy")
    array[to_index, :3] = image
    np.save(slices_dir / f"{to_id}.npy", array)
    manifest.loc[target, "image_sha256"] = hash_pixels(image)
    # the last hex digit flipped by one bit: distance 1, as a re-encoded picture has
    digits = manifest.loc[source, "perceptual_hash"]
    manifest.loc[target, "perceptual_hash"] = digits[:-1] + f"{int(digits[-1], 16) ^ 1:x}"
    return manifest


@pytest.fixture
def cohort(tmp_path: Path) -> tuple[Path, pd.DataFrame]:
    """Four patients of ten slices of noise."""
    return tmp_path, write_volumes(tmp_path, make_manifest(4, 10))


def folds_of(manifest: pd.DataFrame) -> "np.ndarray":  # type: ignore[type-arg]
    """Put patient p (in sorted order) into fold p - 1: the first is the test set."""
    return pd.factorize(manifest["patient_id"])[0] - 1


def test_find_near_duplicates__clean(cohort: tuple[Path, pd.DataFrame]) -> None:
    slices_dir, manifest = cohort
    assert find_near_duplicates(manifest, folds_of(manifest), slices_dir, **RULES) == []


def test_find_near_duplicates__noisy_copy_in_another_patient(cohort: tuple[Path, pd.DataFrame]) -> None:
    slices_dir, manifest = cohort
    manifest = plant(slices_dir, manifest, source=2, target=25, noise=5.0)
    [pair] = find_near_duplicates(manifest, folds_of(manifest), slices_dir, **RULES)
    assert pair.patients == ("AA_0000", "BB_0001")
    assert pair.slice_numbers == (3, 6)
    assert pair.folds == (-1, 1)
    # noise of SD 5 on uniform noise of SD 74: 1 / sqrt(1 + (5 / 74)^2) = 0.998, a little more by clipping
    assert pair.correlation == pytest.approx(0.998, abs=0.001)


def test_find_near_duplicates__near_hash_but_other_pixels(cohort: tuple[Path, pd.DataFrame]) -> None:
    slices_dir, manifest = cohort
    manifest.loc[25, "perceptual_hash"] = manifest.loc[2, "perceptual_hash"]
    assert find_near_duplicates(manifest, folds_of(manifest), slices_dir, **RULES) == []


def test_find_near_duplicates__exact_copy_counts_whatever_its_hash(cohort: tuple[Path, pd.DataFrame]) -> None:
    slices_dir, manifest = cohort
    far = manifest.loc[25, "perceptual_hash"]
    manifest = plant(slices_dir, manifest, source=2, target=25)
    manifest.loc[25, "perceptual_hash"] = far
    [pair] = find_near_duplicates(manifest, folds_of(manifest), slices_dir, **RULES)
    assert pair.correlation == 1.0


def test_find_near_duplicates__nearly_blank_slices_left_out(cohort: tuple[Path, pd.DataFrame]) -> None:
    slices_dir, manifest = cohort
    manifest = plant(slices_dir, manifest, source=2, target=25)
    manifest.loc[25, "foreground_share"] = 0.009
    assert find_near_duplicates(manifest, folds_of(manifest), slices_dir, **RULES) == []


def test_find_near_duplicates__same_fold_is_no_leak(cohort: tuple[Path, pd.DataFrame]) -> None:
    slices_dir, manifest = cohort
    manifest = plant(slices_dir, manifest, source=2, target=25)
    assert find_near_duplicates(manifest, np.zeros(len(manifest), dtype=int), slices_dir, **RULES) == []


def test_find_near_duplicates__slices_of_one_patient_in_two_folds(cohort: tuple[Path, pd.DataFrame]) -> None:
    slices_dir, manifest = cohort
    manifest = plant(slices_dir, manifest, source=2, target=3)
    [pair] = find_near_duplicates(manifest, np.arange(len(manifest)) % 2, slices_dir, **RULES)
    assert pair.is_same_patient
    assert describe_leaks([pair]) == []


def test_find_near_duplicates__pairs_are_those_of_a_plain_loop(cohort: tuple[Path, pd.DataFrame]) -> None:
    slices_dir, manifest = cohort
    for source, target, noise in ((2, 25, 5.0), (3, 26, 0.0), (4, 31, 40.0), (12, 33, 2.0), (13, 5, 9.0)):
        manifest = plant(slices_dir, manifest, source, target, noise)
    arrays = {name: np.load(slices_dir / f"{name}.npy")[:, 1] for name in manifest["patient_id"].unique()}
    flair = [arrays[name][index] for name, index in zip(manifest["patient_id"], manifest["slice_index"], strict=True)]
    hashes, digests = ([*manifest[name]] for name in ("perceptual_hash", "image_sha256"))
    folds, expected = folds_of(manifest), []
    for i in range(len(manifest)):
        for j in range(i + 1, len(manifest)):
            is_equal = digests[i] == digests[j]
            is_near = (int(hashes[i], 16) ^ int(hashes[j], 16)).bit_count() <= 4
            if folds[i] != folds[j] and (is_near or is_equal):
                correlation = 1.0 if is_equal else correlate_images(flair[i], flair[j])
                if correlation >= 0.985:
                    ids, numbers = (
                        tuple(manifest.loc[[i, j], name].tolist()) for name in ("patient_id", "slice_number")
                    )
                    expected.append(DuplicatePair(ids, numbers, (folds[i], folds[j]), round(correlation, 4)))
    assert len(expected) == 4  # noise of SD 40 is another picture
    assert find_near_duplicates(manifest, folds, slices_dir, **RULES) == expected


def test_find_near_duplicates__holds_the_compared_slices_alone(tmp_path: Path) -> None:
    manifest = write_volumes(tmp_path, make_manifest(24, 10))
    manifest["perceptual_hash"] = "0" * 16  # every slice is like every other one, up to its pixels
    keep = manifest["slice_index"] == 0  # but for most, which are nearly blank
    manifest.loc[~keep, "foreground_share"] = 0.0
    num_bytes = sum(path.stat().st_size for path in tmp_path.glob("*.npy"))
    tracemalloc.start()
    assert find_near_duplicates(manifest, folds_of(manifest), tmp_path, **RULES) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < num_bytes / 3


def test_describe_leaks__one_line_per_two_patients(cohort: tuple[Path, pd.DataFrame]) -> None:
    slices_dir, manifest = cohort
    manifest = plant(slices_dir, manifest, source=2, target=25, noise=9.0)
    manifest = plant(slices_dir, manifest, source=3, target=26)
    [line] = describe_leaks(find_near_duplicates(manifest, folds_of(manifest), slices_dir, **RULES))
    assert line.startswith(
        "patients AA_0000 (test) and BB_0001 (development fold 1) share 2 nearly identical slice(s), "
    )
    assert "e.g. 4 and 7 with correlation 1.0000" in line
    assert line.endswith("remove one of the two from the raw data.")


def test_find_candidates__equal_to_a_plain_loop() -> None:
    rng = np.random.default_rng(3)
    hashes = rng.integers(0, 2**64, 60, dtype=np.uint64)
    hashes[40:] = hashes[:20] ^ np.uint64(1) << rng.integers(0, 64, 20, dtype=np.uint64)  # 20 pairs at distance 1
    images, folds = np.arange(60), rng.integers(-1, 3, 60)
    images[30] = images[10]
    expected = [
        (i, j)
        for i in range(60)
        for j in range(i + 1, 60)
        if folds[i] != folds[j] and ((int(hashes[i]) ^ int(hashes[j])).bit_count() <= 4 or images[i] == images[j])
    ]
    assert len(expected) > 5
    assert list(find_candidates(hashes, images, folds, 4)) == expected


def test_find_candidates__ten_thousand_slices_in_seconds() -> None:
    hashes = np.random.default_rng(3).integers(0, 2**64, 10_000, dtype=np.uint64)
    start = time.perf_counter()
    assert list(find_candidates(hashes, np.arange(10_000), np.arange(10_000) % 5, 4)) == []
    assert time.perf_counter() - start < 10


def test_correlate_images__flat_resized_and_inverted() -> None:
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (SIZE_PX, 1))
    assert correlate_images(ramp, ramp) == pytest.approx(1.0)
    assert correlate_images(ramp, 255 - ramp) == pytest.approx(-1.0)
    assert correlate_images(ramp, ramp.repeat(2, axis=0).repeat(2, axis=1)) == pytest.approx(1.0)
    assert correlate_images(ramp, np.full_like(ramp, 7)) == 0.0
