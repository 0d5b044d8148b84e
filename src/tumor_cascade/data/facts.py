"""The facts that the manifest states about a slice. What they mean is judged by `validate_data`, never here."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

from tumor_cascade.data.manifest import SEQUENCES
from tumor_cascade.data.source import SourcePatient, SourceSlice
from tumor_cascade.data.volumes import hash_pixels

PRE, FLAIR, POST = range(3)
FOREGROUND_LEVEL = 10  # grey level above which a pixel counts as head
CORNER_PX = 8
HASH_SIDE_PX = 32
HASH_FREQUENCIES = 8


def describe_patient(patient: SourcePatient, *, has_patient_ids: bool) -> list[dict[str, Any]]:
    """Return the manifest rows of a patient, one per slice, in order.

    Args:
        patient: All slices, in order of their number.
        has_patient_ids: Whether the source knows which slices belong to one patient.
    """
    is_pre_real, _, is_post_real = patient.is_sequence_real or find_real_sequences(patient.slices)
    shared = {
        "patient_id": patient.patient_id,
        "institution": patient.institution,
        "is_pre_real": is_pre_real,
        "is_post_real": is_post_real,
        "spacing_mm": math.nan if patient.spacing_mm is None else patient.spacing_mm,
        "has_patient_ids": has_patient_ids,
    }
    return [{**shared, "slice_index": index, **describe_slice(one)} for index, one in enumerate(patient.slices)]


def find_real_sequences(slices: list[SourceSlice]) -> tuple[bool, bool, bool]:
    """Tell per sequence whether it is real: one that equals FLAIR on every slice of a patient is a stand-in."""
    is_pre_real, is_post_real = (
        not all(np.array_equal(one.image[channel], one.image[FLAIR]) for one in slices) for channel in (PRE, POST)
    )
    return is_pre_real, True, is_post_real


def describe_slice(one: SourceSlice) -> dict[str, Any]:
    """Return the facts that follow from one slice alone, by manifest column."""
    _, height, width = one.image.shape
    return {
        "slice_number": one.slice_number,
        "source_name": one.name,
        "height_px": height,
        "width_px": width,
        "has_mask": one.mask is not None,
        "image_sha256": hash_pixels(one.image),
        "mask_sha256": "" if one.mask is None else hash_pixels(one.mask),
        "perceptual_hash": hash_perceptually(one.image[FLAIR]),
        **_describe_mask(one.image[FLAIR], np.zeros((height, width), bool) if one.mask is None else one.mask > 0),
        **_describe_intensities(one.image),
    }


def hash_perceptually(plane: NDArray[np.uint8]) -> str:
    """Return a 64-bit DCT hash as 16 hex digits: near-identical pictures differ in few bits.

    The plane is resized to 32x32; a bit says whether one of the 8x8 lowest frequencies exceeds their median (the mean
    level left out of it). Blank planes give 0.

    Source: Zauner, "Implementation and benchmarking of perceptual image hash functions" (2010), section 3.2.1.
    """
    small = Image.fromarray(plane).resize((HASH_SIDE_PX, HASH_SIDE_PX), Image.Resampling.LANCZOS)
    # Rounded, so that the last bits of a float, which differ between CPUs, decide nothing.
    low = dctn(np.asarray(small, dtype=np.float64), norm="ortho")[:HASH_FREQUENCIES, :HASH_FREQUENCIES].round(6).ravel()
    bits = low > np.median(low[1:])
    return f"{int(''.join('1' if bit else '0' for bit in bits), 2):016x}"


def _describe_mask(flair: NDArray[np.uint8], is_tumor: NDArray[np.bool_]) -> dict[str, Any]:
    area = int(is_tumor.sum())
    tumor, tissue = flair[is_tumor], flair[~is_tumor & (flair > FOREGROUND_LEVEL)]
    border = (is_tumor[0], is_tumor[-1], is_tumor[:, 0], is_tumor[:, -1])
    return {
        "tumor_area_px": area,
        "has_tumor": area > 0,
        "has_border_mask": any(bool(edge.any()) for edge in border),
        "mask_background_share": float((tumor <= FOREGROUND_LEVEL).mean()) if area else 0.0,
        "tumor_mean_flair": float(tumor.mean()) if area else math.nan,
        "tissue_mean_flair": float(tissue.mean()) if tissue.size else math.nan,
    }


def _describe_intensities(image: NDArray[np.uint8]) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for name, plane in zip(SEQUENCES, image, strict=True):
        p01, p99 = np.percentile(plane, [1, 99])
        facts |= {f"{name}_mean": plane.mean(), f"{name}_std": plane.std(), f"{name}_p01": p01, f"{name}_p99": p99}
    edges = (slice(None, CORNER_PX), slice(-CORNER_PX, None))
    corners = [image[:, rows, columns] for rows in edges for columns in edges]
    return {
        **{fact: float(value) for fact, value in facts.items()},
        "foreground_share": float((image[FLAIR] > FOREGROUND_LEVEL).mean()),
        "corner_mean": float(np.mean(corners)),
        "pre_flair_correlation": _correlate(image[PRE], image[FLAIR]),
        "post_flair_correlation": _correlate(image[POST], image[FLAIR]),
    }


def _correlate(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Return Pearson's r over pixels that are foreground in either plane; NaN where a plane is constant there."""
    is_foreground = (first > FOREGROUND_LEVEL) | (second > FOREGROUND_LEVEL)
    a, b = first[is_foreground].astype(np.float64), second[is_foreground].astype(np.float64)
    if a.size == 0 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / math.sqrt((a * a).sum() * (b * b).sum()))
