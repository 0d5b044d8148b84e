"""Raw data from a bucket, in a temporary folder of this node. Keys are hostile until judged, sizes bounded."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from tumor_cascade.data_plane.directory import DirectoryEntry, encode_directory, parse_directory
from tumor_cascade.data_plane.objects import run_parallel
from tumor_cascade.errors import DataError
from tumor_cascade.object_store import ObjectStore, open_store

MAX_FILES, MAX_BYTES = 200_000, 64 << 30
TMPDIR_REMEDY = "free space, or name another folder in TMPDIR."


@contextlib.contextmanager
def download_raw(url: str) -> Iterator[Path]:
    """Yield a raw data set from a bucket as a file or folder that is gone afterwards.

    Args:
        url: `s3://bucket/key` of a zip, or `s3://bucket/prefix` of a folder.

    Raises:
        DataError: Nothing is there, a key leads outside the folder, or it is more than fits.
    """
    parent, _, name = url.rstrip("/").rpartition("/")
    store = open_store(url)
    with tempfile.TemporaryDirectory(prefix="raw-") as scratch:
        size = None if parent.endswith("/") else open_store(parent).find_size(name)
        if size is not None:
            check_amount(url, {name: size}, scratch)
            download_folder(open_store(parent), {name: size}, Path(scratch))
            yield Path(scratch, name)
            return
        # As it is called there: a folder's name may be its patient's. No name leads out of the scratch folder.
        folder = Path(scratch, "raw" if name in ("", ".", "..") else name)
        download_folder(store, list_files(store, scratch), folder)
        yield folder


def list_files(store: ObjectStore, scratch: str) -> dict[str, int]:
    """Return path and bytes of each object below a prefix.

    Raises:
        DataError: As `download_raw`.
    """
    # Some tools make an object of no bytes for each folder.
    sizes = {key: size for key, size in store.list_sizes("").items() if not key.endswith("/")}
    if not sizes:
        raise DataError(f"{store.url}: there is no such object and nothing below that prefix; correct --raw.")
    check_amount(store.url, sizes, scratch)
    listing = encode_directory(DirectoryEntry(key, "0" * 32) for key in sizes)
    parse_directory(listing, store.url)  # the same rules for paths
    return sizes


def check_amount(url: str, sizes: dict[str, int], scratch: str) -> None:
    """Refuse more files or bytes than a data set can have, or than the disk can take."""
    num_bytes, free_bytes = sum(sizes.values()), shutil.disk_usage(scratch).free
    if len(sizes) > MAX_FILES or num_bytes > MAX_BYTES:
        raise DataError(
            f"{url}: {len(sizes):,} objects of {num_bytes:,} bytes; at most {MAX_FILES:,} objects and {MAX_BYTES:,} "
            "bytes are taken for one data set. Correct --raw, or split the data."
        )
    if num_bytes > free_bytes:
        raise DataError(
            f"{url}: {num_bytes:,} bytes do not fit into {scratch}, where {free_bytes:,} are free; {TMPDIR_REMEDY}"
        )


def download_folder(store: ObjectStore, sizes: dict[str, int], folder: Path) -> None:
    """Write all objects below a prefix into a folder."""

    def take(key: str) -> int:
        try:
            is_whole = store.download(key, folder / key) and (folder / key).stat().st_size == sizes[key]
        except OSError as error:
            raise DataError(f"{folder / key}: cannot be written ({error.strerror}); {TMPDIR_REMEDY}") from error
        if not is_whole:
            raise DataError(f"{store.url}/{key}: changed while it was read; repeat when its writer has finished.")
        return sizes[key]

    with tqdm(desc="download", total=sum(sizes.values()), disable=None, unit="B", unit_scale=True) as bar:
        for num_bytes in run_parallel(take, sizes):
            bar.update(num_bytes)
