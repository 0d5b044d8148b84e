"""A zip archive read in place, nothing unpacked to disk. Members are hostile until judged; memory stays bounded.

Every violation that the table of contents shows is found before a member is read; a member is read up to its declared
size, which the caller bounds.
"""

import io
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tumor_cascade.data.raw_file import RawFile, check_size, show
from tumor_cascade.errors import DataError

MAX_DIRECTORY_BYTES = 16 << 20  # of the table of contents, some 130,000 files; it is held in memory
MAX_DEFLATE_RATIO = 1032  # more than that deflate cannot shrink anything
LOCAL_HEADER_BYTES = 30
UTF8_FLAG, ENCRYPTION_FLAGS = 0x800, 0x2041  # encrypted, strongly encrypted, encrypted table of contents
# What `zipfile` raises on damaged members; RuntimeError: encrypted, or methods it does not know; OverflowError: an
# offset that no file has.
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError, OverflowError, ValueError)


@contextmanager
def open_archive(path: Path) -> Iterator["RawArchive"]:
    """Open a zip archive.

    Raises:
        DataError: It cannot be read, is damaged, truncated, no zip, or its table of contents too large to hold.
    """
    try:
        stream = _BoundedFile(path)
    except OSError as error:
        raise DataError(f"{path.name} cannot be read ({error.strerror}); make it readable.") from error
    with stream:
        try:
            archive = zipfile.ZipFile(stream)
        except UnicodeDecodeError as error:
            raise DataError(f"{path.name} has a member whose name is no UTF-8; pack it again.") from error
        except DAMAGE as error:
            remedy = "download it again, or unpack it and give the folder."
            raise DataError(f"{path.name} is no zip archive, damaged or truncated ({error}); {remedy}") from error
        with archive:
            yield RawArchive(archive)


class RawArchive:
    """The members of an open archive."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def list_files(self) -> tuple[list[RawFile], list[str]]:
        """As `RawFiles`."""
        members = self._archive.infolist()
        faults = [(member, _find_fault(member)) for member in members]
        violations = [f"{show(member.orig_filename)} {fault}" for member, fault in faults if fault]
        violations += _find_duplicates(members) + _find_overlaps(members)
        files = [
            RawFile(member.filename.rstrip("/"), member.file_size, member.is_dir(), member)
            for member, fault in faults
            if not fault
        ]
        return sorted(files, key=lambda file: file.path), violations

    def read(self, file: RawFile, limit_bytes: int) -> bytes:
        """As `RawFiles`."""
        check_size(file, limit_bytes)
        remedy = "download or pack the archive again."
        try:
            with self._archive.open(file.member) as stream:
                data = stream.read(file.size_bytes)
        except DAMAGE as error:
            raise DataError(f"{show(file.path)} is damaged in the archive ({show(str(error))}); {remedy}") from error
        if len(data) != file.size_bytes:
            sizes = f"unpacks to {len(data)} bytes where the archive says {file.size_bytes}"
            raise DataError(f"{show(file.path)} {sizes}; {remedy}")
        return data

    def is_same(self, first: RawFile, second: RawFile) -> bool:
        """As `RawFiles`; by the archive's checksums, which reading a member verifies."""
        return bool((first.member.CRC, first.size_bytes) == (second.member.CRC, second.size_bytes))


class _BoundedFile(io.FileIO):
    """A file that refuses giant reads: `zipfile` reads the table of contents at once, whatever size it has."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile(f"its table of contents has {size} bytes, over {MAX_DIRECTORY_BYTES}")
        return super().read(size)


def _find_fault(member: zipfile.ZipInfo) -> str:
    """Say why a member is not read, or nothing."""
    name, kind = member.orig_filename, stat.S_IFMT(member.external_attr >> 16)
    if not name.isascii() and not member.flag_bits & UTF8_FLAG:
        return "has a name that is not marked as UTF-8; pack the archive again."
    parts = name.removesuffix("/").split("/")
    if "\\" in name or "\0" in name or ":" in parts[0] or any(part in ("", ".", "..") for part in parts):
        return "is no plain relative path (absolute, `..`, drive or backslash); pack the archive again."
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or special file; only files and folders are read; pack the file itself."
    if member.flag_bits & ENCRYPTION_FLAGS:
        return "is encrypted; pack the archive without a password."
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"is packed by method {member.compress_type}; only stored and deflated files are read; pack it again."
    if member.file_size > MAX_DEFLATE_RATIO * max(member.compress_size, 1):
        sizes = f"{member.compress_size} bytes to {member.file_size}"
        return f"claims to unpack {sizes}, more than deflate can: a bomb or damaged; pack it again."
    return ""


def _find_duplicates(members: list[zipfile.ZipInfo]) -> list[str]:
    counts = Counter(member.orig_filename.rstrip("/") for member in members)
    return [
        f"{show(name)} stands {count} times in the archive; a name must be unique; pack it again."
        for name, count in counts.items()
        if count > 1
    ]


def _find_overlaps(members: list[zipfile.ZipInfo]) -> list[str]:
    violations, end, previous = [], 0, ""
    for member in sorted(members, key=lambda member: member.header_offset):
        name = member.orig_filename
        if member.header_offset < end:
            violations.append(f"{show(name)} shares bytes with {show(previous)}: a bomb or damaged; pack it again.")
        end, previous = member.header_offset + LOCAL_HEADER_BYTES + len(name) + member.compress_size, name
    return violations
