"""Small folders that stand for packed slices: what the data plane carries, it does not read."""

import random
from dataclasses import dataclass
from pathlib import Path

from tumor_cascade.data_plane.objects import hash_content
from tumor_cascade.data_plane.publication import publish
from tumor_cascade.data_reference import DataReference, name_object
from tumor_cascade.object_store import ObjectStore


@dataclass(frozen=True)
class PublishedFolder:
    """A folder, what was published of it, and where."""

    slices: Path
    manifest: Path
    reference: DataReference
    store: ObjectStore


def write_folder(folder: Path, num_files: int = 6, num_bytes: int = 1000, seed: int = 0) -> tuple[Path, Path]:
    """Write a folder of files with random content, two of them equal and one in a sub-folder, and a manifest."""
    draw = random.Random(seed)
    slices, manifest = folder / "slices", folder / "manifest.parquet"
    (slices / "more").mkdir(parents=True)
    for number in range(num_files - 2):
        (slices / f"patient-{number}.npy").write_bytes(draw.randbytes(num_bytes))
    (slices / "more" / "twin.npy").write_bytes((slices / "patient-0.npy").read_bytes())
    (slices / "content.json").write_text('{"params": {"source": "phantom"}}')
    manifest.write_bytes(draw.randbytes(200))
    return slices, manifest


def publish_folder(folder: Path, store: ObjectStore, **sizes: int) -> PublishedFolder:
    """Write such a folder and publish it."""
    slices, manifest = write_folder(folder, **sizes)
    return PublishedFolder(slices, manifest, publish(slices, manifest, store).reference, store)


def read_files(folder: Path) -> dict[str, bytes]:
    """Return the content of each file of a folder by its relative path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def find_key(path: Path) -> str:
    """Return the key under which the store has a file's content."""
    return name_object(hash_content(path))
