"""Signal of the phantom: what each tissue looks like in the three sequences of a made-up scanner."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tumor_cascade.data.phantom_anatomy import Layer
from tumor_cascade.data.phantom_fields import Map, sample_field

Signal = tuple[float, float, float]  # relative, in the sequences pre, FLAIR, post; 1 is about the brightest fat

TISSUES: dict[str, Signal] = {
    "air": (0.00, 0.00, 0.00),
    "fat": (0.95, 0.85, 0.90),
    "skull": (0.10, 0.07, 0.10),
    "muscle": (0.32, 0.24, 0.40),
    "eye": (0.16, 0.10, 0.17),
    "csf": (0.16, 0.09, 0.17),
    "white": (0.49, 0.38, 0.51),
    "grey": (0.35, 0.48, 0.39),
    "deep_grey": (0.42, 0.46, 0.45),
    "cap": (0.47, 0.74, 0.49),
    "spot": (0.47, 0.72, 0.49),
    "patch": (0.47, 0.66, 0.49),
    "choroid": (0.30, 0.55, 0.85),
    "dura": (0.30, 0.30, 0.80),
    "vessel": (0.22, 0.15, 0.95),
}


@dataclass(frozen=True)
class Institution:
    """A made-up scanner and its protocol.

    Attributes:
        name: Second field of its patients' ids.
        brightness: Grey level of relative signal 1.
        gammas: Exponent on the relative signal, per sequence: above 1 more contrast, below 1 less.
        noise: Standard deviation of the noise, in relative signal.
        fat: Factor on the signal of fat, per sequence; small where fat is suppressed.
    """

    name: str
    brightness: float
    gammas: tuple[float, float, float]
    noise: float
    fat: tuple[float, float, float]


INSTITUTIONS = (
    Institution("PA", 225.0, (1.0, 1.0, 1.0), 0.020, (1.0, 1.0, 1.0)),
    Institution("PB", 190.0, (0.7, 1.2, 0.8), 0.030, (1.0, 0.9, 0.5)),
    Institution("PC", 255.0, (1.3, 0.9, 1.2), 0.015, (0.9, 1.05, 1.0)),
    Institution("PD", 255.0, (0.9, 0.75, 1.0), 0.040, (1.05, 1.0, 0.8)),
)


def render_images(
    rng: np.random.Generator,
    institution: Institution,
    layers: Iterable[Layer],
    tissues: Mapping[str, Signal],
    shape: tuple[int, ...],
) -> NDArray[np.uint8]:
    """Paint tissues over each other and scan the result.

    Args:
        rng: Decides contrast jitter, brightness, bias field and noise of the patient.
        institution: Where the patient is scanned.
        layers: Tissues in painting order.
        tissues: Signal of each tissue that the layers name.
        shape: Z, H, W.

    Returns:
        uint8 `(Z, 3, H, W)`.
    """
    signal = np.zeros((3, *shape), np.float32)
    jitter = {tissue: rng.uniform(0.93, 1.07, size=3) for tissue in tissues}
    for tissue, share in layers:
        scanned = np.array(tissues[tissue]) * jitter[tissue] * (institution.fat if tissue == "fat" else 1.0)
        for sequence, level in zip(signal, scanned**institution.gammas, strict=True):
            sequence += share * (np.float32(level) - sequence)
    return _scan(rng, institution, signal)


def _scan(rng: np.random.Generator, institution: Institution, signal: Map) -> NDArray[np.uint8]:
    """Apply texture, bias field, Rician noise and windowing to `(3, Z, H, W)`; return uint8 `(Z, 3, H, W)`."""
    shape = signal.shape[1:]
    brightness = institution.brightness * 2.0 ** rng.uniform(-1.2, 0.5)
    bias = 1 + 0.10 * sample_field(rng, shape, (2, 2))
    texture = 0.04 * sample_field(rng, shape, (12, 40))
    images = np.empty((shape[0], 3, *shape[1:]), np.uint8)
    for number, sequence in enumerate(signal):
        noise = institution.noise * rng.uniform(0.7, 1.3)
        real = sequence * (bias + texture) + noise * rng.standard_normal(shape, dtype=np.float32)
        imaginary = noise * rng.standard_normal(shape, dtype=np.float32)
        magnitude = np.sqrt(real * real + imaginary * imaginary)
        level = brightness * rng.uniform(0.85, 1.15)
        # Windows are set so that air is black: what is below the noise floor is cut off.
        images[:, number] = np.clip((magnitude - 2.5 * noise) * level + 0.5, 0, 255)
    return images
