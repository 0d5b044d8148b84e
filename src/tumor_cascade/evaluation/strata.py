"""Tumor-area strata: small tumors are where cascades fail, and means over all slices hide it."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray


def assign_strata(areas_px: ArrayLike, edges_px: Sequence[int]) -> NDArray[np.int64]:
    """Return the stratum of each area: 0 below the first edge; an area equal to an edge belongs above it."""
    return np.searchsorted(np.asarray(edges_px), np.asarray(areas_px), side="right")


def name_strata(edges_px: Sequence[int]) -> list[str]:
    """Return the strata's names in metric keys, e.g. `lt_100px`, `100_to_499px`, `ge_500px`."""
    inner = [f"{low}_to_{high - 1}px" for low, high in pairwise(edges_px)]
    return [f"lt_{edges_px[0]}px", *inner, f"ge_{edges_px[-1]}px"]


def title_strata(edges_px: Sequence[int]) -> list[str]:
    """Return the strata's names for people, e.g. `< 100 px`, `100 to 499 px`, `>= 500 px`."""
    inner = [f"{low:,} to {high - 1:,} px" for low, high in pairwise(edges_px)]
    return [f"< {edges_px[0]:,} px", *inner, f"\N{GREATER-THAN OR EQUAL TO} {edges_px[-1]:,} px"]
