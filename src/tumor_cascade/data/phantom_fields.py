"""Smooth random fields and soft borders, from which the phantom is made.

Only arithmetic and square roots: other vector routines, and matrix products, round differently on other processors.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.floating[Any]]  # float32 in fact; numpy's stubs promise less
SPLINE_STD = (151 / 315) ** 1.5  # of a cubic B-spline over a 3D lattice of unit normals


def soften(distance: Map, width: float) -> Map:
    """Return the share of a structure from the signed distance to its surface, positive inside."""
    share: Map = np.clip(distance / width + 0.5, 0, 1)
    return share


def sample_field(rng: np.random.Generator, shape: tuple[int, ...], cells: tuple[int, int]) -> Map:
    """Return a smooth random field `(Z, H, W)` of zero mean and unit variance.

    Args:
        rng: Drawn from equally often whatever the shape, so a field looks the same at any resolution.
        shape: Z, H, W.
        cells: Lattice cells along z and along both image axes: how rough the field is.
    """
    counts = (cells[0], cells[1], cells[1])
    lattice = rng.standard_normal([count + 3 for count in counts], dtype=np.float32)
    weights = []
    for size, count in zip(shape, counts, strict=True):
        position = (np.arange(size) + 0.5) / size * count + 1
        distance = np.abs(position[:, None] - np.arange(count + 3))
        reach = np.clip(2 - distance, 0, None)
        near, far = 2 / 3 - distance * distance * (1 - distance / 2), reach * reach * reach / 6
        weights.append(np.where(distance < 1, near, far).astype(np.float32))
    rows = np.einsum("zi,ijk->zjk", weights[0], lattice)
    columns = np.einsum("yj,zjk->zyk", weights[1], rows)
    field: Map = np.einsum("xk,zyk->zyx", weights[2], columns) / SPLINE_STD
    return field
