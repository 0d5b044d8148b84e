import hashlib
import json
from pathlib import Path

import pytest

from object_server import BUCKET
from packed_folders import PublishedFolder, find_key, publish_folder
from tumor_cascade.data_plane.verification import verify
from tumor_cascade.data_reference import DataReference, name_object
from tumor_cascade.errors import DataError
from tumor_cascade.object_store import ObjectStore, S3Store


@pytest.fixture
def published(store: ObjectStore, tmp_path: Path) -> PublishedFolder:
    return publish_folder(tmp_path / "made", store)


def remove_object(store: ObjectStore, key: str) -> None:
    assert isinstance(store, S3Store)
    store._client.delete_object(Bucket=BUCKET, Key=store.prefix + key)


def replace_object(store: ObjectStore, key: str, content: bytes, scratch: Path) -> None:
    scratch.write_bytes(content)
    store.upload(scratch, key)


def change(reference: DataReference, **values: object) -> DataReference:
    return DataReference.model_validate({**reference.model_dump(), **values})


@pytest.mark.parametrize("reads_all", [True, False])
def test_verify__a_complete_store_passes(published: PublishedFolder, reads_all: bool) -> None:
    verify(published.reference, published.store, reads_all=reads_all)


@pytest.mark.parametrize("reads_all", [True, False])
def test_verify__every_hole_is_named(published: PublishedFolder, reads_all: bool) -> None:
    paths = [published.slices / "patient-1.npy", published.slices / "more" / "twin.npy", published.manifest]
    keys = [find_key(path) for path in paths]
    for key in keys:
        remove_object(published.store, key)
    with pytest.raises(DataError, match=r"has 3 missing or corrupt objects; .*`dvc push`") as refused:
        verify(published.reference, published.store, reads_all=reads_all)
    names = [key.removeprefix("files/md5/").replace("/", "") for key in keys]
    assert refused.value.violations == sorted(f"{name} is missing" for name in names)


def test_verify__a_changed_byte_is_named(published: PublishedFolder, tmp_path: Path) -> None:
    path = published.slices / "patient-2.npy"
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    replace_object(published.store, find_key(path), bytes(content), tmp_path / "scratch")
    with pytest.raises(DataError, match=r"- \w{32} is corrupt: its 1000 bytes have the MD5 \w{32}$"):
        verify(published.reference, published.store)


@pytest.mark.parametrize("reads_all", [True, False])
def test_verify__a_cut_object_is_refused(published: PublishedFolder, tmp_path: Path, reads_all: bool) -> None:
    path = published.slices / "patient-2.npy"
    replace_object(published.store, find_key(path), path.read_bytes()[:999], tmp_path / "scratch")
    with pytest.raises(DataError, match=r"its 999 bytes have the MD5|have 5032 bytes, the data reference says 5033"):
        verify(published.reference, published.store, reads_all=reads_all)


def test_verify__a_missing_directory_is_named(published: PublishedFolder) -> None:
    remove_object(published.store, name_object(published.reference.directory, is_directory=True))
    with pytest.raises(DataError, match=rf"- {published.reference.directory}\.dir is missing"):
        verify(published.reference, published.store)


def test_verify__a_directory_with_hostile_paths_is_refused(published: PublishedFolder, tmp_path: Path) -> None:
    """Also where its MD5 is right: whoever makes references may be the one who is hostile."""
    content = json.dumps([{"md5": "0" * 32, "relpath": "../../evil"}]).encode()
    name = hashlib.md5(content).hexdigest()
    replace_object(published.store, name_object(name, is_directory=True), content, tmp_path / "scratch")
    with pytest.raises(DataError, match=r"'../../evil' leads outside the folder"):
        verify(change(published.reference, directory=name, num_files=1), published.store)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_files": 7}, "lists 6 files, the data reference says 7"),
        ({"num_bytes": 6000}, "have 5033 bytes, the data reference says 6000"),
    ],
)
def test_verify__a_reference_that_says_otherwise_is_refused(
    published: PublishedFolder, values: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        verify(change(published.reference, **values), published.store)


def test_verify__another_manifest_is_refused(published: PublishedFolder) -> None:
    manifest = {**published.reference.manifest.model_dump(), "sha256": "0" * 64}
    with pytest.raises(DataError, match=r"manifest \w{32} has the SHA-256 \w{64}, the data reference says 0{64}"):
        verify(change(published.reference, manifest=manifest), published.store)
