"""Bodies that are tables: text of a CSV file, and what a table of any kind makes of missing and whole numbers."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from tumor_cascade.serving.rows import RequestError

MAX_MARKS = 10_000  # quotes, commas, brackets; the largest request that is answered has about 6,000
MAX_DIGITS = 40
NO_TEXT = "the body is no UTF-8 text; encode it as that."
NO_CSV = "the body is no CSV file with a header and rows of as many fields; write it with a CSV library."


def decode_text(body: bytes) -> str:
    """Return a body as text.

    Raises:
        RequestError: It is no UTF-8.
    """
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(NO_TEXT) from error


def read_csv(body: bytes) -> list[dict[str, Any]]:
    """Return the rows of a CSV file with a header; an empty field is a value that is not given.

    Raises:
        RequestError: It is no CSV, or holds too many values.
    """
    if sum(body.count(mark) for mark in (b'"', b",", b"\n", b"\r")) > MAX_MARKS:
        raise RequestError("the body holds too many values; send fewer rows at a time.")
    csv.field_size_limit(max(csv.field_size_limit(), len(body) + 1))  # of the whole process: never lowered under others
    try:
        lines = csv.reader(io.TextIOWrapper(io.BytesIO(body), "utf-8-sig", newline=""), strict=True)
        columns, *rows = [line for line in lines if line]
    except UnicodeDecodeError as error:
        raise RequestError(NO_TEXT) from error
    except (csv.Error, ValueError) as error:
        raise RequestError(NO_CSV) from error
    if any(len(row) != len(columns) for row in rows):
        raise RequestError(NO_CSV)
    return to_plain_records(columns, rows)


def to_plain_records(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """Return records of what a table holds: NaN and empty text are None, whole numbers in `slice_index` integers.

    A table has one type per column, so a column of numbers with gaps comes as floats, and in CSV all is text.

    Raises:
        RequestError: Two columns have the same name.
    """
    if len(set(columns)) != len(columns):
        raise RequestError("the table names a column twice; drop one.")
    return [
        {
            name: to_index(value) if name == "slice_index" else to_plain(value)
            for name, value in zip(columns, row, strict=True)
        }
        for row in rows
    ]


def to_plain(value: Any) -> Any:
    """Return None for what a table holds where nothing is given."""
    return None if value is None or value == "" or value != value else value


def to_index(value: Any) -> Any:
    """Return a whole number as an integer, whatever a table made of it."""
    value = to_plain(value)
    if isinstance(value, str) and value.isdecimal() and len(value) <= MAX_DIGITS:
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value
