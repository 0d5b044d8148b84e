"""Reading content-addressed objects: the MD5 in an object's name decides whether its bytes are used."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TypeVar

from tumor_cascade.data_plane.directory import MAX_DIRECTORY_BYTES, DirectoryEntry, parse_directory
from tumor_cascade.data_reference import DataReference, name_object
from tumor_cascade.errors import DataError
from tumor_cascade.object_store import MAX_CONNECTIONS, ObjectStore

NUM_THREADS = MAX_CONNECTIONS // 2
MAX_MANIFEST_BYTES = 1 << 30
T = TypeVar("T")
R = TypeVar("R")


class FaultyObject(Exception):  # noqa: N818 - collected into one DataError, never shown alone
    """An object that is missing, or whose bytes are not those that its name says."""


def hash_bytes(content: bytes) -> str:
    """Return the MD5 of bytes as 32 hex digits."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def hash_content(path: Path) -> str:
    """Return the MD5 of a file's bytes as 32 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def stream_object(store: ObjectStore, md5: str, max_bytes: int, *, is_directory: bool = False) -> Iterator[bytes]:
    """Yield the bytes of an object; an error after the last of them says that they are not to be used.

    Args:
        store: Where it lies.
        md5: Its name.
        max_bytes: No more than these are read.
        is_directory: Whether it is a directory object.

    Raises:
        FaultyObject: It is missing, too large, or its bytes have another MD5.
        DataError: The store cannot be read.
    """
    name = f"{md5}.dir" if is_directory else md5
    pieces = store.stream(name_object(md5, is_directory=is_directory))
    if pieces is None:
        raise FaultyObject(f"{name} is missing")
    digest, num_bytes = hashlib.md5(usedforsecurity=False), 0
    for piece in pieces:
        num_bytes += len(piece)
        if num_bytes > max_bytes:
            raise FaultyObject(f"{name} is corrupt: it has more than {max_bytes} bytes")
        digest.update(piece)
        yield piece
    if digest.hexdigest() != md5:
        raise FaultyObject(f"{name} is corrupt: its {num_bytes} bytes have the MD5 {digest.hexdigest()}")


def read_object(store: ObjectStore, md5: str, max_bytes: int, *, is_directory: bool = False) -> bytes:
    """Return the bytes of an object; arguments and errors as `stream_object`."""
    return b"".join(stream_object(store, md5, max_bytes, is_directory=is_directory))


def read_directory(store: ObjectStore, reference: DataReference) -> list[DirectoryEntry]:
    """Return the files of a reference.

    Raises:
        DataError: The directory object is missing, corrupt, hostile, or has another number of files.
    """
    return list_entries(read_directory_object(store, reference), reference)


def read_directory_object(store: ObjectStore, reference: DataReference) -> bytes:
    """Return the bytes of a reference's directory object.

    Raises:
        DataError: It is missing or corrupt.
    """
    try:
        return read_object(store, reference.directory, MAX_DIRECTORY_BYTES, is_directory=True)
    except FaultyObject as error:
        raise refuse_faults(store, [str(error)]) from None


def list_entries(content: bytes, reference: DataReference) -> list[DirectoryEntry]:
    """Return the files that a reference's directory object lists.

    Raises:
        DataError: It is hostile or has another number of files.
    """
    name = f"{reference.directory}.dir"
    entries = parse_directory(content, name)
    if len(entries) != reference.num_files:
        raise DataError(
            f"{name} lists {len(entries)} files, the data reference says {reference.num_files}; make it again."
        )
    return entries


def refuse_faults(store: ObjectStore, faults: Iterable[str]) -> DataError:
    """Return the error that names each missing or corrupt object."""
    lines = sorted(faults)
    remedy = "remove corrupt ones from it, then `dvc push` from a machine that has the data, or publish them again"
    return DataError(lines, f"{store.url} has {len(lines)} missing or corrupt objects; {remedy}:")


def run_parallel(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield the results of a function in the order in which they come; the first error stops the rest."""
    pool = ThreadPoolExecutor(NUM_THREADS)
    try:
        for future in as_completed([pool.submit(function, item) for item in items]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)
