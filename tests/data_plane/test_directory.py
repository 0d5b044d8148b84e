import json

import pytest

from tumor_cascade.data_plane.directory import DirectoryEntry, encode_directory, parse_directory
from tumor_cascade.errors import DataError

MD5 = "0123456789abcdef" * 2


def encode(*paths: object, md5: object = MD5) -> bytes:
    return json.dumps([{"md5": md5, "relpath": path} for path in paths]).encode()


def test_parse_directory__returns_what_was_encoded() -> None:
    entries = [DirectoryEntry("a/b.npy", MD5), DirectoryEntry("c d.npy", MD5)]
    content = encode_directory(reversed(entries))
    assert parse_directory(content, "x.dir") == entries
    # As DVC writes it, byte by byte: its MD5 is the folder's name.
    assert content == f'[{{"md5": "{MD5}", "relpath": "a/b.npy"}}, {{"md5": "{MD5}", "relpath": "c d.npy"}}]'.encode()


@pytest.mark.parametrize(
    "path", ["../evil", "a/../../evil", "/etc/passwd", "", ".", "a//b", "a/", "a/./b", "./a", "..", "a/.."]
)
def test_parse_directory__a_path_that_leads_outside_is_refused(path: str) -> None:
    with pytest.raises(
        DataError, match=r"x\.dir is not to be trusted; nothing of it was written:\n- entry 1: .*outside"
    ):
        parse_directory(encode("good", path), "x.dir")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (encode("a\\..\\b"), "has a backslash or characters that do not print"),
        (encode("a\0b"), "has a backslash or characters that do not print"),
        (encode("a\nb"), "has a backslash or characters that do not print"),
        (encode("\ud800"), "has a backslash or characters that do not print"),
        (encode("é" * 128), "has a name of more than 255 bytes"),
        (encode("a", md5="../../etc/passwd"), "is no MD5"),
        (encode("a", md5=MD5.upper()), "is no MD5"),
        (encode(1), "is no object with md5 and relpath"),
        (b'["a"]', "is no object with md5 and relpath"),
        (encode("a", "b", "a"), "'a' stands twice"),
        (encode("a", "a/b"), "'a' is both a file and a folder"),
        (b'{"relpath": "a"}', "is no list of files"),
        (b"\xff", "is no list of files"),
        (b"[" * 100_000, "is no list of files"),
    ],
)
def test_parse_directory__anything_but_files_each_once_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_directory(content, "x.dir")
