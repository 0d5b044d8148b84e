"""Slices at 32x32, and the nearest of them: no learning, only likeness. What a split leaks, this already finds."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from tumor_cascade.data.volumes import read_volume

SIDE_PX = 32
PAIRS_PER_BLOCK = 2**22

Thumbnails = NDArray[np.uint8]


def read_thumbnails(slices_dir: Path, rows: pd.DataFrame) -> Thumbnails:
    """Return every slice averaged down to three sequences of 32x32 grey levels, in the order of the rows.

    Args:
        slices_dir: Folder of packed volumes.
        rows: Manifest rows of whole patients, sorted by patient and slice.

    Returns:
        uint8 `(N, 3072)`.

    Raises:
        DataError: A volume is missing or differs from the manifest.
    """
    volumes = (read_volume(slices_dir, part) for _, part in rows.groupby("patient_id", sort=True))
    return np.stack([shrink_image(image) for volume in volumes for image in volume.images])


def shrink_image(image: NDArray[np.uint8]) -> Thumbnails:
    """Return an image uint8 `(C, H, W)` averaged down to uint8 `(C * 1024,)`."""
    planes = (Image.fromarray(plane).resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX) for plane in image)
    return np.concatenate([np.asarray(plane).ravel() for plane in planes])


def find_nearest(queries: Thumbnails, references: Thumbnails) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the reference that is nearest to each query, and its distance; the first of equally near ones.

    Squared distances of grey levels are integers that float64 holds exactly, whatever the order of additions: the
    answer is the same on any machine, which splits.json, an input of every training, has to be.

    Args:
        queries: uint8 `(N, D)`.
        references: uint8 `(M, D)`, M >= 1.

    Returns:
        int64 `(N,)`, rows of `references`; float64 `(N,)`, Euclidean distances in grey levels.
    """
    values = references.astype(np.float64)
    squares = np.square(values).sum(axis=1)
    nearest, distances = np.zeros(len(queries), dtype=np.int64), np.zeros(len(queries))
    block = max(1, PAIRS_PER_BLOCK // len(references))
    for start in range(0, len(queries), block):
        rows = slice(start, start + block)
        part = queries[rows].astype(np.float64)
        squared = np.square(part).sum(axis=1)[:, None] + squares - 2 * part @ values.T  # (block, M)
        nearest[rows] = squared.argmin(axis=1)
        distances[rows] = np.sqrt(squared.min(axis=1))
    return nearest, distances
