import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from archives import (
    add_slice,
    add_stray_files,
    build_tiff,
    encode,
    image_path,
    make_archive,
    make_image,
    make_mask,
    make_patient_id,
    make_zip,
    mask_path,
)
from products import CONTENT_ID, write_product
from tumor_cascade.errors import DataError, ParamsError
from tumor_cascade.prediction import KEYS, PredictionSummary, predict
from tumor_cascade.product import load_cascade

PATIENT, OTHER = make_patient_id(0), make_patient_id(1)


@pytest.fixture(scope="module")
def cascade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("product") / "cascade"
    return write_product(folder, gate_threshold=0.0, has_neighbor_slices=True)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return make_archive(tmp_path / "raw", num_patients=1, num_slices=5)


def patient_dir(archive: Path) -> Path:
    return archive / "kaggle_3m" / PATIENT


def write_images(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True)
    for seed, name in enumerate(names):
        file_format = "PNG" if name.endswith(".png") else "TIFF"
        (folder / name).write_bytes(encode(make_image(seed), file_format))
    return folder


def read_lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]


def read_tree(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def run(source: Path, cascade: Path, out: Path, **options: bool) -> tuple[PredictionSummary, list[dict[str, Any]]]:
    summary = predict(source, cascade, out, **{"is_overwrite": False, **options})
    return summary, read_lines(out)


def test_predict__patient_folder_is_one_volume_in_slice_order(cascade: Path, tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "raw", num_patients=1, num_slices=10)  # by name, 10 comes before 2
    summary, lines = run(patient_dir(archive), cascade, tmp_path / "out")
    assert (summary.num_patients, summary.num_slices, summary.num_without_context) == (1, 10, 0)
    assert [line["slice_number"] for line in lines] == list(range(1, 11))
    assert {line["volume_id"] for line in lines} == {PATIENT}
    images = np.stack(
        [np.asarray(Image.open(image_path(archive, PATIENT, n))).transpose(2, 0, 1) for n in range(1, 11)]
    )
    expected = load_cascade(cascade).predict_volume(images)
    np.testing.assert_allclose([line["probability"] for line in lines], expected.probabilities, atol=1e-6)
    assert [line["tumor_area_px"] for line in lines] == expected.masks.sum(axis=(1, 2)).tolist()
    for line, mask in zip(lines, expected.masks, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / line["mask"])), mask * np.uint8(255))


def test_predict__every_line_has_all_keys(archive: Path, cascade: Path, tmp_path: Path) -> None:
    image_path(archive, PATIENT, 2).write_bytes(b"no image")
    _, lines = run(patient_dir(archive), cascade, tmp_path / "out")
    assert all(tuple(line) == KEYS for line in lines)
    first, second = lines[:2]
    types = (str, int, str, str, float, bool, int, float, bool, str, str, str, type(None))
    assert tuple(type(value) for value in first.values()) == types
    assert first["source_name"] == f"{PATIENT}_1.tif"
    assert (first["status"], first["content_id"]) == ("ok", CONTENT_ID)
    assert (first["mask"], first["overlay"]) == (f"masks/{PATIENT}_1.png", f"overlays/{PATIENT}_1.png")
    told = ("volume_id", "slice_number", "source_name", "status", "content_id", "error")
    assert {key for key, value in second.items() if value is not None} == set(told)


def test_predict__mask_has_the_image_size_and_the_overlay_is_magnified(cascade: Path, tmp_path: Path) -> None:
    image = tmp_path / "slice.png"
    image.write_bytes(encode(make_image(1, 64)[:48], "PNG"))
    _, [line] = run(image, cascade, tmp_path / "out")
    with Image.open(tmp_path / "out" / line["mask"]) as mask:
        assert (mask.mode, mask.size) == ("L", (64, 48))
    with Image.open(tmp_path / "out" / line["overlay"]) as overlay:
        assert (overlay.mode, overlay.size) == ("RGB", (512, 384 + 30))  # 512 / 64 = 8 times, and the caption


def test_predict__closed_gate_leaves_the_mask_empty(archive: Path, tmp_path: Path) -> None:
    closed = write_product(tmp_path / "cascade", gate_threshold=1.1)
    summary, lines = run(patient_dir(archive), closed, tmp_path / "out")
    assert summary.num_positive == 0
    assert {(line["is_positive"], line["tumor_area_px"]) for line in lines} == {(False, 0)}
    assert not np.asarray(Image.open(tmp_path / "out" / lines[2]["mask"])).any()


