"""Masks as run lengths: COCO's uncompressed format with its counts in one string.

Pixels are read column by column, top to bottom, then left to right. Counts separated by spaces: so many pixels of
background, then of tumor, then of background, and so on; the first may be 0. They add up to height x width. As a list
they are what `pycocotools.mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)` takes.
"""

import numpy as np
from numpy.typing import NDArray


def encode_mask(mask: NDArray[np.bool_]) -> str:
    """Return the run lengths of a mask `(H, W)`."""
    pixels = mask.ravel(order="F")
    edges = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    counts = np.diff(np.concatenate([[0], edges, [pixels.size]]))
    return " ".join(map(str, [0, *counts.tolist()] if pixels[0] else counts.tolist()))


def decode_mask(text: str, height_px: int, width_px: int) -> NDArray[np.bool_]:
    """Return the mask `(H, W)` of run lengths.

    Raises:
        ValueError: They are no numbers, or do not fill the mask.
    """
    counts = np.array([int(count) for count in text.split()], dtype=np.int64)
    if counts.sum() != height_px * width_px or (counts < 0).any():
        raise ValueError(f"run lengths do not fill a mask of {height_px} x {width_px} pixels")
    pixels = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return pixels.reshape((height_px, width_px), order="F")
