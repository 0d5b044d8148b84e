"""Rows to volumes: images decoded within bounds, slices of one volume put in order."""

import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tumor_cascade.errors import DataError
from tumor_cascade.serving.image_bytes import read_image
from tumor_cascade.serving.limits import Limits
from tumor_cascade.serving.rows import RequestError, Row


@dataclass(frozen=True)
class ReadRow:
    """A row and what became of its image.

    Attributes:
        row: As it was asked.
        image: uint8 `(3, H, W)`, or None where something is wrong.
        fault: What; empty if nothing is.
    """

    row: Row
    image: NDArray[np.uint8] | None
    fault: str = ""


class PixelBudget:
    """Pixels that the images of one request may have together, counted from several threads."""

    def __init__(self, total: int) -> None:
        self.total, self._left, self._lock = total, total, threading.Lock()

    @property
    def is_spent(self) -> bool:
        """Whether there were more."""
        return self._left < 0

    def spend(self, num_px: int) -> None:
        """Count the pixels of an image."""
        with self._lock:
            self._left -= num_px


def decode_rows(rows: Sequence[Row], limits: Limits, decoders: Executor) -> list[ReadRow]:
    """Return each row with its image or its fault.

    Raises:
        RequestError: The images are too large together; no more of them are decoded than that takes to see.
    """
    budget = PixelBudget(limits.max_request_px)

    def decode(row: Row) -> ReadRow:
        if row.fault or budget.is_spent:
            return ReadRow(row, None, row.fault)
        try:
            image = read_image(row.image, limits.max_side_px)
        except DataError as error:
            return ReadRow(row, None, str(error))
        budget.spend(image.shape[1] * image.shape[2])
        return ReadRow(row, image)

    found = list(decoders.map(decode, rows))
    if budget.is_spent:
        raise RequestError(
            f"the images of the request have over {budget.total} pixels together; send fewer rows at a time, the "
            "slices of one volume together."
        )
    return found


def group_volumes(found: Sequence[ReadRow]) -> tuple[list[ReadRow], list[list[int]]]:
    """Sort rows into volumes; a row without volume_id is a volume of one.

    Returns:
        The rows, of which those that do not have the size of most slices of their volume lose their image to a fault;
        and of each volume the places of its rows, in the order of its slices.
    """
    rows, groups = list(found), dict[object, list[int]]()
    for place, one in enumerate(found):
        if one.image is not None:
            groups.setdefault(place if one.row.volume_id is None else one.row.volume_id, []).append(place)
    volumes = []
    for places in groups.values():
        sizes = Counter(image.shape[1:] for place in places if (image := rows[place].image) is not None)
        height, width = usual = sizes.most_common(1)[0][0]
        for place in places:
            image = rows[place].image
            if image is not None and image.shape[1:] != usual:
                rule = f"most slices of its volume are {width}x{height}"
                text = f"image is {image.shape[2]}x{image.shape[1]} but {rule}; export it again."
                rows[place] = replace(rows[place], image=None, fault=text)
        kept = [place for place in places if rows[place].image is not None]
        volumes.append(sorted(kept, key=lambda place: rows[place].row.slice_index or 0))
    return rows, volumes
