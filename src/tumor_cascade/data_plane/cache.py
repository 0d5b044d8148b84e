"""Packed slices on this node: fetched once, verified every time, shared by all pods without waiting for each other.

`files/` holds objects by MD5, `slices/<MD5 of a directory>/` the folders that stages read, made of hard links to them.
An object is written aside and renamed in when its last byte has proved right, so at any moment a name has its whole
content or does not exist: a killed fetch, or two at once, can only do work twice.
"""

import contextlib
import secrets
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from tumor_cascade.data_plane.directory import DirectoryEntry
from tumor_cascade.data_plane.objects import (
    FaultyObject,
    hash_content,
    list_entries,
    read_directory_object,
    refuse_faults,
    run_parallel,
    stream_object,
)
from tumor_cascade.data_plane.slice_folder import lay_out
from tumor_cascade.data_plane.verification import check_num_bytes
from tumor_cascade.data_reference import DataReference, name_object
from tumor_cascade.errors import DataError
from tumor_cascade.object_store import ObjectStore
from tumor_cascade.storage import sweep_leftovers, temporary_dir

INCOMING = "incoming"


@dataclass
class FetchedSlices:
    """Where the slices stand, and what it took.

    Attributes:
        folder: Of packed volumes; not to be written to.
        num_bytes: Of all files.
        num_fetched, fetched_bytes: Objects that came from the store.
        again_bytes: Those that had been here before: objects that are not whole any more, and what a killed fetch had
            begun.
        dropped_bytes: Of objects that this try had begun when it failed.
    """

    folder: Path
    num_bytes: int = 0
    num_fetched: int = 0
    fetched_bytes: int = 0
    again_bytes: int = 0
    dropped_bytes: int = 0

    def describe(self) -> str:
        """Return one line for people."""
        if not self.num_fetched:
            return f"slices: {self.num_bytes:,} bytes, all whole in the cache"
        return (
            f"slices: {self.num_bytes:,} bytes, fetched {self.fetched_bytes:,} in {self.num_fetched} objects, "
            f"{self.again_bytes:,} of them again"
        )


def fetch(reference: DataReference, store: ObjectStore, cache: Path) -> FetchedSlices:
    """Return a folder with exactly the files of a reference, every byte verified in this call.

    Args:
        reference: What to fetch.
        store: From where.
        cache: Folder of this node; objects that are whole in it are not fetched again.

    Raises:
        DataError: A missing or corrupt object, each named; a store that breaks off or a disk that is full. What has
            arrived whole stays, and the next try fetches the rest.
    """
    with explained_disk(cache, reference):
        again_bytes = sweep_leftovers(cache / INCOMING)
        with temporary_dir(cache / INCOMING) as incoming:
            return SliceFetch(reference, store, cache, incoming, again_bytes).run()


class SliceFetch:
    """One fetch, with its own folder for what is not whole yet."""

    def __init__(
        self, reference: DataReference, store: ObjectStore, cache: Path, incoming: Path, again_bytes: int
    ) -> None:
        self.reference, self.store, self.cache, self.incoming = reference, store, cache, incoming
        self.result = FetchedSlices(cache / "slices" / reference.directory, again_bytes=again_bytes)
        self.num_whole, self.lock = 0, threading.Lock()

    def run(self) -> FetchedSlices:
        """As `fetch`."""
        entries = self.take_directory()
        sizes = self.take_all({entry.md5 for entry in entries})
        self.result.num_bytes = sum(sizes[entry.md5] for entry in entries)
        check_num_bytes(self.result.num_bytes, self.reference)
        objects = {Path(entry.path): self.cache / name_object(entry.md5) for entry in entries}
        lay_out(self.result.folder, objects, self.incoming)
        return self.result

    def take_directory(self) -> list[DirectoryEntry]:
        """Return the files of the reference, from the cache where it has them: then no store is asked for anything."""
        path = self.cache / name_object(self.reference.directory, is_directory=True)
        if path.exists() and hash_content(path) == self.reference.directory:
            return list_entries(path.read_bytes(), self.reference)
        content = read_directory_object(self.store, self.reference)
        entries = list_entries(content, self.reference)
        temporary = self.incoming / secrets.token_hex(8)
        temporary.write_bytes(content)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.replace(path)
        return entries

    def take_all(self, objects: set[str]) -> dict[str, int]:
        """Bring all objects into the cache; return their bytes."""
        sizes: dict[str, int] = {}
        faults: list[str] = []
        try:
            with tqdm(desc="fetch", total=self.reference.num_bytes, disable=None, unit="B", unit_scale=True) as bar:
                for md5, num_bytes, fault in run_parallel(self.take, objects):
                    sizes[md5] = num_bytes
                    faults += [fault] if fault else []
                    bar.update(num_bytes)
        except DataError as error:
            dropped = f"{self.result.dropped_bytes:,} bytes of unfinished ones are fetched again by the next try"
            raise DataError(
                f"{error} {self.num_whole} of {len(objects)} objects are whole in {self.cache}; {dropped}."
            ) from error
        if faults:
            raise refuse_faults(self.store, faults)
        return sizes

    def take(self, md5: str) -> tuple[str, int, str | None]:
        """Bring an object into the cache unless it is there and whole; return its name, bytes and fault."""
        path = self.cache / name_object(md5)
        try:
            is_there = path.exists()
            is_whole = is_there and hash_content(path) == md5
            num_bytes = path.stat().st_size if is_whole else self.download(md5, path)
        except FaultyObject as error:
            return md5, 0, str(error)
        with self.lock:
            self.num_whole += 1
            self.result.num_fetched += not is_whole
            self.result.fetched_bytes += num_bytes * (not is_whole)
            self.result.again_bytes += num_bytes * (is_there and not is_whole)
        return md5, num_bytes, None

    def download(self, md5: str, path: Path) -> int:
        """Write an object aside, and give it its name once it has proved right; return its bytes."""
        temporary = self.incoming / secrets.token_hex(8)
        num_bytes = 0
        try:
            with temporary.open("xb") as stream:
                for piece in stream_object(self.store, md5, self.reference.num_bytes):
                    stream.write(piece)
                    num_bytes += len(piece)
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            with self.lock:
                self.result.dropped_bytes += num_bytes
            raise
        return num_bytes


@contextlib.contextmanager
def explained_disk(cache: Path, reference: DataReference) -> Iterator[None]:
    """Turn errors of the cache's disk into sentences."""
    try:
        yield
    except OSError as error:
        needs = f"the slices need {reference.num_bytes:,} bytes"
        with contextlib.suppress(OSError):
            needs += f", {shutil.disk_usage(cache).free:,} are free"
        raise DataError(
            f"{cache}: cannot be used ({error.strerror}); {needs}. Free space, or name another folder in "
            "TUMOR_CASCADE_DATA_CACHE; what has arrived whole is not fetched again."
        ) from error
