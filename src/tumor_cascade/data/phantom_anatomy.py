"""Anatomy of the phantom: a head as smooth functions of position, independent of slice count and image size.

Head coordinates: x from -1 (left of the image) to 1, y from -1 (top of the image, the face) to 1, h from 0 (skull base)
to 1 (vertex). Tissues are shares in [0, 1], so that borders show partial volume.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from tumor_cascade.data.phantom_fields import Map, sample_field, soften

Layer = tuple[str, Map]  # tissue and its share of every voxel, (Z, H, W)
Point = tuple[float, float, float]  # x, y, h

BASE_HEIGHT = 0.33  # below: skull base and face; above: the brain fills the skull
SCALP, SKULL, BRAIN = 1.0, 0.95, 0.87  # outer surfaces, as shares of the head's half axes


@dataclass(frozen=True)
class Anatomy:
    """A patient's head.

    Attributes:
        x, y: `(Z, H, W)`, rotated, scaled and warped head coordinates of every voxel.
        h: `(Z, 1, 1)`, height of every slice.
        pixel: Size of a pixel in head coordinates, the width of a soft border.
        radius: `(Z, H, W)`, 1 on the scalp, 0 on the head's axis.
        depth: `(Z, H, W)`, about the distance inside the brain's surface; negative outside.
        ventricles: `(Z, H, W)`, share.
        folds: `(Z, H, W)`, field of unit variance whose zeros are the sulci.
        half_axes: Half width and half length of the head.
    """

    x: Map
    y: Map
    h: Map
    pixel: float
    radius: Map
    depth: Map
    ventricles: Map
    folds: Map
    half_axes: tuple[float, float]


def measure_depth(anatomy: Anatomy, center: Point, radii: Point) -> Map:
    """Return about the distance inside an ellipsoid, negative outside, `(Z, H, W)`."""
    dx, dy, dh = (
        (coordinate - middle) / radius
        for coordinate, middle, radius in zip((anatomy.x, anatomy.y, anatomy.h), center, radii, strict=True)
    )
    depth: Map = (1 - np.sqrt(dx * dx + dy * dy + dh * dh)) * min(radii)
    return depth


def build_anatomy(rng: np.random.Generator, num_slices: int, size_px: int) -> Anatomy:
    """Draw a head: proportions, pose, warp, ventricles and folds."""
    shape = (num_slices, size_px, size_px)
    half_width, half_length = rng.uniform(0.59, 0.70), rng.uniform(0.73, 0.84)
    angle = math.radians(rng.uniform(-8, 8))
    bottom, top = rng.uniform(-0.02, 0.06), rng.uniform(0.93, 1.01)
    h = (bottom + (top - bottom) * np.linspace(0, 1, num_slices)).astype(np.float32)[:, None, None]
    axis = ((np.arange(size_px) + 0.5) / size_px * 2 - 1).astype(np.float32)
    column, row = axis[None, None, :] - rng.uniform(-0.06, 0.06), axis[None, :, None] - rng.uniform(-0.06, 0.06)
    x = math.cos(angle) * column - math.sin(angle) * row + 0.02 * sample_field(rng, shape, (3, 5))
    y = math.sin(angle) * column + math.cos(angle) * row + 0.02 * sample_field(rng, shape, (3, 5))

    dome = np.clip((h - 0.42) / 0.58, 0, None)  # 0 up to the widest level, 1 at the vertex
    base = np.clip((BASE_HEIGHT - h) / BASE_HEIGHT, 0, 1)  # 1 at the lowest slice
    egg = 1 + rng.uniform(0.0, 0.18) * y  # the back of a head is wider than its front
    across, along = x * egg / (half_width * (1 - 0.15 * base)), y / half_length
    radius = np.sqrt(across * across + along * along + dome * dome)
    # Towards the base the brain (cerebellum, brain stem) is smaller and lies at the back.
    scale = BRAIN * (1 - 0.45 * base)
    along = (y - 0.25 * base) / half_length
    depth = (1 - np.sqrt(across * across + along * along + dome * dome) / scale) * (0.6 * scale)

    bare = np.zeros((1, 1, 1), np.float32)
    folds = sample_field(rng, shape, (9, 26))
    anatomy = Anatomy(x, y, h, 2 / size_px, radius, depth, bare, folds, (half_width, half_length))
    return replace(anatomy, ventricles=_map_ventricles(rng, anatomy))


def _map_ventricles(rng: np.random.Generator, anatomy: Anatomy) -> Map:
    size, level = rng.uniform(0.6, 1.5), rng.uniform(0.54, 0.61)
    third = measure_depth(anatomy, (0.0, 0.02, level - 0.12), (0.018 * size, 0.10, 0.09))
    fourth = measure_depth(anatomy, (0.0, 0.30, 0.20), (0.05, 0.05, 0.07))
    depth = np.maximum(third, fourth)
    bent = 0.055 + 0.03 * size + 0.55 * anatomy.y * anatomy.y  # horns spread to the front and to the back
    for side in (-1, 1):
        slanted = replace(anatomy, x=side * anatomy.x - bent)
        radii = (0.045 * size, rng.uniform(0.24, 0.30), 0.09 + 0.02 * size)
        depth = np.maximum(depth, measure_depth(slanted, (0.0, rng.uniform(0.0, 0.06), level), radii))
    return soften(depth, anatomy.pixel) * soften(anatomy.depth, anatomy.pixel)


def map_parenchyma(anatomy: Anatomy) -> Map:
    """Return the share of brain tissue, ventricles apart: where tumors grow."""
    return soften(anatomy.depth, anatomy.pixel) * (1 - anatomy.ventricles)


def draw_layers(rng: np.random.Generator, anatomy: Anatomy) -> Iterator[Layer]:
    """Yield the normal tissues in the order in which they are painted, each over those before."""
    pixel, depth, folds = anatomy.pixel, anatomy.depth, anatomy.folds
    width = anatomy.half_axes[0]
    yield "fat", soften((SCALP - anatomy.radius) * width, pixel)
    skull = soften((SKULL - rng.uniform(0.0, 0.025) - anatomy.radius) * width, pixel)
    yield "skull", skull
    yield from _draw_face(rng, anatomy, skull)
    yield "csf", soften(depth + 0.02 + rng.uniform(0.0, 0.02), pixel)
    brain = soften(depth, pixel)
    yield "white", brain
    ribbon = 0.055 + 0.03 * sample_field(rng, folds.shape, (7, 14))  # thickness of the cortex
    cortex = np.maximum(soften(ribbon - depth, 0.02), soften(0.55 - np.abs(folds), 0.3) * soften(0.20 - depth, 0.08))
    yield "grey", cortex * brain
    for side in (-1, 1):
        center = (side * rng.uniform(0.17, 0.21), rng.uniform(-0.02, 0.06), rng.uniform(0.46, 0.52))
        yield "deep_grey", soften(measure_depth(anatomy, center, (0.09, 0.17, 0.09)), 0.03) * brain
    sulci = soften(0.14 - np.abs(folds), 0.16) * soften(0.16 - depth, 0.08) * rng.uniform(0.5, 0.9)
    above_callosum = np.maximum(soften(anatomy.h - 0.68, 0.03), soften(np.abs(anatomy.y) - 0.42, 0.03))
    fissure = soften(0.012 - np.abs(anatomy.x), pixel) * soften(anatomy.h - 0.40, 0.03) * above_callosum
    yield "csf", np.maximum(sulci, fissure) * brain
    yield "csf", anatomy.ventricles


def _draw_face(rng: np.random.Generator, anatomy: Anatomy, inside: Map) -> Iterator[Layer]:
    """Yield what lies below and before the brain: muscle, fat, bone, air, eyes."""
    below = inside * soften(BASE_HEIGHT - 0.03 - anatomy.h, 0.06)
    outside_brain = below * soften(-anatomy.depth - 0.06, 0.02)
    texture = sample_field(rng, anatomy.folds.shape, (8, 32))
    yield "muscle", outside_brain
    yield "fat", outside_brain * soften(texture - 0.6, 0.4)
    yield "skull", outside_brain * soften(-0.7 - texture, 0.4)
    yield "air", below * soften(measure_depth(anatomy, (0.0, -0.52, 0.12), (0.09, 0.20, 0.15)), anatomy.pixel)
    for side in (-1, 1):
        eye = (side * 0.27, -0.50, 0.26)
        yield "fat", inside * soften(measure_depth(anatomy, eye, (0.17, 0.20, 0.10)), anatomy.pixel)
        yield "eye", inside * soften(measure_depth(anatomy, eye, (0.12, 0.12, 0.08)), anatomy.pixel)
