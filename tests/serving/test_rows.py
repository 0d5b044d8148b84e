from typing import Any

import pytest

from tumor_cascade.serving.rows import Options, RequestError, Row, read_options, read_rows

SECRET = "what-was-sent"


def test_read_rows__takes_rows_with_and_without_a_volume() -> None:
    rows = read_rows([{"image": "a", "id": "x"}, {"image": "b", "volume_id": "v", "slice_index": 3}], 2)
    assert rows == [Row("a", id="x"), Row("b", volume_id="v", slice_index=3)]


def test_read_rows__none_is_a_value_that_is_not_given() -> None:
    assert read_rows([{"image": "a", "id": None, "volume_id": None, "slice_index": None}], 1) == [Row("a")]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (None, "rows are no list"),
        (SECRET, "rows are no list"),
        ([], "has 0 rows; from 1 to 2"),
        ([{"image": "a"}] * 3, "has 3 rows; from 1 to 2"),
        ([SECRET], "a row is no object"),
        ([{"id": "a"}], "the column image is missing"),
        ([{"image": "a", SECRET: 1}], "1 unknown columns; known are image, id, volume_id, slice_index"),
    ],
)
def test_read_rows__refuses_what_is_no_request(records: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        read_rows(records, 2)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "fault"),
    [
        ({"id": 7}, "id is no string"),
        ({"id": "x" * 257}, "id is no string of at most 256"),
        ({"volume_id": ["v"]}, "volume_id is no string"),
        ({"slice_index": -1}, "slice_index is no whole number"),
        ({"slice_index": 1.5}, "slice_index is no whole number"),
        ({"slice_index": True}, "slice_index is no whole number"),
        ({"slice_index": 10**6 + 1}, "slice_index is no whole number"),
        ({"volume_id": "v"}, "comes without slice_index"),
    ],
)
def test_read_rows__a_wrong_column_is_a_fault_of_its_row_alone(columns: dict[str, Any], fault: str) -> None:
    wrong, right = read_rows([{"image": "a", **columns}, {"image": "b"}], 2)
    assert fault in wrong.fault
    assert right == Row("b")


def test_read_rows__the_second_slice_of_one_number_is_at_fault() -> None:
    rows = read_rows([{"image": "a", "volume_id": name, "slice_index": 0} for name in ("v", "w", "v")], 3)
    assert [bool(row.fault) for row in rows] == [False, False, True]
    assert "twice" in rows[2].fault


def test_read_options__without_params_are_the_products_own() -> None:
    assert read_options(None) == read_options({}) == read_options({"gate_threshold": None}) == Options()


def test_read_options__takes_thresholds_and_the_kind_of_mask() -> None:
    options = read_options({"mask": "png", "decision_threshold": 1, "mask_threshold": 0.25})
    assert options == Options(mask="png", decision_threshold=1, mask_threshold=0.25)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1], "params is no object"),
        ({SECRET: 1}, "1 parameters are unknown"),
        ({"mask": SECRET}, "mask is not one of rle, png, none"),
        ({"mask": ["rle"]}, "mask is not one of"),
        ({"gate_threshold": SECRET}, "gate_threshold is no number from 0 to 1"),
        ({"gate_threshold": float("nan")}, "gate_threshold is no number from 0 to 1"),
        ({"mask_threshold": 1.01}, "mask_threshold is no number from 0 to 1"),
        ({"decision_threshold": True}, "decision_threshold is no number"),
        ({"has_pictures": True}, "1 parameters are unknown"),
    ],
)
def test_read_options__refuses_what_it_does_not_know(values: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        read_options(values)
    assert SECRET not in str(caught.value)


def test_read_options__names_everything_that_is_wrong() -> None:
    with pytest.raises(RequestError, match=r"gate_threshold .* mask_threshold .* mask is"):
        read_options({"gate_threshold": 2, "mask_threshold": -1, "mask": 5})


def test_read_options__pictures_only_where_they_are_known() -> None:
    assert read_options({"has_pictures": True}, can_have_pictures=True).has_pictures
    with pytest.raises(RequestError, match="neither true nor false"):
        read_options({"has_pictures": 1}, can_have_pictures=True)
