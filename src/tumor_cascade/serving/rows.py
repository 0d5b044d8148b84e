"""What a request asks: rows and options, judged before any image is decoded.

What is wrong with a row is said in its answer and leaves the others alone; what is wrong with the request as a whole
refuses it. No message repeats what was sent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from tumor_cascade.errors import TumorCascadeError

COLUMNS = ("image", "id", "volume_id", "slice_index")
MASK_ENCODINGS = ("rle", "png", "none")
THRESHOLDS = ("gate_threshold", "decision_threshold", "mask_threshold")
MAX_ID_CHARACTERS = 256
MAX_SLICE_INDEX = 1_000_000


class RequestError(TumorCascadeError):
    """A request that cannot be answered, whatever its images show; HTTP status 400."""


class BusyError(TumorCascadeError):
    """More work than can be done in time; HTTP status 503."""


@dataclass(frozen=True)
class Row:
    """A slice that is asked about.

    Attributes:
        image: Base64 of a PNG, TIFF or NPY file; anything else is a fault that decoding finds.
        id: Given back with the answer.
        volume_id: Rows with the same one are slices of one patient.
        slice_index: Place in the volume.
        fault: What is wrong with the other columns; empty if nothing is.
    """

    image: object
    id: str | None = None
    volume_id: str | None = None
    slice_index: int | None = None
    fault: str = ""


@dataclass(frozen=True)
class Options:
    """How a request is answered.

    Attributes:
        mask: `rle`: see `rle.encode_mask`; `png`: base64 of a PNG of 0 and 255; `none`.
        gate_threshold: In place of the product's own, like the two that follow; None leaves it.
        decision_threshold: See `CascadeSettings`.
        mask_threshold: See there.
        uncertainty_threshold: An answer of at least this many bits of uncertainty is flagged; 0.8 flags probabilities
            between 0.24 and 0.76.
        has_pictures: Whether answers carry an overlay for people.
    """

    mask: Literal["rle", "png", "none"] = "rle"
    gate_threshold: float | None = None
    decision_threshold: float | None = None
    mask_threshold: float | None = None
    uncertainty_threshold: float = 0.8
    has_pictures: bool = False


def read_rows(records: object, max_rows: int) -> list[Row]:
    """Return the rows of a request.

    Args:
        records: Should be a list of objects with the keys in `COLUMNS`; None is a value that is not given.
        max_rows: More are refused.

    Raises:
        RequestError: These are no rows, none, too many, or they have other columns.
    """
    if not isinstance(records, Sequence) or isinstance(records, str | bytes):
        raise RequestError("rows are no list; send one object per slice.")
    if not 1 <= len(records) <= max_rows:
        raise RequestError(
            f"the request has {len(records)} rows; from 1 to {max_rows} are answered in time. Send the others in "
            "requests of their own, the slices of one volume together."
        )
    if not all(isinstance(record, Mapping) for record in records):
        raise RequestError(f"a row is no object; it has the columns {', '.join(COLUMNS)}, of which image is required.")
    names = {name for record in records for name in record}
    if "image" not in names:
        raise RequestError("the column image is missing; it holds base64 of a PNG, TIFF or NPY file.")
    if others := names - set(COLUMNS):
        raise RequestError(f"the request has {len(others)} unknown columns; known are {', '.join(COLUMNS)}. Drop them.")
    rows = [read_row(record) for record in records]
    taken: set[tuple[str, int]] = set()
    for number, row in enumerate(rows):
        if row.volume_id is not None and row.slice_index is not None:
            if (row.volume_id, row.slice_index) in taken:
                rows[number] = replace(row, fault="slice_index stands twice in its volume; number each slice once.")
            taken.add((row.volume_id, row.slice_index))
    return rows


def read_row(record: Mapping[str, Any]) -> Row:
    """Return a row; what is wrong with it stands in its `fault`."""
    faults = []
    texts: dict[str, str | None] = {}
    for name in ("id", "volume_id"):
        value = record.get(name)
        is_good = value is None or (isinstance(value, str) and len(value) <= MAX_ID_CHARACTERS)
        texts[name] = value if is_good else None
        if not is_good:
            faults.append(f"{name} is no string of at most {MAX_ID_CHARACTERS} characters; shorten or quote it.")
    index = record.get("slice_index")
    if index is not None and (type(index) is not int or not 0 <= index <= MAX_SLICE_INDEX):
        index = None
        faults.append(f"slice_index is no whole number from 0 to {MAX_SLICE_INDEX}; number the slices in order.")
    elif texts["volume_id"] is not None and index is None:
        faults.append("volume_id comes without slice_index; without it nobody knows the order of the slices. Add it.")
    return Row(record.get("image"), texts["id"], texts["volume_id"], index, " ".join(faults))


def read_options(values: object, *, can_have_pictures: bool = False) -> Options:
    """Return the options of a request; None is a value that is not given.

    Args:
        values: Should be an object of parameters, or None.
        can_have_pictures: Whether `has_pictures` is known here.

    Raises:
        RequestError: With everything that is wrong with them.
    """
    if values is None:
        return Options()
    if not isinstance(values, Mapping):
        raise RequestError("params is no object; send parameter names with their values.")
    given = {name: value for name, value in values.items() if value is not None}
    known = ["mask", *THRESHOLDS, "uncertainty_threshold", *(["has_pictures"] if can_have_pictures else [])]
    faults = []
    if others := set(given) - set(known):
        faults.append(f"{len(others)} parameters are unknown; known are {', '.join(known)}.")
    for name in (*THRESHOLDS, "uncertainty_threshold"):
        value = given.get(name, 0.0)
        if type(value) not in (int, float) or not 0 <= value <= 1:
            faults.append(f"{name} is no number from 0 to 1.")
    if given.get("mask", "rle") not in MASK_ENCODINGS:
        faults.append(f"mask is not one of {', '.join(MASK_ENCODINGS)}.")
    if type(given.get("has_pictures", False)) is not bool:
        faults.append("has_pictures is neither true nor false.")
    if faults:
        raise RequestError(" ".join([*faults, "Correct the request."]))
    return Options(**given)
