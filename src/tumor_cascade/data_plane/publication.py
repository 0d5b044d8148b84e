"""Packed slices into a store, object by object: what is there already is not sent again."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from tumor_cascade.data_plane.directory import DirectoryEntry, encode_directory, parse_directory
from tumor_cascade.data_plane.objects import hash_bytes, hash_content, run_parallel
from tumor_cascade.data_reference import LAYOUT, DataReference, ManifestReference, name_object
from tumor_cascade.errors import DataError
from tumor_cascade.object_store import ObjectStore


@dataclass(frozen=True)
class Publication:
    """What was published, and how many bytes of it had to be sent."""

    reference: DataReference
    sent_bytes: int


@dataclass(frozen=True)
class SentFile:
    """A file, the MD5 and number of its bytes, and whether the store had no such object."""

    path: Path
    md5: str
    num_bytes: int
    is_new: bool


def publish(slices: Path, manifest: Path, store: ObjectStore) -> Publication:
    """Put slices and manifest into a store, as `dvc push` lays them out.

    The directory object goes last: where it is, all that it names is there too. A publication that was broken off
    carries on when it is repeated.

    Args:
        slices: Folder of packed volumes.
        manifest: Their table.
        store: Where they go.

    Raises:
        DataError: The store cannot be written, or the folder holds links.
    """
    files = sorted(path for path in slices.rglob("*") if not path.is_dir() or path.is_symlink())
    links = [path.relative_to(slices).as_posix() for path in files if path.is_symlink()]
    if links:
        raise DataError([f"{name} is a link" for name in links], f"{slices}: only files can be published:")

    total = sum(path.stat().st_size for path in (*files, manifest))
    sent: dict[Path, SentFile] = {}
    with tqdm(desc="publish", total=total, disable=None, unit="B", unit_scale=True) as bar:
        for one in run_parallel(lambda path: send_file(path, store), (*files, manifest)):
            sent[one.path] = one
            bar.update(one.num_bytes)
    directory = encode_directory(DirectoryEntry(path.relative_to(slices).as_posix(), sent[path].md5) for path in files)
    name = hash_bytes(directory)
    parse_directory(directory, f"{name}.dir")  # what is published can be fetched
    store.put_if_absent(name_object(name, is_directory=True), directory)
    reference = DataReference(
        store=store.url,
        layout=LAYOUT,
        directory=name,
        num_files=len(files),
        num_bytes=sum(sent[path].num_bytes for path in files),
        manifest=ManifestReference(md5=sent[manifest].md5, sha256=hashlib.sha256(manifest.read_bytes()).hexdigest()),
    )
    return Publication(reference, sum(one.num_bytes for one in sent.values() if one.is_new))


def send_file(path: Path, store: ObjectStore) -> SentFile:
    """Put a file into the store unless an object of its MD5 and size is there."""
    md5, num_bytes = hash_content(path), path.stat().st_size
    key = name_object(md5)
    is_new = store.find_size(key) != num_bytes
    if is_new:
        store.upload(path, key)
    return SentFile(path, md5, num_bytes, is_new)
