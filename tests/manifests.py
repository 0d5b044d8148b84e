"""A clean manifest of made-up patients, and packed volumes to go with it."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tumor_cascade.data.manifest import MANIFEST_SCHEMA, SEQUENCES
from tumor_cascade.data.volumes import Volume, hash_pixels, write_volume

SIZE_PX = 64


def make_manifest(
    num_patients: int = 6, num_slices: int = 10, institutions: Sequence[str] = ("AA", "BB"), has_mask: bool = True
) -> pd.DataFrame:
    """Return a manifest that breaks no rule: institutions in turn, slices 4 to 6 of each patient with tumor.

    A tumor slice of patient p has an area of 100 + 10 p pixels; p counts from 0.
    """
    rows = []
    for patient in range(num_patients):
        institution = institutions[patient % len(institutions)]
        for index in range(num_slices):
            rows.append(_make_row(f"{institution}_{patient:04d}", institution, patient, index, has_mask))
    manifest = pd.DataFrame(rows)[MANIFEST_SCHEMA.names].sort_values(["patient_id", "slice_index"], ignore_index=True)
    types = {field.name: field.type.to_pandas_dtype() for field in MANIFEST_SCHEMA if field.type != "string"}
    return manifest.astype(types)


def write_volumes(slices_dir: Path, manifest: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Write noise as packed volumes for a manifest; return the manifest with the hashes of these pixels."""
    slices_dir.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    parts = []
    for patient_id, rows in manifest.groupby("patient_id"):
        shape = (len(rows), int(rows["height_px"].iloc[0]), int(rows["width_px"].iloc[0]))
        images = rng.integers(0, 256, (shape[0], len(SEQUENCES), *shape[1:]), dtype=np.uint8)
        masks = np.zeros(shape, dtype=np.uint8)
        for mask, area in zip(masks, rows["tumor_area_px"], strict=True):
            mask.flat[: int(area)] = 1
        has_mask = bool(rows["has_mask"].iloc[0])
        write_volume(slices_dir, Volume(str(patient_id), images, masks if has_mask else None))
        digests = {"image_sha256": [hash_pixels(image) for image in images]}
        digests["mask_sha256"] = [hash_pixels(mask) if has_mask else "" for mask in masks]
        parts.append(rows.assign(**digests))
    return pd.concat(parts, ignore_index=True)


def _make_row(patient_id: str, institution: str, patient: int, index: int, has_mask: bool) -> dict[str, object]:
    has_tumor = has_mask and 3 <= index <= 5
    digest = hashlib.sha256(f"{patient_id}:{index}".encode()).hexdigest()
    intensities = {"mean": 40.0 + patient % 3, "std": 30.0, "p01": 0.0, "p99": 150.0}
    return {
        "patient_id": patient_id,
        "institution": institution,
        "slice_number": index + 1,
        "slice_index": index,
        "source_name": f"{patient_id}_{index + 1}.tif",
        "height_px": SIZE_PX,
        "width_px": SIZE_PX,
        "has_mask": has_mask,
        "tumor_area_px": 100 + 10 * patient if has_tumor else 0,
        "has_tumor": has_tumor,
        "has_border_mask": False,
        "mask_background_share": 0.0,
        "tumor_mean_flair": 150.0 if has_tumor else np.nan,
        "tissue_mean_flair": 80.0,
        "is_pre_real": True,
        "is_post_real": True,
        **{f"{name}_{fact}": value for name in SEQUENCES for fact, value in intensities.items()},
        "foreground_share": 0.5,
        "corner_mean": 0.0,
        "pre_flair_correlation": 0.4,
        "post_flair_correlation": 0.5,
        "spacing_mm": np.nan,
        "image_sha256": digest,
        "mask_sha256": hashlib.sha256(b"mask" + digest.encode()).hexdigest() if has_mask else "",
        "perceptual_hash": digest[:16],
        "has_patient_ids": True,
    }
