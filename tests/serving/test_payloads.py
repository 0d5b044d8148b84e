import json
import time
from typing import Any

import pytest

from tumor_cascade.serving.payloads import MediaError, read_payload
from tumor_cascade.serving.rows import RequestError

SECRET = "what-was-sent"


def read(body: bytes | str, content_type: str | None = "application/json", **query: str) -> tuple[Any, Any]:
    body = body if isinstance(body, bytes) else body.encode()
    return read_payload(body, content_type, query, lambda found: [{"image": len(found)}])


@pytest.mark.parametrize(
    "form",
    [
        {"dataframe_records": [{"image": "a", "id": "x"}, {"image": "b", "id": "y"}]},
        {"dataframe_split": {"columns": ["image", "id"], "data": [["a", "x"], ["b", "y"]]}},
        {"dataframe_split": {"index": [0, 1], "columns": ["image", "id"], "data": [["a", "x"], ["b", "y"]]}},
        {"instances": [{"image": "a", "id": "x"}, {"image": "b", "id": "y"}]},
        {"inputs": {"image": ["a", "b"], "id": ["x", "y"]}},
        {"inputs": [{"image": "a", "id": "x"}, {"image": "b", "id": "y"}]},
    ],
    ids=lambda form: next(iter(form)),
)
def test_read_payload__takes_the_forms_of_mlflows_server(form: dict[str, Any]) -> None:
    records = [{"image": "a", "id": "x"}, {"image": "b", "id": "y"}]
    assert read(json.dumps(form)) == (records, {})
    assert read(json.dumps({**form, "params": {"mask": "png"}})) == (records, {"mask": "png"})


def test_read_payload__without_a_content_type_is_json() -> None:
    assert read('{"instances": [{"image": "a"}]}', None)[0] == [{"image": "a"}]
    assert read('{"instances": [{"image": "a"}]}', "Application/JSON; charset=UTF-8")[0] == [{"image": "a"}]


def test_read_payload__params_stand_in_the_address_where_the_body_has_no_place_for_them() -> None:
    assert read("image\na\n", "text/csv", mask="none", mask_threshold="0.5", has_pictures="true") == (
        [{"image": "a"}],
        {"mask": "none", "mask_threshold": 0.5, "has_pictures": True},
    )
    assert read(b"1234", "application/vnd.apache.parquet", mask="png") == ([{"image": 4}], {"mask": "png"})
    with pytest.raises(RequestError, match="in the body and in the address"):
        read('{"instances": [], "params": {}}', mask="png")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", SECRET, "image/png", ";"])
def test_read_payload__refuses_other_types(content_type: str) -> None:
    with pytest.raises(MediaError, match="none of application/json, text/csv") as caught:
        read("{}", content_type)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("parameter", ["charset=latin-1", "charset=utf-16", f"boundary={SECRET}"])
def test_read_payload__refuses_other_character_sets(parameter: str) -> None:
    with pytest.raises(MediaError, match="no other parameter than charset=utf-8") as caught:
        read("{}", f"application/json; {parameter}")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "no JSON"),
        (SECRET, "no JSON"),
        (f'{{"instances": [{{"image": "{SECRET}', "no JSON"),
        ('{"instances": [NaN]}', "no JSON"),
        ('{"instances": [Infinity]}', "no JSON"),
        ("[]", "exactly one of"),
        ("5", "exactly one of"),
        ("{}", "exactly one of"),
        ('{"instances": [], "inputs": []}', "exactly one of"),
        (f'{{"instances": [], "{SECRET}": 1}}', "exactly one of"),
        ('{"dataframe_split": []}', "no object of columns and data"),
        ('{"dataframe_split": {"columns": ["a"], "data": [], "more": 1}}', "no object of columns and data"),
        ('{"dataframe_split": {"columns": [1], "data": []}}', "no names in columns"),
        ('{"dataframe_split": {"columns": ["a"], "data": [["b", "c"]]}}', "no names in columns, or rows"),
        ('{"dataframe_split": {"columns": ["a", "a"], "data": []}}', "names a column twice"),
        ('{"dataframe_split": {"data": []}}', "no names in columns"),
        ('{"inputs": {"a": [1], "b": []}}', "lists of different lengths"),
        ('{"inputs": {"a": 1}}', "no object of columns"),
        ('{"inputs": {}}', "no object of columns"),
        (b"\xff\xfe{\x00}\x00", "no UTF-8"),
        (b'\xef\xbb\xbf{"instances": []}', "no JSON"),
    ],
)
def test_read_payload__refuses_other_bodies_without_repeating_them(body: bytes | str, message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        read(body)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("[" * 9_000, "nested more than 16 deep"),
        ('{"a":' * 2_000, "nested more than 16 deep"),
        ("[" * 16_000_000, "too many values"),
        ('{"instances": [' + "1," * 8_000_000 + "1]}", "too many values"),
        ('{"instances": [' + '"",' * 5_000_000 + '""]}', "too many values"),
        ('{"instances": [' + "{}," * 5_000_000 + "{}]}", "too many values"),
        ('{"instances": ' + "9" * 16_000_000 + "}", "number of more than 40 digits"),
        ('{"instances": 1e' + "9" * 1_000 + "}", "number of more than 40 digits"),
        ('"' + '\\"' * 9_000 + " " * 15_000_000, "no JSON"),
        ('"' + '\\"' * 9_000 + "a" * 15_000_000 + "\\", "no JSON"),
    ],
    ids=[
        "lists",
        "objects",
        "long",
        "numbers",
        "strings",
        "empty objects",
        "digits",
        "exponent",
        "quotes",
        "backslash",
    ],
)
def test_read_payload__costly_json_is_refused_in_a_moment(body: str, message: str) -> None:
    started = time.process_time()
    with pytest.raises(RequestError, match=message):
        read(body)
    assert time.process_time() - started < 3  # parsing 16 MB of numbers takes longer, nesting it would be worse


def test_read_payload__what_looks_like_nesting_inside_a_string_is_none() -> None:
    text = "[" * 40 + "9" * 100 + '\\"' + "{" * 40
    assert read(f'{{"instances": [{{"image": "{text}"}}]}}')[0][0]["image"] == text.replace("\\", "")
