import json
from pathlib import Path
from typing import Any

import pytest

from tumor_cascade.data_reference import (
    MAX_REFERENCE_BYTES,
    DataReference,
    name_object,
    parse_reference,
    read_reference,
    write_reference,
)
from tumor_cascade.errors import DataError

MD5, SHA256 = "0123456789abcdef" * 2, "0123456789abcdef" * 4
VALUES: dict[str, Any] = {
    "store": "s3://bucket/prefix",
    "layout": "dvc-md5",
    "directory": MD5,
    "num_files": 2,
    "num_bytes": 3,
    "manifest": {"md5": MD5, "sha256": SHA256},
}


def test_read_reference__returns_what_was_written(tmp_path: Path) -> None:
    reference = DataReference.model_validate(VALUES)
    write_reference(reference, tmp_path / "slices.json")
    assert read_reference(tmp_path / "slices.json") == reference
    assert json.loads((tmp_path / "slices.json").read_text()) == VALUES


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("layout", "dvc-etag", "layout: Input should be 'dvc-md5'"),
        ("directory", f"{MD5}.dir", "directory: String should match pattern"),
        ("directory", f"{MD5}\n", "directory: String should match pattern"),
        ("directory", "../../../../../../etc/passwd/xxxx", "directory: String should match pattern"),
        ("num_files", 0, "num_files: Input should be greater than or equal to 1"),
        ("num_bytes", "3", "num_bytes: Input should be a valid integer"),
        ("manifest", {"md5": MD5}, "manifest.sha256: Field required"),
        ("store", "s3://key:secret@bucket", "store: .*holds credentials"),
        ("owner", "me", "owner: Extra inputs are not permitted"),
    ],
)
def test_parse_reference__another_value_is_refused(key: str, value: object, message: str) -> None:
    with pytest.raises(DataError, match=rf"x\.json is no data reference, as .* prints it:\n- {message}") as refused:
        parse_reference(json.dumps({**VALUES, key: value}), "x.json")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"PK\x03\x04"])
def test_read_reference__another_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "slices.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match="is no data reference"):
        read_reference(path)


def test_read_reference__a_large_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "archive.zip"
    path.write_bytes(b" " * (MAX_REFERENCE_BYTES + 1))
    with pytest.raises(DataError, match="has more than 65536 bytes, so it is no data reference"):
        read_reference(path)


def test_read_reference__a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json: cannot be read"):
        read_reference(tmp_path / "none.json")


def test_name_object__is_where_dvc_has_it() -> None:
    assert name_object(MD5) == "files/md5/01/23456789abcdef0123456789abcdef"
    assert name_object(MD5, is_directory=True) == "files/md5/01/23456789abcdef0123456789abcdef.dir"
