import io
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manifests import make_manifest
from tumor_cascade.data.manifest import MANIFEST_SCHEMA, read_manifest, write_manifest
from tumor_cascade.errors import DataError
from tumor_cascade.storage import hash_file


def test_write_manifest__gives_back_rows_in_order(tmp_path: Path) -> None:
    rows, path = make_manifest(), tmp_path / "manifest.parquet"
    write_manifest(rows.sample(frac=1, random_state=0), path)
    pd.testing.assert_frame_equal(read_manifest(path), rows, check_dtype=False)
    assert pq.read_schema(path).equals(MANIFEST_SCHEMA)


def test_write_manifest__same_rows_same_bytes(tmp_path: Path) -> None:
    rows = make_manifest()
    for name, one in (("a", rows), ("b", rows.sample(frac=1, random_state=1)), ("c", rows[rows.columns[::-1]])):
        write_manifest(one, tmp_path / name)
    assert len({hash_file(tmp_path / name) for name in "abc"}) == 1


def test_write_manifest__bytes_are_those_of_the_sorted_table(tmp_path: Path) -> None:
    rows, path, expected = make_manifest(), tmp_path / "manifest.parquet", io.BytesIO()
    table = pa.Table.from_pandas(rows[MANIFEST_SCHEMA.names], schema=MANIFEST_SCHEMA, preserve_index=False)
    pq.write_table(table.replace_schema_metadata(None), expected, compression="zstd")
    write_manifest(rows.iloc[::-1], path)
    assert path.read_bytes() == expected.getvalue()


def test_write_manifest__fills_the_file_that_its_caller_has_locked(tmp_path: Path) -> None:
    path = tmp_path / "manifest.parquet"
    path.touch()
    before = path.stat().st_ino
    write_manifest(make_manifest(), path)
    assert path.stat().st_ino == before


def test_write_manifest__sorts_slices_by_number_not_by_text(tmp_path: Path) -> None:
    write_manifest(make_manifest(num_patients=2, num_slices=12).iloc[::-1], tmp_path / "manifest.parquet")
    assert read_manifest(tmp_path / "manifest.parquet")["slice_index"].tolist() == [*range(12), *range(12)]


def test_write_manifest__a_missing_column_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "manifest.parquet"
    write_manifest(make_manifest(), path)
    before = hash_file(path)
    with pytest.raises(KeyError, match="tumor_area_px"):
        write_manifest(make_manifest().drop(columns="tumor_area_px"), path)
    assert hash_file(path) == before and list(tmp_path.iterdir()) == [path]


def test_read_manifest__missing_or_damaged(tmp_path: Path) -> None:
    path = tmp_path / "manifest.parquet"
    with pytest.raises(DataError, match=r"manifest\.parquet cannot be read \(FileNotFound.*run ingest_data again"):
        read_manifest(path)
    for content in (b"", b"no Parquet"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"manifest\.parquet cannot be read"):
            read_manifest(path)
    write_manifest(make_manifest(), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"manifest\.parquet cannot be read"):
        read_manifest(path)


def test_read_manifest__other_columns(tmp_path: Path) -> None:
    path = tmp_path / "manifest.parquet"
    make_manifest().assign(age=50).to_parquet(path)
    with pytest.raises(DataError, match="other columns than this version writes; run ingest_data again"):
        read_manifest(path)
