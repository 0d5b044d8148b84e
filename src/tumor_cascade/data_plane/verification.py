"""Is everything that a reference names in its store, and whole?"""

import hashlib

from tqdm import tqdm

from tumor_cascade.data_plane.objects import (
    MAX_MANIFEST_BYTES,
    FaultyObject,
    read_directory,
    read_object,
    refuse_faults,
    run_parallel,
    stream_object,
)
from tumor_cascade.data_reference import DataReference, name_object
from tumor_cascade.errors import DataError
from tumor_cascade.object_store import ObjectStore


def verify(reference: DataReference, store: ObjectStore, *, reads_all: bool = True) -> None:
    """Refuse a reference that its store cannot serve.

    Args:
        reference: What is to be there.
        store: Where.
        reads_all: Whether every byte is read and hashed; else each file's object is only asked for its size.

    Raises:
        DataError: Naming each missing or corrupt object, or another number of bytes than the reference says.
    """
    entries = read_directory(store, reference)
    faults, sizes = [], {}
    measure = measure_content if reads_all else measure_size

    def check(md5: str) -> tuple[str, int, str | None]:
        try:
            return md5, measure(store, md5, reference.num_bytes), None
        except FaultyObject as error:
            return md5, 0, str(error)

    with tqdm(desc="verify", total=reference.num_bytes, disable=None, unit="B", unit_scale=True) as bar:
        for md5, num_bytes, fault in run_parallel(check, {entry.md5 for entry in entries}):
            sizes[md5] = num_bytes
            faults += [fault] if fault else []
            bar.update(num_bytes)
    try:
        read_manifest_object(store, reference)
    except FaultyObject as error:
        faults.append(str(error))
    if faults:
        raise refuse_faults(store, faults)
    check_num_bytes(sum(sizes[entry.md5] for entry in entries), reference)


def measure_content(store: ObjectStore, md5: str, max_bytes: int) -> int:
    """Return the bytes of an object, every one of them read and hashed."""
    return sum(map(len, stream_object(store, md5, max_bytes)))


def measure_size(store: ObjectStore, md5: str, _: int) -> int:
    """Return the bytes of an object, as its store says."""
    size = store.find_size(name_object(md5))
    if size is None:
        raise FaultyObject(f"{md5} is missing")
    return size


def fetch_manifest(store: ObjectStore, reference: DataReference) -> bytes:
    """Return the bytes of the manifest.

    Raises:
        DataError: It is missing or corrupt, or not the one of the slices.
    """
    try:
        return read_manifest_object(store, reference)
    except FaultyObject as error:
        raise refuse_faults(store, [f"{error} (the manifest)"]) from None


def read_manifest_object(store: ObjectStore, reference: DataReference) -> bytes:
    """Return the bytes of the manifest, as `fetch_manifest`; it may be one of several faulty objects."""
    content = read_object(store, reference.manifest.md5, MAX_MANIFEST_BYTES)
    digest = hashlib.sha256(content).hexdigest()
    if digest != reference.manifest.sha256:
        raise DataError(
            f"manifest {reference.manifest.md5} has the SHA-256 {digest}, the data reference says "
            f"{reference.manifest.sha256}; make the reference again."
        )
    return content


def check_num_bytes(num_bytes: int, reference: DataReference) -> None:
    """Refuse slices of another size than the reference says."""
    if num_bytes != reference.num_bytes:
        raise DataError(
            f"the slices of {reference.directory}.dir have {num_bytes} bytes, the data reference says "
            f"{reference.num_bytes}; make the reference again."
        )
