"""Bodies that are tables: text of a CSV file, and what a table of any kind makes of missing and whole numbers."""

import io
from collections.abc import Sequence
from typing import Any

from tumor_cascade.serving.rows import RequestError

MAX_MARKS = 10_000  # quotes, commas, brackets; the largest request that is answered has about 6,000
MAX_DIGITS = 40


def decode_text(body: bytes) -> str:
    """Return a body as text.

    Raises:
        RequestError: It is no UTF-8.
    """
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestError("the body is no UTF-8 text; encode it as that.") from error


def read_csv(body: bytes) -> list[dict[str, Any]]:
    """Return the rows of a CSV file with a header; an empty field is a value that is not given.

    Raises:
        RequestError: It is no CSV, or holds too many values.
    """
    text = decode_text(body)
    if sum(text.count(mark) for mark in '",\n\r') > MAX_MARKS:
        raise RequestError("the body holds too many values; send fewer rows at a time.")
    import pandas as pd

    try:
        frame = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    except (ValueError, pd.errors.ParserError) as error:
        raise RequestError("the body is no CSV file with a header; write it with a CSV library.") from error
    return to_plain_records([str(name) for name in frame.columns], frame.to_numpy().tolist())


def to_plain_records(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """Return records of what a table holds: NaN and empty text are None, whole numbers in `slice_index` integers.

    A table has one type per column, so a column of numbers with gaps comes as floats, and in CSV all is text.
    """
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
