from pathlib import Path

import pytest

from archives import make_archive, make_patient_id, make_zip
from packed_folders import read_files
from tumor_cascade.data.volume_files import open_volumes
from tumor_cascade.data_plane import raw_data
from tumor_cascade.data_plane.raw_data import download_raw
from tumor_cascade.errors import DataError
from tumor_cascade.object_store import ObjectStore


def upload_folder(store: ObjectStore, folder: Path, prefix: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            store.upload(path, f"{prefix}/{path.relative_to(folder).as_posix()}")


def test_download_raw__a_prefix_is_a_folder_that_is_gone_afterwards(store: ObjectStore, tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "archive")
    upload_folder(store, archive, "lgg/raw")
    with download_raw(f"{store.url}/lgg/raw") as folder:
        assert read_files(folder) == read_files(archive)
    assert not folder.exists()


def test_download_raw__a_patients_folder_keeps_its_name(store: ObjectStore, tmp_path: Path) -> None:
    patient = make_patient_id(0)
    upload_folder(store, make_archive(tmp_path / "archive", num_slices=3), "lgg")
    with (
        download_raw(f"{store.url}/lgg/kaggle_3m/{patient}/") as folder,
        open_volumes(folder) as (_, volumes, faults),
    ):
        assert [(volume.volume_id, list(volume.images)) for volume in volumes] == [(patient, [1, 2, 3])]
        assert not faults


def test_download_raw__a_key_is_a_file(store: ObjectStore, tmp_path: Path) -> None:
    path = make_zip(make_archive(tmp_path / "archive"), tmp_path / "archive.zip", has_nested_copy=False)
    store.upload(path, "lgg/archive.zip")
    with download_raw(f"{store.url}/lgg/archive.zip") as found:
        assert (found.name, found.read_bytes()) == ("archive.zip", path.read_bytes())


def test_download_raw__nothing_there_is_told(store: ObjectStore) -> None:
    with pytest.raises(DataError, match=r"/nowhere: there is no such object and nothing below that prefix"):
        download_raw(f"{store.url}/nowhere").__enter__()


def test_download_raw__a_hostile_key_is_refused(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "evil").touch()
    store.upload(tmp_path / "evil", "raw/\x1b[31mevil.tif")
    with pytest.raises(DataError, match="has a backslash or characters that do not print"):
        download_raw(f"{store.url}/raw").__enter__()


def test_download_raw__more_than_a_data_set_can_have_is_refused(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_folder(store, make_archive(tmp_path / "archive"), "raw")
    monkeypatch.setattr(raw_data, "MAX_BYTES", 100)
    with pytest.raises(DataError, match="at most 200,000 objects and 100 bytes are taken for one data set"):
        download_raw(f"{store.url}/raw").__enter__()
