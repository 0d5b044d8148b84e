import csv

import pytest

from tumor_cascade.serving.rows import RequestError
from tumor_cascade.serving.tables import read_csv, to_plain_records


def test_read_csv__empty_fields_are_not_given_and_indices_are_numbers() -> None:
    assert read_csv(b"image,id,volume_id,slice_index\nabc,7,v,3\nNA,,,\n") == [
        {"image": "abc", "id": "7", "volume_id": "v", "slice_index": 3},
        {"image": "NA", "id": None, "volume_id": None, "slice_index": None},
    ]


def test_read_csv__as_spreadsheets_and_pandas_write_it() -> None:
    image = "A" * 1_000_000
    body = f'\ufeffid,image\r\n"M\u00fcller, 2 ""b""",{image}\r\n\r\n'.encode()
    assert read_csv(body) == [{"id": 'M\u00fcller, 2 "b"', "image": image}]


def test_read_csv__leaves_no_lower_limit_to_other_readers() -> None:
    before = csv.field_size_limit()
    read_csv(b"id\na\n")
    assert csv.field_size_limit() >= before


def test_read_csv__what_is_no_whole_number_is_left_to_be_judged() -> None:
    rows = read_csv(b"slice_index\n-1\n1.5\nx\n" + b"9" * 41)
    assert [row["slice_index"] for row in rows] == ["-1", "1.5", "x", "9" * 41]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "no CSV"),
        (b'image\n"abc', "no CSV"),
        (b"image\na\nb,c,d\n", "no CSV"),
        (b"image,id\na\n", "no CSV"),
        (b"image,image\na,b\n", "names a column twice"),
        (b"\xff\xfe", "no UTF-8"),
        (b"," * 1_000_000, "too many values"),
        (b"a\n" * 1_000_000, "too many values"),
    ],
)
def test_read_csv__refuses_what_is_no_table(body: bytes, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        read_csv(body)


def test_to_plain_records__gaps_in_a_column_of_numbers_make_floats_of_it() -> None:
    records = to_plain_records(["slice_index", "id"], [[1.0, "a"], [float("nan"), None], [2.5, ""]])
    assert records == [
        {"slice_index": 1, "id": "a"},
        {"slice_index": None, "id": None},
        {"slice_index": 2.5, "id": None},
    ]
    assert type(records[0]["slice_index"]) is int
