"""A body to records and params, in the forms that MLflow's server takes: JSON of four kinds, CSV, Parquet.

A body is judged before it is parsed: however large, it holds few values, of which a base64 string is one. So neither
nesting nor millions of numbers nor a number of a million digits reach a parser. No message repeats what was sent.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

from tumor_cascade.errors import TumorCascadeError
from tumor_cascade.serving.rows import RequestError
from tumor_cascade.serving.tables import MAX_DIGITS, MAX_MARKS, decode_text, read_csv

JSON_TYPE, CSV_TYPE = "application/json", "text/csv"
PARQUET_TYPES = ("application/vnd.apache.parquet", "application/x-parquet")
FORMS = ("dataframe_records", "dataframe_split", "instances", "inputs")
MAX_DEPTH = 16
# A string is one, ended or not, even after a lone backslash: a failed match would be tried again at every quote.
TOKENS = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[{]|[\]}]|[0-9]+', re.DOTALL)
ReadParquet = Callable[[bytes], list[dict[str, Any]]]


class MediaError(TumorCascadeError):
    """A body of a type that is not read here; HTTP status 415."""


def read_payload(
    body: bytes, content_type: str | None, query: Mapping[str, str], read_parquet: ReadParquet
) -> tuple[object, object]:
    """Return the records and the params of a request, neither judged yet.

    Args:
        body: As it came.
        content_type: Of the header; JSON where there is none.
        query: Parameters in the address, for bodies that have no place for them.
        read_parquet: Reads a Parquet file.

    Raises:
        MediaError: Another content type.
        RequestError: The body cannot be read as what it is called.
    """
    media, _, parameters = (content_type or JSON_TYPE).lower().partition(";")
    if parameters.strip() not in ("", "charset=utf-8", 'charset="utf-8"'):
        raise MediaError("a content type has no other parameter than charset=utf-8; leave it out.")
    params: object = {name: read_value(value) for name, value in query.items()}
    if media.strip() == JSON_TYPE:
        records, own = read_json(body)
        if own is not None and params:
            raise RequestError("params stand in the body and in the address; leave one of them out.")
        return records, params if own is None else own
    if media.strip() == CSV_TYPE:
        return read_csv(body), params
    if media.strip() in PARQUET_TYPES:
        return read_parquet(body), params
    raise MediaError(f"the content type is none of {JSON_TYPE}, {CSV_TYPE}, {PARQUET_TYPES[0]}; name one of these.")


def read_value(text: str) -> object:
    """Return the value of a parameter in the address: a number, true, false, or text."""
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text[:MAX_DIGITS])
    except ValueError:
        return text


def read_json(body: bytes) -> tuple[object, object]:
    """Return records and params of a JSON body.

    Raises:
        RequestError: It is no JSON, holds too many values, or is none of the known forms.
    """
    text = decode_text(body)
    judge_json(text)
    try:
        value = json.loads(text, parse_constant=refuse_constant)
    except ValueError as error:
        raise RequestError("the body is no JSON; encode it with a JSON library.") from error
    forms = [form for form in FORMS if isinstance(value, dict) and form in value]
    if not isinstance(value, dict) or len(forms) != 1 or set(value) - {forms[0], "params"}:
        raise RequestError(f"the body is no object with exactly one of {', '.join(FORMS)}, and params if need be.")
    return to_records(forms[0], value[forms[0]]), value.get("params")


def judge_json(text: str) -> None:
    """Refuse JSON that is costly to parse.

    Raises:
        RequestError: Too many values, too deep, or a number of too many digits.
    """
    if sum(text.count(mark) for mark in '",:[{') > MAX_MARKS:
        raise RequestError(
            "the body holds too many values; pixels are sent as base64 of a PNG, TIFF or NPY file, a string per slice."
        )
    depth = 0
    for token in TOKENS.finditer(text):
        first = text[token.start()]
        depth += (first in "[{") - (first in "]}")
        if depth > MAX_DEPTH:
            raise RequestError(f"the body is nested more than {MAX_DEPTH} deep; rows are one object per slice.")
        if first.isdigit() and token.end() - token.start() > MAX_DIGITS:
            raise RequestError(f"the body holds a number of more than {MAX_DIGITS} digits; correct it.")


def refuse_constant(name: str) -> Any:
    """Refuse NaN and infinities, which are no JSON."""
    raise ValueError(name)


def to_records(form: str, value: Any) -> object:
    """Return one of the forms of MLflow's server as a list of objects; what is no list of objects is left as it is.

    Raises:
        RequestError: The columns do not fit the values.
    """
    if form == "dataframe_split":
        if not isinstance(value, dict) or set(value) - {"columns", "data", "index"}:
            raise RequestError("dataframe_split is no object of columns and data.")
        columns, rows = value.get("columns"), value.get("data")
        if not is_list(columns, str) or not is_list(rows, list) or any(len(row) != len(columns) for row in rows):
            raise RequestError(
                "dataframe_split has no names in columns, or rows in data of other lengths than columns."
            )
        if len(set(columns)) != len(columns):
            raise RequestError("dataframe_split names a column twice; drop one.")
        return [dict(zip(columns, row, strict=True)) for row in rows]
    if form == "inputs" and isinstance(value, dict):
        columns = list(value)
        if not all(is_list(column) for column in value.values()) or len({len(one) for one in value.values()}) != 1:
            raise RequestError("inputs is no object of columns, or these are lists of different lengths.")
        return [dict(zip(columns, row, strict=True)) for row in zip(*value.values(), strict=True)]
    return value


def is_list(value: object, kind: type = object) -> TypeGuard[list[Any]]:
    """Say whether a value is a list, of one kind of items."""
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)
