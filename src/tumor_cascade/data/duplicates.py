"""Near-duplicate slices on two sides of a split: a hidden copy of a patient would be a leak that no id shows."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from tumor_cascade.data.manifest import NEAR_BLANK_SHARE, SEQUENCES
from tumor_cascade.data.volumes import read_volume

PAIRS_PER_BLOCK = 2**22
FLAIR = SEQUENCES.index("flair")


@dataclass(frozen=True)
class DuplicatePair:
    """Two slices in different groups that show the same picture.

    Attributes:
        patients: Their patient ids; equal where slices of one patient stand in two groups.
        slice_numbers: Their numbers in the source.
        folds: Their folds, -1 for the test set.
        correlation: Pearson over all FLAIR pixels; 1 where image bytes are equal.
    """

    patients: tuple[str, str]
    slice_numbers: tuple[int, int]
    folds: tuple[int, int]
    correlation: float

    @property
    def is_same_patient(self) -> bool:
        """Whether both slices are of one patient."""
        return self.patients[0] == self.patients[1]


def find_near_duplicates(
    manifest: pd.DataFrame, folds: NDArray[Any], slices_dir: Path, *, max_hash_distance: int, min_correlation: float
) -> list[DuplicatePair]:
    """Return pairs of slices in different folds (or a fold and the test set) whose FLAIR images nearly agree.

    Perceptual hashes propose, pixels decide.

    Args:
        manifest: One row per slice, in the order of patient and slice.
        folds: int `(N,)`, fold of each row.
        slices_dir: Folder of packed volumes.
        max_hash_distance: Differing bits of the 64-bit perceptual hash up to which a pair is looked at.
        min_correlation: Pearson correlation of the FLAIR pixels from which on it counts.
    """
    # Nearly blank slices all look alike and tell nothing about who was scanned.
    is_kept = (manifest["foreground_share"] >= NEAR_BLANK_SHARE).to_numpy()
    rows, kept_folds = manifest[is_kept].reset_index(drop=True), np.asarray(folds)[is_kept]
    _, images = np.unique(rows["image_sha256"].to_numpy(dtype=str), return_inverse=True)
    hashes = np.array([int(digits, 16) for digits in rows["perceptual_hash"]], dtype=np.uint64)
    patients, numbers = (rows[name].tolist() for name in ("patient_id", "slice_number"))
    candidates = partial(find_candidates, hashes, images, kept_folds, max_hash_distance)  # found twice, never all held
    compared = {row for pair in candidates() if images[pair[0]] != images[pair[1]] for row in pair}
    flair = read_flair(rows.loc[sorted(compared)], manifest, slices_dir)
    found = []
    for i, j in candidates():
        correlation = 1.0 if images[i] == images[j] else correlate_images(flair[i], flair[j])
        if correlation >= min_correlation:
            sides = (int(kept_folds[i]), int(kept_folds[j]))
            pair = DuplicatePair((patients[i], patients[j]), (numbers[i], numbers[j]), sides, round(correlation, 4))
            found.append(pair)
    return found


def read_flair(rows: pd.DataFrame, manifest: pd.DataFrame, slices_dir: Path) -> dict[int, NDArray[np.uint8]]:
    """Return the FLAIR image of each row, by the row's label; of volumes, read one at a time, nothing else is kept."""
    flair: dict[int, NDArray[np.uint8]] = {}
    for patient_id, wanted in rows.groupby("patient_id"):
        volume = read_volume(slices_dir, manifest[manifest["patient_id"] == patient_id])
        for row, place in zip(wanted.index.tolist(), wanted["slice_index"], strict=True):
            flair[row] = volume.images[place, FLAIR].copy()
    return flair


def find_candidates(
    hashes: NDArray[np.uint64], images: NDArray[Any], folds: NDArray[Any], max_hash_distance: int
) -> Iterator[tuple[int, int]]:
    """Yield sorted index pairs i < j in different folds with near hashes or equal images, block by block.

    Args:
        hashes: `(N,)`, 64 bits each.
        images: `(N,)`, equal numbers for equal image bytes.
        folds: `(N,)`.
        max_hash_distance: Largest number of differing bits.
    """
    block = max(1, PAIRS_PER_BLOCK // max(1, len(hashes)))
    for start in range(0, len(hashes), block):
        part = slice(start, start + block)
        is_near = np.bitwise_count(hashes[part, None] ^ hashes[None, start:]) <= max_hash_distance
        is_near |= images[part, None] == images[None, start:]
        is_near &= folds[part, None] != folds[None, start:]
        for i, j in np.argwhere(np.triu(is_near, k=1)):
            yield start + int(i), start + int(j)


def correlate_images(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Return the Pearson correlation of two images `(H, W)`; 0 where one is flat.

    Where sizes differ both are averaged down to the smaller.
    """
    height, width = (min(sides) for sides in zip(first.shape, second.shape, strict=True))
    a, b = (
        np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize((width, height), Image.Resampling.BOX), float)
        for image in (first, second)
    )
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm > 0 else 0.0


def describe_leaks(pairs: list[DuplicatePair]) -> list[str]:
    """Return one line per two different patients that share pictures across the split."""
    by_patients: dict[tuple[str, str], list[DuplicatePair]] = {}
    for pair in pairs:
        if not pair.is_same_patient:
            by_patients.setdefault(pair.patients, []).append(pair)
    lines = []
    for (first, second), shared in sorted(by_patients.items()):
        best = max(shared, key=lambda pair: pair.correlation)
        lines.append(
            f"patients {first} ({name_fold(best.folds[0])}) and {second} ({name_fold(best.folds[1])}) share "
            f"{len(shared)} nearly identical slice(s), e.g. {best.slice_numbers[0]} and {best.slice_numbers[1]} with "
            f"correlation {best.correlation:.4f}; one person must stand on one side of the split: remove one of the "
            "two from the raw data."
        )
    return lines


def name_fold(fold: int) -> str:
    """Return how messages call a fold."""
    return "test" if fold < 0 else f"development fold {fold}"
