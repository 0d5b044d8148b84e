from dataclasses import replace
from pathlib import Path

import pytest

from packed_folders import find_key, publish_folder, write_folder
from tumor_cascade.data_plane.publication import publish
from tumor_cascade.errors import DataError
from tumor_cascade.object_store import ObjectStore, open_store

# 4 files of 1,000 bytes, a fifth equal to the first, content.json of 33: 5,033; the manifest has 200.
NUM_BYTES, MANIFEST_BYTES = 5033, 200


def test_publish__names_folder_and_manifest(store: ObjectStore, tmp_path: Path) -> None:
    published = publish_folder(tmp_path / "made", store)
    reference = published.reference
    assert (reference.store, reference.num_files, reference.num_bytes) == (store.url, 6, NUM_BYTES)
    assert len(store.list_keys("files/md5/")) == 7  # five contents, the manifest, the directory


def test_publish__sends_nothing_twice(store: ObjectStore, tmp_path: Path) -> None:
    slices, manifest = write_folder(tmp_path / "made")
    first, second = (publish(slices, manifest, store) for _ in range(2))
    assert first.sent_bytes >= NUM_BYTES - 1000 + MANIFEST_BYTES  # equal contents may be sent side by side
    assert second == replace(first, sent_bytes=0)


def test_publish__carries_on_where_it_was_broken_off(store: ObjectStore, tmp_path: Path) -> None:
    slices, manifest = write_folder(tmp_path / "made")
    for path in (manifest, slices / "patient-1.npy"):
        store.upload(path, find_key(path))
    assert publish(slices, manifest, store).sent_bytes in (NUM_BYTES - 2000, NUM_BYTES - 1000)


def test_publish__an_object_of_another_size_is_replaced(store: ObjectStore, tmp_path: Path) -> None:
    published = publish_folder(tmp_path / "made", store)
    (tmp_path / "half").write_bytes(published.manifest.read_bytes()[:100])
    store.upload(tmp_path / "half", find_key(published.manifest))
    assert publish(published.slices, published.manifest, store).sent_bytes == MANIFEST_BYTES
    assert store.get(find_key(published.manifest)) == published.manifest.read_bytes()


def test_publish__a_link_is_refused(tmp_path: Path) -> None:
    slices, manifest = write_folder(tmp_path / "made")
    (slices / "link.npy").symlink_to("/etc/passwd")
    with pytest.raises(DataError, match=r"only files can be published:\n- link\.npy is a link"):
        publish(slices, manifest, open_store(str(tmp_path / "store")))
    assert not (tmp_path / "store").exists()
