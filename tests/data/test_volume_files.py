import shutil
from pathlib import Path

import pytest

from archives import encode, image_path, make_archive, make_image, make_patient_id, make_zip
from tumor_cascade.data.raw_files import RawFolder
from tumor_cascade.data.volume_files import find_volumes, open_volumes, read_slices
from tumor_cascade.errors import DataError

PATIENT = make_patient_id(0)


def describe(source: Path) -> dict[str, list[int]]:
    with open_volumes(source) as (_, volumes, faults):
        assert not faults
        return {volume.volume_id: list(volume.images) for volume in volumes}


def test_find_volumes__patients_in_order_and_lone_images_after_them(tmp_path: Path) -> None:
    make_archive(tmp_path, num_slices=11)
    (tmp_path / "kaggle_3m" / "lone.png").write_bytes(encode(make_image(0), "PNG"))
    volumes, faults = find_volumes(RawFolder(tmp_path), tmp_path.name)
    assert [(volume.volume_id, volume.is_patient) for volume in volumes] == [
        (PATIENT, True),
        (make_patient_id(1), True),
        ("kaggle_3m/lone.png", False),
    ]
    assert list(volumes[0].images) == list(range(1, 12))
    assert faults == []


def test_open_volumes__patient_folder_behind_a_link(tmp_path: Path) -> None:
    make_archive(tmp_path / "raw")
    (tmp_path / "link").symlink_to(tmp_path / "raw" / "kaggle_3m" / PATIENT)
    assert describe(tmp_path / "link") == {PATIENT: [1, 2, 3]}


def test_open_volumes__zip_of_one_patients_slices(tmp_path: Path) -> None:
    make_archive(tmp_path / "raw", num_patients=1)
    packed = make_zip(tmp_path / "raw" / "kaggle_3m" / PATIENT, tmp_path / f"{PATIENT}.zip", has_nested_copy=False)
    assert describe(packed) == {PATIENT: [1, 2, 3]}


def test_open_volumes__missing_source(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither a folder nor a zip archive"), open_volumes(tmp_path / "missing"):
        pass


def test_find_volumes__copies_count_once_and_others_are_faults(tmp_path: Path) -> None:
    make_archive(tmp_path, num_patients=1)
    copy = tmp_path / "lgg-mri-segmentation"
    shutil.copytree(tmp_path / "kaggle_3m", copy / "kaggle_3m")
    image_path(copy, PATIENT, 2).write_bytes(encode(make_image(99)))
    [volume], _ = find_volumes(RawFolder(tmp_path), tmp_path.name)
    assert [file.path for file in volume.images.values()] == [
        f"kaggle_3m/{PATIENT}/{PATIENT}_{n}.tif" for n in (1, 2, 3)
    ]
    [fault] = volume.faults
    assert "has the slice number of" in fault.text and "but other content" in fault.text


def test_read_slices__all_but_the_odd_ones(tmp_path: Path) -> None:
    make_archive(tmp_path, num_patients=1)
    image_path(tmp_path, PATIENT, 1).write_bytes(b"no image")
    image_path(tmp_path, PATIENT, 4).write_bytes(encode(make_image(4, 40)))
    raw = RawFolder(tmp_path)
    [volume], _ = find_volumes(raw, tmp_path.name)
    slices, faults = read_slices(raw, volume)
    assert [one.slice_number for one in slices] == [2, 3]
    assert [one.mask for one in slices] == [None, None]
    assert [fault.file.path[-5:] for fault in faults if fault.file] == ["1.tif", "4.tif"]
