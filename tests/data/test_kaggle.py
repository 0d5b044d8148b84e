import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archives import (
    add_member,
    add_slice,
    add_stray_files,
    encode,
    image_path,
    make_archive,
    make_image,
    make_mask,
    make_patient_id,
    make_zip,
    mask_path,
)
from tumor_cascade.data import kaggle
from tumor_cascade.data.kaggle import KaggleSource
from tumor_cascade.data.source import SourcePatient
from tumor_cascade.errors import DataError

FIRST, SECOND = make_patient_id(0), make_patient_id(1)
FIRST_FILE = f"kaggle_3m/{FIRST}/{FIRST}_1.tif"


def read(root: Path, max_side_px: int = 64) -> list[SourcePatient]:
    return list(KaggleSource(root, max_side_px).read_patients())


def find_violations(root: Path, max_side_px: int = 64) -> list[str]:
    with pytest.raises(DataError, match="nothing was ingested") as caught:
        read(root, max_side_px)
    assert caught.value.exit_code == 3
    return caught.value.violations


def assert_equal(first: list[SourcePatient], second: list[SourcePatient]) -> None:
    assert [one.patient_id for one in first] == [one.patient_id for one in second]
    for one, other in zip(first, second, strict=True):
        assert one.institution == other.institution
        assert [s.name for s in one.slices] == [s.name for s in other.slices]
        assert all(np.array_equal(a.image, b.image) for a, b in zip(one.slices, other.slices, strict=True))
        assert all(np.array_equal(a.mask, b.mask) for a, b in zip(one.slices, other.slices, strict=True))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two patients of three slices each."""
    return make_archive(tmp_path / "raw")


def test_read_patients__folder(folder: Path) -> None:
    first, second = read(folder)
    assert (first.patient_id, first.institution) == (FIRST, "CS")
    assert (second.patient_id, second.institution) == (SECOND, "DU")
    assert [(one.slice_number, one.name) for one in first.slices] == [(n, f"{FIRST}_{n}.tif") for n in (1, 2, 3)]
    # make_archive seeds slice n of patient p with 97 p + n.
    assert np.array_equal(second.slices[1].image, make_image(99).transpose(2, 0, 1))
    assert second.slices[1].mask is not None
    assert np.array_equal(second.slices[1].mask * 255, make_mask())
    assert KaggleSource(folder, 64).count_patients() == 2


def test_read_patients__numbers_in_numeric_order(tmp_path: Path) -> None:
    (patient,) = read(make_archive(tmp_path, num_patients=1, num_slices=11))
    assert [one.slice_number for one in patient.slices] == list(range(1, 12))


def test_read_patients__every_place_of_the_layout(folder: Path, tmp_path: Path) -> None:
    expected = read(folder)
    (tmp_path / "nested").mkdir()
    shutil.copytree(folder, tmp_path / "nested" / "lgg-mri-segmentation")
    (tmp_path / "link").symlink_to(folder)
    zip_path = make_zip(folder, tmp_path / "archive.zip")
    (tmp_path / "only-zip").mkdir()
    shutil.copy(zip_path, tmp_path / "only-zip" / "archive.zip")
    (tmp_path / "only-zip" / ".DS_Store").touch()
    (tmp_path / "zip-link").symlink_to(zip_path)
    (tmp_path / "unpacked").mkdir()
    shutil.unpack_archive(zip_path, tmp_path / "unpacked")  # both copies side by side
    for root in ("raw/kaggle_3m", "nested", "link", "archive.zip", "only-zip", "zip-link", "unpacked"):
        assert_equal(read(tmp_path / root), expected)


def test_read_patients__stray_files(folder: Path, tmp_path: Path) -> None:
    expected = read(folder)
    add_stray_files(folder)
    assert_equal(read(folder), expected)
    assert_equal(read(make_zip(folder, tmp_path / "archive.zip")), expected)


def test_read_patients__unlabelled(tmp_path: Path) -> None:
    patients = read(make_archive(tmp_path, has_masks=False))
    assert {one.mask for patient in patients for one in patient.slices} == {None}


@pytest.mark.parametrize(
    ("patient_id", "institution"),
    [("TCGA_HT_A61A_20000127", "HT"), ("PHA_AA_0001", "AA"), ("patient7", "unknown"), ("a_b_c", "unknown")],
)
def test_read_patients__institution(tmp_path: Path, patient_id: str, institution: str) -> None:
    add_slice(tmp_path, patient_id, 1, make_image(1), make_mask())
    (patient,) = read(tmp_path)
    assert patient.institution == institution


@pytest.mark.parametrize("is_zip", [False, True])
def test_read_patients__many_violations_at_once(folder: Path, tmp_path: Path, is_zip: bool) -> None:
    image_path(folder, FIRST, 1).write_bytes(b"no image")
    mask_path(folder, FIRST, 2).unlink()
    add_slice(folder, SECOND, 2, make_image(1, size_px=16), make_mask(8))
    (folder / "kaggle_3m" / FIRST / "notes.txt").touch()
    add_slice(folder, ".hidden", 1, make_image(1), make_mask())
    violations = find_violations(make_zip(folder, tmp_path / "a.zip") if is_zip else folder)
    assert violations == [
        f"kaggle_3m/{FIRST}/notes.txt has no place in the layout; data are <patient>/<patient>_<number>.tif and "
        "..._<number>_mask.tif; rename, move or remove it.",
        "patient folder .hidden has an unsafe name; 1 to 64 letters, digits, `.`, `_` or `-`, not starting with `.`; "
        "rename it.",
        f"image kaggle_3m/{FIRST}/{FIRST}_2.tif has no mask; all images have one or none has; add it.",
        f"{FIRST_FILE} cannot be decoded as TIFF (UnidentifiedImageError): damaged, truncated or another format; "
        "export it again.",
        f"mask kaggle_3m/{SECOND}/{SECOND}_2_mask.tif is 8x8 but its image is 16x16; export the pair again or "
        "remove it.",
    ]


def test_read_patients__mask_without_image(folder: Path) -> None:
    image_path(folder, FIRST, 2).unlink()
    assert find_violations(folder) == [
        f"mask kaggle_3m/{FIRST}/{FIRST}_2_mask.tif has no image; add the image or remove the mask."
    ]


def test_read_patients__slice_of_another_size(folder: Path) -> None:
    add_slice(folder, FIRST, 2, make_image(1, size_px=16), make_mask(16))
    assert find_violations(folder) == [
        f"{FIRST}_2.tif is 16x16 but most slices of its patient are 32x32; all must be of one size; export it again."
    ]


def test_read_patients__file_of_another_patient(folder: Path) -> None:
    image_path(folder, SECOND, 3).rename(folder / "kaggle_3m" / FIRST / f"{SECOND}_3.tif")
    mask_path(folder, SECOND, 3).rename(folder / "kaggle_3m" / FIRST / f"{SECOND}_3_mask.tif")
    first, second = find_violations(folder)
    assert first.endswith(f"{SECOND}_3.tif belongs to patient {SECOND} but lies in folder {FIRST}; move or remove it.")
    assert f"{SECOND}_3_mask.tif belongs to patient" in second


def test_read_patients__two_slices_of_one_number(folder: Path) -> None:
    shutil.copy(image_path(folder, FIRST, 1), folder / "kaggle_3m" / FIRST / f"{FIRST}_01.tif")
    (violation,) = find_violations(folder)
    assert violation.endswith(
        f"{FIRST}_1.tif has the same slice number as {FIRST}_01.tif; one file per number; remove one."
    )


@pytest.mark.parametrize(
    "name", ["x.tif", f"{FIRST}_one.tif", f"{FIRST}_1.png", f"{FIRST}_1.TIF", f"{FIRST}_4_seg.tif"]
)
def test_read_patients__name_outside_the_layout(folder: Path, name: str) -> None:
    (folder / "kaggle_3m" / FIRST / name).touch()
    (violation,) = find_violations(folder)
    assert violation.startswith(f"kaggle_3m/{FIRST}/{name} has no place in the layout")


@pytest.mark.parametrize("place", ["kaggle_3m", "", f"kaggle_3m/{FIRST}/deeper"])
def test_read_patients__file_in_the_wrong_place(folder: Path, place: str) -> None:
    (folder / place).mkdir(exist_ok=True)
    shutil.copy(image_path(folder, FIRST, 1), folder / place / f"{FIRST}_9.tif")
    violations = find_violations(folder)
    assert any(f"{FIRST}_9.tif has no place in the layout" in violation for violation in violations)


@pytest.mark.parametrize("name", ["bad name", "-" * 65, "pat\u00efent", "line\nbreak", ".dot", "a;b"])
def test_read_patients__unsafe_patient_id(folder: Path, name: str) -> None:
    add_slice(folder, name, 1, make_image(1), make_mask())
    (violation,) = find_violations(folder)
    assert "has an unsafe name; 1 to 64 letters" in violation
    assert violation.isprintable()


def test_read_patients__name_that_is_no_text(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder / "kaggle_3m" / FIRST) + b"/\xff\x1b[31m.tif")).touch()
    (violation,) = find_violations(folder)
    assert violation.isprintable()
    assert "has no place in the layout" in violation


def test_read_patients__empty_patient_folder(folder: Path) -> None:
    (folder / "kaggle_3m" / "TCGA_CS_9999_20000101").mkdir()
    assert find_violations(folder) == ["patient folder TCGA_CS_9999_20000101 holds no slices; fill or remove it."]


@pytest.mark.parametrize("is_zip", [False, True])
def test_read_patients__no_slices(tmp_path: Path, is_zip: bool) -> None:
    (tmp_path / "raw").mkdir()
    root = make_zip(tmp_path / "raw", tmp_path / "raw.zip") if is_zip else tmp_path / "raw"
    (violation,) = find_violations(root)
    assert violation.startswith("no slices found; patient folders belong at the top or in kaggle_3m/")


def test_read_patients__nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="raw is neither a folder nor a zip archive; copy or link the data set there"):
        read(tmp_path / "raw")


def test_read_patients__links_and_special_files(folder: Path, tmp_path: Path) -> None:
    patient = folder / "kaggle_3m" / FIRST
    (patient / f"{FIRST}_4.tif").symlink_to(image_path(folder, FIRST, 1))
    (patient / "README.txt").symlink_to(tmp_path / "nowhere")
    (folder / "kaggle_3m" / "TCGA_HT_0001").symlink_to(folder, target_is_directory=True)
    os.mkfifo(patient / f"{FIRST}_5.tif")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(patient)  # a socket's path may have 107 characters only
        try:
            server.bind(f"{FIRST}_6.tif")
        finally:
            os.chdir(here)
        violations = find_violations(folder)
    remedy = "only files and folders are read; put the file itself there or remove it."
    assert violations == [
        f"kaggle_3m/{FIRST}/README.txt is a link; {remedy}",
        f"kaggle_3m/{FIRST}/{FIRST}_4.tif is a link; {remedy}",
        f"kaggle_3m/{FIRST}/{FIRST}_5.tif is no regular file; {remedy}",
        f"kaggle_3m/{FIRST}/{FIRST}_6.tif is no regular file; {remedy}",
        f"kaggle_3m/TCGA_HT_0001 is a link; {remedy}",
    ]


def test_read_patients__zip_that_is_a_link(folder: Path, tmp_path: Path) -> None:
    make_zip(folder, tmp_path / "archive.zip")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "archive.zip").symlink_to(tmp_path / "archive.zip")
    assert any("archive.zip is a link" in violation for violation in find_violations(tmp_path / "data"))


def test_read_patients__zip_beside_the_unpacked_folder(folder: Path) -> None:
    make_zip(folder, folder / "archive.zip")
    (violation,) = find_violations(folder)
    assert violation.startswith("archive.zip has no place in the layout")


def test_read_patients__nested_copy_that_differs(folder: Path, tmp_path: Path) -> None:
    both = tmp_path / "both"
    shutil.copytree(folder, both)
    shutil.copytree(folder, both / "lgg-mri-segmentation")
    (both / "lgg-mri-segmentation" / FIRST_FILE).write_bytes(encode(make_image(5)))
    expected = [
        f"lgg-mri-segmentation/{FIRST_FILE} differs from {FIRST_FILE}; the archive's copies of a file must be equal; "
        "remove the wrong one."
    ]
    assert find_violations(both) == expected
    assert find_violations(make_zip(both, tmp_path / "both.zip", has_nested_copy=False)) == expected


def test_read_patients__image_over_the_allowed_side(folder: Path) -> None:
    violations = find_violations(folder, max_side_px=31)
    assert len(violations) == 12  # 2 patients x 3 slices x image and mask
    remedy = "export it smaller, or ingest it with a higher ingest_data.max_side_px."
    assert violations[0] == f"{FIRST_FILE} is 32x32; at most 31 px a side; {remedy}"


def test_read_patients__file_over_the_allowed_bytes(folder: Path) -> None:
    with image_path(folder, FIRST, 1).open("r+b") as stream:
        stream.truncate(1 << 40)  # a sparse terabyte
    (violation,) = find_violations(folder)
    # 3 * 64 * 64 + 1 MiB
    assert f"{FIRST_FILE} has 1099511627776 bytes; a slice needs at most 1060864" in violation


def test_read_patients__patient_too_large(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kaggle, "MAX_PATIENT_BYTES", 2 * 4 * 32 * 32)  # two slices and their masks
    first, _ = find_violations(folder)
    assert first.startswith(f"patient {FIRST} has over 8192 bytes decoded")


def test_read_patients__names_of_terminal_codes_are_shown_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = "A\x1b[31m"
    for number, size_px in enumerate((32, 32, 48)):
        add_slice(tmp_path, hostile, number, make_image(number, size_px), make_mask(size_px))
    assert r"'A\x1b[31m_2.tif' is 48x48 but most slices of its patient are 32x32" in find_violations(tmp_path)[-1]
    monkeypatch.setattr(kaggle, "MAX_PATIENT_BYTES", 8192)
    assert find_violations(tmp_path)[-1].startswith(r"patient 'A\x1b[31m' has over 8192 bytes decoded")


def test_read_patients__hostile_member_and_bad_image_in_one_zip(folder: Path, tmp_path: Path) -> None:
    image_path(folder, SECOND, 1).write_bytes(b"")
    path = make_zip(folder, tmp_path / "archive.zip")
    add_member(path, "../evil.tif", b"x")
    first, second = find_violations(path)
    assert first.startswith("../evil.tif is no plain relative path")
    assert second.startswith(f"kaggle_3m/{SECOND}/{SECOND}_1.tif cannot be decoded")


@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(flips=st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), min_size=1, max_size=8))
def test_read_patients__any_zip_gives_patients_or_a_data_error(folder: Path, tmp_path: Path, flips) -> None:
    valid = tmp_path / "valid.zip"
    data = bytearray((valid if valid.exists() else make_zip(folder, valid, has_nested_copy=False)).read_bytes())
    directory = data.index(b"PK\1\2")
    for position, value in flips:  # half of the flips in the table of contents
        start, stop = (0, len(data)) if position % 2 else (directory, len(data))
        data[start + position % (stop - start)] = value
    path = tmp_path / "fuzzed.zip"
    path.write_bytes(data)
    try:
        patients = read(path)
    except DataError as error:
        assert error.violations
        return
    assert all(one.image.shape == (3, 32, 32) for patient in patients for one in patient.slices)