def test_predict__zip_and_folder_give_the_same_bytes(archive: Path, cascade: Path, tmp_path: Path) -> None:
    add_stray_files(archive)
    packed = make_zip(archive, tmp_path / "download.zip", has_nested_copy=True)
    for source, name in ((patient_dir(archive), "patient"), (archive, "archive"), (packed, "zip")):
        run(source, cascade, tmp_path / name)
    assert len(read_tree(tmp_path / "patient")) == 1 + 5 + 5
    assert read_tree(tmp_path / "patient") == read_tree(tmp_path / "archive") == read_tree(tmp_path / "zip")


def test_predict__archive_keeps_patients_apart(cascade: Path, tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "raw", num_patients=2, num_slices=3)
    summary, lines = run(archive, cascade, tmp_path / "out")
    assert (summary.num_patients, summary.num_slices) == (2, 6)
    assert [line["volume_id"] for line in lines] == [PATIENT] * 3 + [OTHER] * 3
    _, alone = run(patient_dir(archive), cascade, tmp_path / "alone")
    assert lines[:3] == alone


def test_predict__lone_image_has_no_context(archive: Path, cascade: Path, tmp_path: Path) -> None:
    summary, [line] = run(image_path(archive, PATIENT, 3), cascade, tmp_path / "out")
    assert (summary.num_patients, summary.num_without_context) == (0, 1)
    assert (line["volume_id"], line["slice_number"], line["has_context"]) == (f"{PATIENT}_3.tif", None, False)


