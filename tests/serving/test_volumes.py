from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from archives import encode
from slice_requests import make_row, to_text
from tumor_cascade.serving.limits import Limits
from tumor_cascade.serving.rows import RequestError, Row
from tumor_cascade.serving.volumes import ReadRow, decode_rows, group_volumes

LIMITS = Limits()
GOOD = make_row(1, size_px=16)["image"]


def read(*rows: Row, limits: Limits = LIMITS) -> list[ReadRow]:
    with ThreadPoolExecutor(2) as decoders:
        return decode_rows(rows, limits, decoders)


def place(volume_id: str | None, index: int | None, size_px: int = 16) -> ReadRow:
    return ReadRow(Row("", volume_id=volume_id, slice_index=index), np.zeros((3, size_px, size_px), np.uint8))


def test_decode_rows__a_bad_image_never_fails_its_neighbours() -> None:
    found = read(Row(GOOD), Row("AAAA"), Row(5), Row(GOOD, fault="wrong"), Row(GOOD))
    assert [one.image is not None for one in found] == [True, False, False, False, True]
    assert "no PNG, TIFF or NPY" in found[1].fault
    assert found[3].fault == "wrong"


def test_decode_rows__stops_where_the_images_are_too_large_together() -> None:
    limits = replace(LIMITS, max_request_px=2 * 16 * 16)
    assert all(one.image is not None for one in read(Row(GOOD), Row(GOOD), limits=limits))
    with pytest.raises(RequestError, match="over 512 pixels together"):
        read(*[Row(GOOD)] * 3, limits=limits)


def test_decode_rows__a_small_file_of_a_large_image_counts_as_what_it_becomes() -> None:
    bomb = Row(to_text(encode(np.zeros((2048, 2048, 3), np.uint8), "PNG")))  # 4.2 million pixels in 12 kB
    assert len(str(bomb.image)) < 30_000
    with pytest.raises(RequestError, match="over 16777216 pixels together"):
        read(*[bomb] * 5)


def test_group_volumes__rows_of_one_volume_come_in_the_order_of_their_slices() -> None:
    found = [place("v", 2), place(None, None), place("w", 0), place("v", 0), place("v", 1)]
    assert group_volumes(found) == (found, [[3, 4, 0], [1], [2]])


def test_group_volumes__rows_without_volume_are_volumes_of_one() -> None:
    assert group_volumes([place(None, 3), place(None, 3)])[1] == [[0], [1]]


def test_group_volumes__a_slice_of_another_size_than_most_is_at_fault() -> None:
    rows, volumes = group_volumes([place("v", 0), place("v", 1, size_px=8), place("v", 2)])
    assert volumes == [[0, 2]]
    assert rows[1].image is None
    assert "is 8x8 but most slices of its volume are 16x16" in rows[1].fault


def test_group_volumes__a_row_without_image_is_in_no_volume() -> None:
    assert group_volumes([ReadRow(Row(5), None, "wrong"), place("v", 0)])[1] == [[1]]
