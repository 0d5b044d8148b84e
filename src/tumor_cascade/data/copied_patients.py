"""A second cohort in which patients stand twice: copies under other ids, altered as re-exported data are."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tumor_cascade.data.facts import describe_patient
from tumor_cascade.data.manifest import MANIFEST_SCHEMA
from tumor_cascade.data.source import SourcePatient, SourceSlice
from tumor_cascade.data.split import SLICE_KEY, TEST_FOLD
from tumor_cascade.data.volumes import Volume, read_volume, volume_path, write_volume

Alteration = Callable[[NDArray[np.float64]], NDArray[np.float64]]

COPY_SUFFIX = "_copy"
NOISE_STD = 5.0


def add_noise(images: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return images with seeded Gaussian noise."""
    return images + np.random.default_rng(1).normal(0, NOISE_STD, images.shape)


# What a copy went through, images in gray levels `(Z, 3, H, W)`. The last two show where a search for copies ends.
ALTERATIONS: dict[str, Alteration] = {
    "unchanged": lambda images: images,
    "brighter by 20 gray levels": lambda images: images + 20,
    "contrast x 0.7": lambda images: 0.7 * images,
    "gamma 0.8": lambda images: 255 * (images / 255) ** 0.8,
    f"noise of {NOISE_STD:g} gray levels": add_noise,
    "shifted by 1 px": lambda images: np.roll(images, 1, axis=-1),
    "mirrored": lambda images: images[..., ::-1],
}


def write_cohort_with_copies(
    folder: Path, slices: Path, rows: pd.DataFrame, patients: Sequence[str], alter: Alteration
) -> pd.DataFrame:
    """Fill a folder with links to all volumes and with altered copies of some; return the manifest of both.

    Args:
        folder: Empty; becomes a folder of packed volumes.
        slices: Folder of packed volumes; read only.
        rows: Its manifest.
        patients: Whom to copy.
        alter: What the copies' images go through; the result is rounded and clipped to gray levels.
    """
    for patient_id in rows["patient_id"].unique():
        volume_path(folder, patient_id).symlink_to(volume_path(slices, patient_id).resolve())
    copies = [copy_patient(folder, slices, rows[rows["patient_id"] == patient], alter) for patient in patients]
    return pd.concat([rows, *copies]).sort_values(SLICE_KEY, ignore_index=True)


def copy_patient(folder: Path, slices: Path, rows: pd.DataFrame, alter: Alteration) -> pd.DataFrame:
    """Write an altered copy of one patient's volume into a folder; return its manifest rows."""
    volume = read_volume(slices, rows)
    images = np.clip(np.round(alter(volume.images.astype(float))), 0, 255).astype(np.uint8)
    masks = [None] * len(images) if volume.masks is None else list(volume.masks)
    parts = zip(rows["slice_number"], rows["source_name"], images, masks, strict=True)
    patient_id = volume.patient_id + COPY_SUFFIX
    patient = SourcePatient(patient_id, str(rows["institution"].iloc[0]), [SourceSlice(*part) for part in parts])
    write_volume(folder, Volume(patient_id, images, volume.masks))
    return pd.DataFrame(describe_patient(patient, has_patient_ids=True), columns=MANIFEST_SCHEMA.names)


def deal_copies(splits: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the splits of a cohort with copies: each goes to the test set, or to fold 0 if its original is there.

    Args:
        splits: Of the cohort without copies.
        rows: Manifest with copies.
    """
    originals = rows[SLICE_KEY].assign(patient_id=rows["patient_id"].str.removesuffix(COPY_SUFFIX))
    dealt = originals.merge(splits, on=SLICE_KEY, how="left", validate="many_to_one")
    is_copy = rows["patient_id"] != originals["patient_id"]
    other_side = np.where(dealt["fold"] == TEST_FOLD, 0, TEST_FOLD)
    return dealt.assign(patient_id=rows["patient_id"], fold=dealt["fold"].where(~is_copy, other_side))