def test_predict__unrelated_images_are_volumes_of_one(cascade: Path, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", "scan.png", "scan.tif", "other.tiff", "scan_mask.png")
    summary, lines = run(folder, cascade, tmp_path / "out")
    assert [line["volume_id"] for line in lines] == ["other.tiff", "scan.png", "scan.tif"]
    assert not any(line["has_context"] for line in lines)
    assert [line["mask"] for line in lines] == ["masks/other.png", "masks/scan.png", "masks/scan-2.png"]
    assert summary.patient_like == []
    _, [alone] = run(folder / "scan.tif", cascade, tmp_path / "alone")
    assert alone["probability"] == lines[2]["probability"]


def test_predict__images_that_look_like_one_patients_are_told(cascade: Path, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", "knee_1.png", "knee_2.png", "head_1.png")
    summary, lines = run(folder, cascade, tmp_path / "out")
    assert summary.patient_like == ["knee"]
    assert not any(line["has_context"] for line in lines)


def test_predict__hostile_images_leave_their_neighbours_alone(cascade: Path, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", "a.png", "z.tif")
    _, good = run(folder, cascade, tmp_path / "good")
    hostile = {
        "bomb.tif": build_tiff(60_000, 60_000, b"x"),
        "large.tif": build_tiff(5_000, 5_000, b"x"),
        "gray.png": encode(make_mask(), "PNG"),
        "notes.txt": b"no image",
        "text.png": b"no image",
        "truncated.png": (folder / "a.png").read_bytes()[:200],
    }
    for name, data in hostile.items():
        (folder / name).write_bytes(data)
    (folder / "link.png").symlink_to("/etc/passwd")
    summary, lines = run(folder, cascade, tmp_path / "out")
    assert [line for line in lines if line["status"] == "ok"] == good
    errors = {line["source_name"]: line["error"] for line in lines if line["status"] == "error"}
    assert set(errors) == {*hostile, None}
    assert "declares over" in errors["bomb.tif"]
    assert "5000x5000; at most 4096 px a side" in errors["large.tif"]
    assert "must be plain RGB" in errors["gray.png"]
    assert "is no image" in errors["notes.txt"]
    assert "link.png is a link" in errors[None]
    assert len(summary.errors) == 7
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 2


def test_predict__bad_slices_of_a_patient_stand_in_their_place(archive: Path, cascade: Path, tmp_path: Path) -> None:
    image_path(archive, PATIENT, 3).write_bytes(b"no image")
    image_path(archive, PATIENT, 5).write_bytes(encode(make_image(5, 40)))
    (patient_dir(archive) / f"{OTHER}_1.tif").write_bytes(encode(make_image(99)))
    _, lines = run(patient_dir(archive), cascade, tmp_path / "out")
    assert [line["slice_number"] for line in lines] == [*range(1, 6), None]
    errors = {line["source_name"]: line["error"] for line in lines if line["error"]}
    assert set(errors) == {f"{PATIENT}_3.tif", f"{PATIENT}_5.tif", f"{OTHER}_1.tif"}
    assert "is 40x40 but most slices of its patient are 32x32" in errors[f"{PATIENT}_5.tif"]
    assert f"is not named {PATIENT}_<number>" in errors[f"{OTHER}_1.tif"]
    assert all(line["has_context"] for line in lines if line["status"] == "ok")


def test_predict__masks_are_never_predicted(archive: Path, cascade: Path, tmp_path: Path) -> None:
    mask_path(archive, PATIENT, 4).unlink()  # a mask that is missing is no fault here
    mask_path(archive, PATIENT, 5).write_bytes(b"no image")
    summary, lines = run(patient_dir(archive), cascade, tmp_path / "out")
    assert summary.errors == []
    assert len(lines) == 5


def test_predict__twice_gives_the_same_bytes(archive: Path, cascade: Path, tmp_path: Path) -> None:
    run(archive, cascade, tmp_path / "out")
    before = read_tree(tmp_path / "out")
    run(archive, cascade, tmp_path / "out", is_overwrite=True)
    assert read_tree(tmp_path / "out") == before


def test_predict__names_that_no_file_should_have(cascade: Path, tmp_path: Path) -> None:
    names = ("-rf.png", "a b;$(c).png", "\u00e9.png", "x" * 200 + ".png", "A.png", "a.tif")
    folder = write_images(tmp_path / "images", *names)
    _, lines = run(folder, cascade, tmp_path / "out")
    assert {line["volume_id"] for line in lines} == set(names)
    stems = {line["volume_id"]: Path(line["mask"]).stem for line in lines}
    assert stems["-rf.png"] == "rf"
    assert stems["a b;$(c).png"] == "a_b___c_"
    assert len(stems["x" * 200 + ".png"]) == 120
    assert (stems["A.png"], stems["a.tif"]) == ("A", "a-2")  # some file systems know no case


def test_predict__nothing_readable_writes_nothing(cascade: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "bad.png").write_bytes(b"no image")
    (tmp_path / "images" / "notes.txt").write_bytes(b"no image")
    with pytest.raises(DataError, match="no image can be predicted, nothing was written") as error:
        predict(tmp_path / "images", cascade, tmp_path / "out", is_overwrite=False)
    assert len(error.value.violations) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_predict__folder_without_images(cascade: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match=r"holds no images; \.png, \.tif, \.tiff files are read"):
        predict(tmp_path / "images", cascade, tmp_path / "out", is_overwrite=False)


def test_predict__file_of_another_kind(cascade: Path, tmp_path: Path) -> None:
    (tmp_path / "slice.jpg").write_bytes(encode(make_image(0), "JPEG"))
    with pytest.raises(DataError, match=r"slice\.jpg is no image \(.*\), folder or zip archive"):
        predict(tmp_path / "slice.jpg", cascade, tmp_path / "out", is_overwrite=False)


def test_predict__output_inside_the_source(archive: Path, cascade: Path) -> None:
    with pytest.raises(ParamsError, match="which is read; choose another"):
        predict(archive, cascade, archive / "out", is_overwrite=False)


def test_predict__failure_keeps_earlier_predictions(archive: Path, cascade: Path, tmp_path: Path) -> None:
    run(archive, cascade, tmp_path / "out")
    before = read_tree(tmp_path / "out")
    broken = write_product(tmp_path / "broken", gate_threshold=0.0)
    (broken / "segmenters" / "fold-0" / "weights.safetensors").write_bytes(b"")
    with pytest.raises(DataError, match="network fold-0: cannot be loaded"):
        predict(archive, broken, tmp_path / "out", is_overwrite=True)
    assert read_tree(tmp_path / "out") == before


def test_predict__one_slice_of_a_patient_has_no_context(cascade: Path, tmp_path: Path) -> None:
    add_slice(tmp_path / "raw", PATIENT, 7, make_image(7), make_mask())
    summary, [line] = run(tmp_path / "raw", cascade, tmp_path / "out")
    assert (summary.num_patients, summary.num_without_context) == (1, 1)
    assert (line["volume_id"], line["slice_number"], line["has_context"]) == (PATIENT, 7, False)
