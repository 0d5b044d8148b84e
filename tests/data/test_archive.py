import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from archives import add_member, make_archive, make_patient_id, make_zip, patch_member
from tumor_cascade.data.archive import open_archive
from tumor_cascade.data.raw_file import show
from tumor_cascade.errors import DataError

PATIENT = make_patient_id(0)
MEMBER = f"kaggle_3m/{PATIENT}/{PATIENT}_1.tif"
LIMIT = 1 << 20


@pytest.fixture
def archive_path(tmp_path: Path) -> Path:
    """A zip of one patient with one slice: two members."""
    folder = make_archive(tmp_path / "folder", num_patients=1, num_slices=1)
    return make_zip(folder, tmp_path / "archive.zip", has_nested_copy=False)


def list_violations(path: Path) -> list[str]:
    with open_archive(path) as archive:
        return archive.list_files()[1]


def read_first(path: Path) -> bytes:
    with open_archive(path) as archive:
        return archive.read(archive.list_files()[0][0], LIMIT)


def test_list_files__sound(archive_path: Path) -> None:
    with open_archive(archive_path) as archive:
        files, violations = archive.list_files()
        assert [file.path for file in files] == [MEMBER, MEMBER.replace(".tif", "_mask.tif")]
        assert violations == []
        with zipfile.ZipFile(archive_path) as reference:
            assert archive.read(files[0], LIMIT) == reference.read(MEMBER)


@pytest.mark.parametrize(
    "name",
    ["/etc/cron.d/x.tif", "kaggle_3m/../../x.tif", "kaggle_3m\\x.tif", "C:/x.tif", "a//x.tif", "./x.tif", "a/./b"],
)
def test_list_files__hostile_path(archive_path: Path, name: str) -> None:
    add_member(archive_path, name, b"x")
    (violation,) = list_violations(archive_path)
    assert violation.startswith(show(name))
    assert "no plain relative path" in violation


@pytest.mark.parametrize("mode", [0o120777, 0o010644, 0o020644, 0o060644, 0o140644])
def test_list_files__link_or_special_file(archive_path: Path, mode: int) -> None:
    add_member(archive_path, "kaggle_3m/link.tif", b"/etc/passwd", mode=mode)
    assert list_violations(archive_path) == [
        "kaggle_3m/link.tif is a link or special file; only files and folders are read; pack the file itself."
    ]


def test_list_files__encrypted(archive_path: Path) -> None:
    patch_member(archive_path, MEMBER, "flags", 1)
    assert list_violations(archive_path) == [f"{MEMBER} is encrypted; pack the archive without a password."]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_list_files__method_that_unpacks_without_bound(archive_path: Path, method: int) -> None:
    add_member(archive_path, "kaggle_3m/x.tif", b"x", method=method)
    assert list_violations(archive_path) == [
        f"kaggle_3m/x.tif is packed by method {method}; only stored and deflated files are read; pack it again."
    ]


