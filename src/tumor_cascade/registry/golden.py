"""Golden inputs and answers: a small phantom volume, and what the cascade said of it when it was packed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from tumor_cascade.data.phantom import generate_patient
from tumor_cascade.errors import DataError
from tumor_cascade.models.cascade import Cascade
from tumor_cascade.params import PhantomParams
from tumor_cascade.product import load_cascade

GOLDEN_NAME = "golden.safetensors"
GOLDEN_PATIENT = 1
GOLDEN_PHANTOM = PhantomParams(num_patients=4, num_slices=8, image_size_px=96, seed=1)


@dataclass(frozen=True)
class Deviation:
    """How far answers are from the golden ones.

    Attributes:
        probability: Largest difference of a slice's probability.
        mask_px: Pixels that differ, over all slices.
    """

    probability: float
    mask_px: int


def write_golden(folder: Path, cascade: Path) -> None:
    """Write a small generated volume, and a packed cascade's answers to it, into a folder to make."""
    images = np.stack([one.image for one in generate_patient(GOLDEN_PHANTOM, GOLDEN_PATIENT).slices])
    folder.mkdir(parents=True)
    save_file({"images": images, **answer(load_cascade(cascade), images)}, folder / GOLDEN_NAME)


def answer(cascade: Cascade, images: Any) -> dict[str, Any]:
    """Return `probabilities` `(Z,)` and `masks` uint8 `(Z, H, W)` of uint8 images `(Z, 3, H, W)`."""
    prediction = cascade.predict_volume(images)
    return {"probabilities": prediction.probabilities, "masks": prediction.masks.astype(np.uint8)}


def read_golden(folder: Path) -> dict[str, Any]:
    """Return `images`, `probabilities` and `masks`.

    Raises:
        DataError: The file is missing or damaged.
    """
    try:
        golden: dict[str, Any] = load_file(folder / GOLDEN_NAME)
    except (OSError, SafetensorError) as error:
        raise DataError(f"golden answers cannot be read ({error}); the version is damaged.") from error
    return golden


def measure_deviation(golden: dict[str, Any], answers: dict[str, Any]) -> Deviation:
    """Compare answers with the golden ones."""
    probabilities = [np.asarray(one["probabilities"], dtype=float) for one in (golden, answers)]
    return Deviation(
        probability=float(np.abs(probabilities[0] - probabilities[1]).max()),
        mask_px=int((golden["masks"] != answers["masks"]).sum()),
    )
