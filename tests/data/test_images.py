import os
from pathlib import Path

import numpy as np
import pytest

from archives import encode, make_image, make_mask
from tumor_cascade.data.images import FolderSource
from tumor_cascade.data.source import SourcePatient
from tumor_cascade.errors import DataError


def read(root: Path) -> list[SourcePatient]:
    return list(FolderSource(root, 64).read_patients())


def test_read_patients__every_file_is_a_patient(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(encode(make_image(2), "PNG"))
    (tmp_path / "a.tif").write_bytes(encode(make_image(1, size_px=48)))
    (tmp_path / "README.md").touch()
    first, second = read(tmp_path)
    assert [(one.patient_id, one.institution) for one in (first, second)] == [
        ("image-000001", "unknown"),
        ("image-000002", "unknown"),
    ]
    assert (first.slices[0].name, first.slices[0].image.shape) == ("a.tif", (3, 48, 48))
    assert np.array_equal(second.slices[0].image, make_image(2).transpose(2, 0, 1))
    assert second.slices[0].mask is None
    source = FolderSource(tmp_path, 64)
    assert (source.count_patients(), source.has_patient_ids) == (2, False)


def test_read_patients__masks(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(make_image(1), "PNG"))
    (tmp_path / "a_mask.png").write_bytes(encode(make_mask(), "PNG"))
    (patient,) = read(tmp_path)
    assert patient.slices[0].mask is not None
    assert np.array_equal(patient.slices[0].mask * 255, make_mask())


def test_read_patients__violations(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "b.tif", "c_mask.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"no image")
    (tmp_path / "folder").mkdir()
    (tmp_path / "d.png").symlink_to("a.png")
    with pytest.raises(DataError, match=r"nothing was ingested; violations \(9\)") as caught:
        read(tmp_path)
    words = [
        "d.png is a link",
        "b.tif has the same name as b.png",
        "folder is no image",
        "notes.txt is no image",
        "image a.png has no mask",
        "image b.tif has no mask",
        "mask c_mask.png has no image",
        "a.png cannot be decoded as PNG",
        "b.tif cannot be decoded as TIFF",
    ]
    assert all(word in str(caught.value) for word in words)


def test_read_patients__a_name_that_is_no_utf_8(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/scan\xff.png")).write_bytes(encode(make_image(1), "PNG"))
    (tmp_path / "größe.png").write_bytes(encode(make_image(1), "PNG"))
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    assert caught.value.violations == [
        r"'scan\udcff.png' has a name that is no UTF-8, as manifests need it; rename it."
    ]


def test_read_patients__empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images found"):
        read(tmp_path)