def test_list_files__duplicate_name(archive_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        add_member(archive_path, MEMBER, b"another")
    (violation,) = list_violations(archive_path)
    assert f"{MEMBER} stands 2 times in the archive" in violation


def test_list_files__overlapping_members(archive_path: Path) -> None:
    mask = MEMBER.replace(".tif", "_mask.tif")
    patch_member(archive_path, mask, "header_offset", 0)
    (violation,) = list_violations(archive_path)
    assert "shares bytes with" in violation
    assert mask in violation


def test_list_files__ratio_that_deflate_cannot_reach(archive_path: Path) -> None:
    patch_member(archive_path, MEMBER, "file_size", 2**32 - 2)
    (violation,) = list_violations(archive_path)
    assert "to 4294967294, more than deflate can: a bomb or damaged" in violation


def test_list_files__name_not_marked_as_utf8(archive_path: Path) -> None:
    add_member(archive_path, "kaggle_3m/\u00fc.tif", b"x")
    archive_path.write_bytes(archive_path.read_bytes().replace("\u00fc".encode(), b"\xfc\xfc"))
    with pytest.raises(DataError, match=r"archive.zip has a member whose name is no UTF-8; pack it again"):
        list_violations(archive_path)
    patch_member(archive_path, ".tif", "flags", 0)  # the last member's flag "this name is UTF-8"
    (violation,) = list_violations(archive_path)
    assert "has a name that is not marked as UTF-8" in violation


def test_read__size_over_the_limit(archive_path: Path) -> None:
    add_member(archive_path, "a.tif", bytes(LIMIT + 1))
    with pytest.raises(DataError, match=r"a.tif has 1048577 bytes; a slice needs at most 1048576"):
        read_first(archive_path)


@pytest.mark.parametrize("size", [1, 100_000])
def test_read__other_size_than_declared(archive_path: Path, size: int) -> None:
    patch_member(archive_path, MEMBER, "file_size", size)
    with pytest.raises(DataError, match=r"damaged in the archive|unpacks to [0-9]+ bytes where the archive says"):
        read_first(archive_path)


def test_read__offset_that_no_file_has(archive_path: Path) -> None:
    member = zipfile.ZipInfo("a.tif")
    member.extra = struct.pack("<HHQ", 1, 8, 2**63)  # where zip64 keeps an offset of 64 bits
    with zipfile.ZipFile(archive_path, "a") as archive:
        archive.writestr(member, b"x")
    patch_member(archive_path, "a.tif", "header_offset", 2**32 - 1)  # "see the extra field"
    with pytest.raises(DataError, match=r"a\.tif is damaged in the archive .*download or pack the archive again"):
        read_first(archive_path)


def test_open_archive__that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory\); make it readable"):
        list_violations(tmp_path)


def test_read__wrong_checksum(archive_path: Path) -> None:
    patch_member(archive_path, MEMBER, "crc", 1)
    with pytest.raises(DataError, match=r"is damaged in the archive \(Bad CRC-32"):
        read_first(archive_path)


def test_read__damaged_bytes(archive_path: Path) -> None:
    data = bytearray(archive_path.read_bytes())
    data[200:400] = bytes(200)
    archive_path.write_bytes(data)
    with pytest.raises(DataError, match="is damaged in the archive"):
        read_first(archive_path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.99])
def test_open_archive__truncated(archive_path: Path, share: float) -> None:
    data = archive_path.read_bytes()
    archive_path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(DataError, match=r"archive.zip is no zip archive, damaged or truncated .*download it again"):
        list_violations(archive_path)


def test_open_archive__bombs_in_bounded_memory(tmp_path: Path) -> None:
    honest = tmp_path / "honest.zip"
    with zipfile.ZipFile(honest, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.tif", "w") as member:
        for _ in range(64):
            member.write(bytes(1 << 20))  # 64 MiB in 64 kB
    lying = tmp_path / "lying.zip"
    lying.write_bytes(honest.read_bytes())
    patch_member(lying, "x.tif", "file_size", 1000)
    # A table of contents of 18 MiB: 400,000 members of 47 bytes that would take some 200 MiB as Python objects.
    crowded = tmp_path / "crowded.zip"
    record = b"PK\1\2" + bytes(24) + b"\1\0" + bytes(16) + b"x"
    end = b"PK\5\6" + bytes(8) + (400_000 * len(record)).to_bytes(4, "little") + bytes(6)
    crowded.write_bytes(record * 400_000 + end)
    script = """
import resource, sys
from pathlib import Path
from tumor_cascade.data.archive import open_archive
from tumor_cascade.errors import DataError
def peak_mib(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak_mib()
for path in map(Path, sys.argv[1:]):
    try:
        with open_archive(path) as archive:
            print(len(archive.read(archive.list_files()[0][0], 1 << 20)))
    except DataError as error:
        print(error)
print(f"grew {peak_mib() - before:.0f} MiB")
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script, str(honest), str(lying), str(crowded)]
    lines = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "x.tif has 67108864 bytes; a slice needs at most 1048576" in lines[0]
    assert "x.tif is damaged in the archive (Bad CRC-32" in lines[1]
    assert "table of contents has 18800000 bytes, over 16777216" in lines[2]
    assert int(lines[3].split()[1]) < 24
