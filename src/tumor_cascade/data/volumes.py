"""Packed volumes: one uint8 `.npy` file per patient, memory-mappable, decoded once.

Shape `(Z, C, H, W)`: Z slices in order, channels pre, FLAIR, post and, where the patient has masks, the mask as {0, 1}.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tumor_cascade.data.manifest import SEQUENCES
from tumor_cascade.errors import DataError

NUM_SEQUENCES = len(SEQUENCES)


@dataclass(frozen=True)
class Volume:
    """The ordered slices of one patient.

    Attributes:
        patient_id: As in the manifest.
        images: uint8 `(Z, 3, H, W)`.
        masks: uint8 {0, 1} `(Z, H, W)`, or None where the source has no masks.
    """

    patient_id: str
    images: NDArray[np.uint8]
    masks: NDArray[np.uint8] | None


def volume_path(slices_dir: Path, patient_id: str) -> Path:
    """Return where the packed volume of a patient stands."""
    return slices_dir / f"{patient_id}.npy"


def write_volume(slices_dir: Path, volume: Volume) -> None:
    """Write a volume into `slices_dir` (a folder that the caller swaps in as a whole)."""
    parts = [volume.images] if volume.masks is None else [volume.images, volume.masks[:, None]]
    np.save(volume_path(slices_dir, volume.patient_id), np.concatenate(parts, axis=1), allow_pickle=False)


def read_volume(slices_dir: Path, rows: pd.DataFrame) -> Volume:
    """Return the volume that the manifest rows of one patient describe, every slice checked against its SHA-256.

    Args:
        slices_dir: Folder of packed volumes.
        rows: All manifest rows of one patient, in slice order.

    Raises:
        DataError: The file is missing or holds other pixels than the manifest says.
    """
    patient_id = str(rows["patient_id"].iloc[0])
    path = volume_path(slices_dir, patient_id)
    remedy = "run ingest_data again, or `dvc checkout`."
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, TokenError) as error:  # the last two: an empty file, a damaged header
        raise DataError(f"{path.name} cannot be read ({type(error).__name__}); {remedy}") from error
    has_mask = bool(rows["has_mask"].iloc[0])
    expected = (len(rows), NUM_SEQUENCES + has_mask, int(rows["height_px"].iloc[0]), int(rows["width_px"].iloc[0]))
    if array.dtype != np.uint8 or array.shape != expected:
        raise DataError(f"{path.name} is {array.dtype} {array.shape}; the manifest says uint8 {expected}; {remedy}")
    images, masks = np.array(array[:, :NUM_SEQUENCES]), np.array(array[:, NUM_SEQUENCES]) if has_mask else None
    for position, digests in enumerate(zip(rows["image_sha256"], rows["mask_sha256"], strict=True)):
        planes = (images[position], None if masks is None else masks[position])
        if digests != tuple("" if plane is None else hash_pixels(plane) for plane in planes):
            raise DataError(f"{path.name}: slice {position} has other pixels than the manifest's SHA-256; {remedy}")
    return Volume(patient_id, images, masks)


def hash_pixels(pixels: NDArray[np.uint8]) -> str:
    """Return the SHA-256 over the C-order bytes of an array."""
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()
