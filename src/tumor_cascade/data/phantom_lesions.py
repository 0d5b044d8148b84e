"""Lesions of the phantom: one tumor per patient, and bright structures that are no tumor."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tumor_cascade.data.phantom_anatomy import (
    BASE_HEIGHT,
    BRAIN,
    Anatomy,
    Layer,
    Point,
    map_parenchyma,
    measure_depth,
)
from tumor_cascade.data.phantom_fields import Map, sample_field, soften

MIN_POSITIVE_SLICES = 3
MIN_ROOM = 0.4  # share of a tumor's ellipsoid that must lie in brain tissue
MAX_ATTEMPTS = 100


@dataclass(frozen=True)
class Tumor:
    """One connected tumor and how it looks.

    Attributes:
        mask: bool `(Z, H, W)`: one 26-connected component, never on the first slice.
        layers: What to paint, in order.
        signals: Relative signal (pre, FLAIR, post) of the tissues that the layers name.
        center: In head coordinates.
    """

    mask: NDArray[np.bool_]
    layers: list[Layer]
    signals: Mapping[str, tuple[float, float, float]]
    center: Point


def grow_tumor(rng: np.random.Generator, anatomy: Anatomy, size: float) -> Tumor:
    """Place a tumor of irregular shape in the brain; it spares ventricles.

    Args:
        rng: Decides place, shape and appearance.
        anatomy: The patient's head.
        size: In [0, 1): quantile of the log-uniform distribution of sizes.
    """
    shape, spacing = anatomy.depth.shape, float(anatomy.h[1, 0, 0] - anatomy.h[0, 0, 0])
    parenchyma = map_parenchyma(anatomy)
    roughness = 0.22 * sample_field(rng, shape, (6, 9)) + 0.10 * sample_field(rng, shape, (10, 24))
    radius, blur = 0.10 * (0.38 / 0.10) ** size, rng.uniform(0.1, 0.4)
    for _ in range(MAX_ATTEMPTS):
        center = draw_place(rng, anatomy)
        height = max((0.065 + 0.43 * radius) * rng.uniform(0.85, 1.2), MIN_POSITIVE_SLICES / 1.5 * spacing)
        radii = (radius * rng.uniform(0.8, 1.25), radius * rng.uniform(0.8, 1.25), height)
        reach = 1 - measure_depth(anatomy, center, radii) / min(radii) + roughness  # below 1 inside
        share = soften(1 - reach, blur) * parenchyma
        share[0] = 0
        mask = _find_largest_component(share >= 0.5)
        num_voxels = 4 / 3 * math.pi * math.prod(radii) / (anatomy.pixel**2 * spacing)  # of the whole ellipsoid
        if np.count_nonzero(mask.any(axis=(1, 2))) >= MIN_POSITIVE_SLICES and mask.sum() > MIN_ROOM * num_voxels:
            break
    else:
        raise RuntimeError(f"no room for a tumor of size {size} in {MAX_ATTEMPTS} attempts")
    share[(share >= 0.5) & ~mask] = 0  # islands would be tumor without a mask
    layers, signals = _draw_appearance(rng, share, reach)
    return Tumor(mask, layers, signals, center)


def draw_place(rng: np.random.Generator, anatomy: Anatomy) -> Point:
    """Return a point in one of the hemispheres."""
    h = rng.uniform(0.22, 0.86)
    dome, base = max(h - 0.42, 0) / 0.58, max(BASE_HEIGHT - h, 0) / BASE_HEIGHT
    reach = math.sqrt(BRAIN**2 - dome**2) * (1 - 0.45 * base)
    x = draw_side(rng) * rng.uniform(0.25, 0.75) * reach * anatomy.half_axes[0]
    return x, rng.uniform(-0.65, 0.65) * reach * anatomy.half_axes[1] + 0.25 * base, h


def draw_side(rng: np.random.Generator) -> int:
    """Return -1 or 1: a hemisphere."""
    return -1 if rng.random() < 0.5 else 1


def _find_largest_component(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    labels, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    counts = np.bincount(labels.ravel())
    counts[0] = 0
    largest: NDArray[np.bool_] = labels == counts.argmax()
    return largest & mask


def _draw_appearance(
    rng: np.random.Generator, share: Map, reach: Map
) -> tuple[list[Layer], dict[str, tuple[float, float, float]]]:
    """Draw edema (bright on FLAIR, dark on pre), and at times a core and an enhancing rim around it."""
    pre, flair, post = rng.uniform(0.26, 0.38), rng.uniform(0.56, 0.80), rng.uniform(0.32, 0.42)
    signals = {"edema": (pre, flair, post)}
    layers = [("edema", share)]
    if rng.random() < 0.6:  # a core, which at times is a cyst
        size = rng.uniform(0.3, 0.6)
        signals["core"] = (pre * 0.65, rng.uniform(0.15, 0.35) if rng.random() < 0.3 else flair + 0.05, post * 0.65)
        layers.append(("core", soften(size - reach, 0.15) * share))
        if rng.random() < 0.6:
            signals["rim"] = (pre, flair, rng.uniform(0.7, 1.0))
            layers.append(("rim", soften(0.08 - np.abs(reach - size), 0.1) * share))
    return layers, signals


def draw_mimics(rng: np.random.Generator, anatomy: Anatomy, tumor: Tumor) -> Iterator[Layer]:
    """Yield what is bright on FLAIR or post and no tumor; on pre it looks like white matter."""
    parenchyma = map_parenchyma(anatomy)
    window = max(3, round(0.09 / anatomy.pixel))
    halo = ndimage.uniform_filter(anatomy.ventricles, (1, window, window))
    ends = soften(np.abs(anatomy.y - 0.03) - 0.17, 0.1)  # of the lateral ventricles
    yield "cap", soften(halo - 0.2, 0.2) * ends * parenchyma * rng.uniform(0.0, 1.0)
    for _ in range(rng.integers(2, 12)):
        center = (draw_side(rng) * rng.uniform(0.14, 0.42), rng.uniform(-0.5, 0.5), rng.uniform(0.46, 0.80))
        radius = rng.uniform(0.015, 0.04)
        yield _draw_ball(anatomy, "spot", center, (radius, radius, rng.uniform(0.03, 0.05)), parenchyma)
    if rng.random() < 0.7:  # as large as a small tumor, but as bright as tissue on pre and post
        x, y, h = draw_place(rng, anatomy)
        radius = rng.uniform(0.06, 0.13)
        center = (-math.copysign(x, tumor.center[0]), y, h)
        radii = (radius, radius * rng.uniform(0.7, 1.4), rng.uniform(0.05, 0.11))
        yield _draw_ball(anatomy, "patch", center, radii, parenchyma)
    if rng.random() < 0.5:  # flow artefact at the base
        center = (rng.uniform(-0.2, 0.2), rng.uniform(0.1, 0.4), rng.uniform(0.12, 0.26))
        radii = (rng.uniform(0.08, 0.16), rng.uniform(0.05, 0.10), 0.06)
        yield _draw_ball(anatomy, "patch", center, radii, parenchyma)


def draw_vessels(rng: np.random.Generator, anatomy: Anatomy) -> Iterator[Layer]:
    """Yield choroid plexus, dura and vessels: bright after contrast."""
    for side in (-1, 1):
        plexus = measure_depth(anatomy, (side * 0.13, rng.uniform(0.14, 0.20), 0.54), (0.04, 0.07, 0.06))
        yield "choroid", soften(plexus, anatomy.pixel) * anatomy.ventricles
    shell = soften(0.010 - np.abs(anatomy.depth + 0.02), anatomy.pixel) * rng.uniform(0.2, 0.6)
    falx = soften(0.004 - np.abs(anatomy.x), anatomy.pixel) * soften(anatomy.h - 0.55, 0.05)
    yield "dura", np.maximum(shell, falx * soften(anatomy.depth, anatomy.pixel) * 0.6)
    curves = sample_field(rng, anatomy.folds.shape, (9, 20)) ** 2 + anatomy.folds**2
    yield "vessel", soften(0.015 - curves, 0.03) * soften(anatomy.depth + 0.02, 0.02)
    back = BRAIN * anatomy.half_axes[1] + 0.02
    sinus = np.abs(anatomy.x) + np.abs(anatomy.y - back * np.sqrt(np.clip(1 - ((anatomy.h - 0.42) / 0.49) ** 2, 0, 1)))
    yield "vessel", soften(0.035 - sinus, anatomy.pixel) * soften(anatomy.h - 0.35, 0.04)


def _draw_ball(anatomy: Anatomy, tissue: str, center: Point, radii: Point, within: Map) -> Layer:
    return tissue, soften(measure_depth(anatomy, center, radii), max(anatomy.pixel, 0.02)) * within
