import io
import os
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tumor_cascade.serving.parquet import MAX_READER_BYTES, ParquetReader
from tumor_cascade.serving.rows import RequestError

MAX_ROWS, MAX_BYTES = 8, 1_000_000
LARGE = "A" * 300_000


@pytest.fixture(scope="module")
def read() -> Iterator[ParquetReader]:
    reader = ParquetReader(MAX_ROWS, MAX_BYTES)
    yield reader
    reader.close()


def write(columns: dict[str, Any], **options: Any) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream, **options)
    return stream.getvalue()


def test_read__gives_rows_as_json_would(read: ParquetReader) -> None:
    frame = pd.DataFrame({"image": ["a", "b"], "volume_id": ["v", None], "slice_index": [3, None]})
    assert read(frame.to_parquet()) == [
        {"image": "a", "volume_id": "v", "slice_index": 3},
        {"image": "b", "volume_id": None, "slice_index": None},
    ]


def test_read__damaged_files_are_refused_and_the_next_one_read(read: ParquetReader) -> None:
    good = write({"image": ["a"]})
    for body in (b"", b"PAR1", b"PAR1" + bytes(8) + b"PAR1", good[:-9], good[: len(good) // 2], os.urandom(1000)):
        with pytest.raises(RequestError, match="no Parquet file that can be read"):
            read(body)
    assert read(good) == [{"image": "a"}]


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"image": ["a"] * (MAX_ROWS + 1)}, {}, "has 9 rows; from 1 to 8"),
        ({"image": pa.array([], pa.string())}, {}, "has 0 rows"),
        ({f"column {number}": ["a"] for number in range(17)}, {}, "has 17 columns"),
        ({"image": [b"a"]}, {}, "other values than text and numbers"),
        ({"image": [["a"]]}, {}, "other values than text and numbers"),
        ({"image": [{"a": 1}]}, {}, "other values than text and numbers"),
        ({"image": [LARGE] * 4}, {}, "over 1000000 bytes of values"),
        ({"image": [LARGE] * 4}, {"use_dictionary": False, "compression": "zstd"}, "over 1000000 bytes"),
        (
            {"image": [LARGE] * 4},
            {"use_dictionary": False, "column_encoding": {"image": "DELTA_BYTE_ARRAY"}},
            "over 1000000 bytes",
        ),
    ],
)
def test_read__files_of_another_kind_or_too_large_are_refused(
    read: ParquetReader, columns: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        read(write(columns, **options))


def test_read__a_file_that_asks_for_more_memory_than_there_is_harms_nobody(read: ParquetReader) -> None:
    options = {"use_dictionary": False, "compression": "zstd", "write_statistics": False}
    bomb = write({"image": ["A" * (MAX_READER_BYTES + 1)]}, **options)
    assert len(bomb) < 100_000
    with pytest.raises(RequestError, match="no Parquet file that can be read within bounds"):
        read(bomb)
    assert read(write({"image": ["a"]})) == [{"image": "a"}]


def test_read__a_reader_that_died_is_replaced(read: ParquetReader) -> None:
    body = write({"image": ["a"]})
    read(body)
    assert read._reader is not None
    read._reader[0].kill()
    read._reader[0].join()
    with pytest.raises(RequestError, match="no Parquet file"):
        read(body)
    assert read(body) == [{"image": "a"}]
