import hashlib
import json
import os
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from archives import (
    add_slice,
    add_stray_files,
    encode,
    image_path,
    make_archive,
    make_image,
    make_mask,
    make_patient_id,
    make_zip,
)
from tumor_cascade.data.manifest import read_manifest
from tumor_cascade.data.volumes import read_volume
from tumor_cascade.errors import DataError
from tumor_cascade.params import IngestDataParams, PhantomParams
from tumor_cascade.stages.ingest_data import ingest_data
from tumor_cascade.storage import hash_file, hash_path


def make_params(source: str, max_side_px: int = 512) -> IngestDataParams:
    phantom = PhantomParams(num_patients=4, num_slices=8, image_size_px=48, seed=3)
    return IngestDataParams.model_validate({"source": source, "max_side_px": max_side_px, "phantom": phantom})


def ingest(source: str, raw: Path, out: Path, max_side_px: int = 512) -> pd.DataFrame:
    params = make_params(source, max_side_px)
    ingest_data(params, raw=raw, out_slices=out / "slices", out_manifest=out / "manifest.parquet")
    return read_manifest(out / "manifest.parquet")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two patients of three slices each."""
    return make_archive(tmp_path / "raw")


def test_ingest_data__kaggle_folder(folder: Path, tmp_path: Path) -> None:
    manifest = ingest("kaggle", folder, tmp_path / "out")
    assert manifest["patient_id"].tolist() == [make_patient_id(0)] * 3 + [make_patient_id(1)] * 3
    assert manifest["slice_index"].tolist() == [0, 1, 2] * 2
    assert manifest["has_tumor"].tolist() == [False, True, False] * 2
    # A disc of radius 4 around a corner of four pixels: 52 pixel centres lie closer than 4.
    assert manifest["tumor_area_px"].tolist() == [0, 52, 0] * 2
    assert manifest["has_patient_ids"].all()
    volume = read_volume(tmp_path / "out" / "slices", manifest[manifest["patient_id"] == make_patient_id(1)])
    assert np.array_equal(volume.images[2], make_image(100).transpose(2, 0, 1))
    assert volume.masks is not None
    assert volume.masks.sum(axis=(1, 2)).tolist() == [0, 52, 0]
    names = {path.name for path in (tmp_path / "out").rglob("*")}
    arrays = {f"{make_patient_id(index)}.npy" for index in (0, 1)}
    assert names == arrays | {"content.json", "slices", "manifest.parquet"}


def test_ingest_data__content_names_the_manifest(folder: Path, tmp_path: Path) -> None:
    ingest("kaggle", folder, tmp_path / "out")
    content = json.loads((tmp_path / "out" / "slices" / "content.json").read_text())
    assert content["stage"] == "ingest_data"
    assert content["params"]["source"] == "kaggle"
    assert content["inputs"] == {"manifest": hash_file(tmp_path / "out" / "manifest.parquet")}


def test_ingest_data__zip_with_its_nested_copy_equals_the_folder(folder: Path, tmp_path: Path) -> None:
    ingest("kaggle", folder, tmp_path / "from-folder")
    add_stray_files(folder)
    ingest("kaggle", make_zip(folder, tmp_path / "archive.zip"), tmp_path / "from-zip")
    assert hash_path(tmp_path / "from-folder") == hash_path(tmp_path / "from-zip")


def test_ingest_data__unlabelled(tmp_path: Path) -> None:
    manifest = ingest("kaggle", make_archive(tmp_path / "raw", has_masks=False), tmp_path / "out")
    assert not manifest[["has_mask", "has_tumor"]].any(axis=None)
    assert np.load(tmp_path / "out" / "slices" / f"{make_patient_id(0)}.npy").shape == (3, 3, 32, 32)


def test_ingest_data__images_without_patient_ids(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    for seed in (1, 2):
        (tmp_path / "raw" / f"scan {seed}.png").write_bytes(encode(make_image(seed), "PNG"))
    manifest = ingest("images", tmp_path / "raw", tmp_path / "out")
    assert manifest["patient_id"].tolist() == ["image-000001", "image-000002"]
    assert manifest["source_name"].tolist() == ["scan 1.png", "scan 2.png"]
    assert not manifest["has_patient_ids"].any()


def digest_output(out: Path) -> str:
    """Return one SHA-256 of the manifest, floats to four digits, and of all pixels, as 16 hex digits."""
    manifest = read_manifest(out / "manifest.parquet").to_csv(index=False, float_format="%.4g")
    pixels = [np.load(path).tobytes() for path in sorted((out / "slices").glob("*.npy"))]
    return hashlib.sha256(b"".join([manifest.encode(), *pixels])).hexdigest()[:16]


def test_ingest_data__small_data_sets_give_the_bits_they_always_gave(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for seed in (1, 2):
        (tmp_path / "images" / f"scan {seed}.png").write_bytes(encode(make_image(seed), "PNG"))
        (tmp_path / "images" / f"scan {seed}_mask.png").write_bytes(encode(make_mask(), "PNG"))
    ingest("kaggle", folder, tmp_path / "of-folder")
    ingest("kaggle", make_zip(folder, tmp_path / "archive.zip"), tmp_path / "of-zip")
    ingest("images", tmp_path / "images", tmp_path / "of-images")
    # As they were when this test was written.
    kaggle, images = "aef22c2dbd220d5a", "2a7078c03d143349"
    assert {name: digest_output(tmp_path / name) for name in ("of-folder", "of-zip", "of-images")} == {
        "of-folder": kaggle,
        "of-zip": kaggle,
        "of-images": images,
    }


def test_ingest_data__phantom_twice(tmp_path: Path) -> None:
    manifest = ingest("phantom", tmp_path / "nowhere", tmp_path / "first")
    ingest("phantom", tmp_path / "nowhere", tmp_path / "second")
    assert manifest["patient_id"].nunique() == 4
    assert hash_path(tmp_path / "first") == hash_path(tmp_path / "second")
    assert json.loads((tmp_path / "first" / "slices" / "content.json").read_text())["inputs"] == {}


def test_ingest_data__odd_data_are_facts_and_no_fault(tmp_path: Path) -> None:
    blank = np.zeros((32, 32), np.uint8)
    for number in (0, 3, 40):  # gaps
        add_slice(tmp_path / "raw", "P", number, np.stack([blank] * 3, axis=-1), blank)
    manifest = ingest("kaggle", tmp_path / "raw", tmp_path / "out")
    assert manifest["slice_number"].tolist() == [0, 3, 40]
    assert manifest["foreground_share"].tolist() == [0, 0, 0]
    assert manifest["institution"].tolist() == ["unknown"] * 3


@pytest.mark.parametrize("is_first_run", [False, True])
def test_ingest_data__violation_leaves_the_output_untouched(folder: Path, tmp_path: Path, is_first_run: bool) -> None:
    out = tmp_path / "out"
    out.mkdir()
    if not is_first_run:
        ingest("kaggle", folder, out)
    before = hash_path(out)
    image_path(folder, make_patient_id(1), 3).write_bytes(b"no image")  # found after the first patient was written
    with pytest.raises(DataError, match=r"nothing was ingested; violations \(1\)"):
        ingest("kaggle", folder, out)
    assert hash_path(out) == before
    assert len(list(out.iterdir())) == (0 if is_first_run else 2)  # no temporary file is left


def test_ingest_data__fewer_patients_than_before(folder: Path, tmp_path: Path) -> None:
    ingest("kaggle", folder, tmp_path / "out")
    shutil.rmtree(folder / "kaggle_3m" / make_patient_id(0))
    ingest("kaggle", folder, tmp_path / "out")
    assert [path.name for path in sorted((tmp_path / "out" / "slices").iterdir())] == [
        f"{make_patient_id(1)}.npy",
        "content.json",
    ]


def test_ingest_data__memory_does_not_grow_with_patients(tmp_path: Path) -> None:
    peaks = []
    for num_patients in (2, 10):
        raw = make_archive(tmp_path / f"raw-{num_patients}", num_patients, num_slices=6, size_px=256)
        tracemalloc.start()
        ingest("kaggle", raw, tmp_path / f"out-{num_patients}")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Eight more patients have 8 * 6 * 4 * 256 * 256 bytes = 12 MiB of pixels, and 48 rows of the manifest.
    assert peaks[1] - peaks[0] < 1 << 20


@pytest.mark.real_data
@pytest.mark.skipif("TUMOR_CASCADE_LGG_DIR" not in os.environ, reason="TUMOR_CASCADE_LGG_DIR is not set")
def test_ingest_data__real_patients(tmp_path: Path) -> None:
    archive = Path(os.environ["TUMOR_CASCADE_LGG_DIR"]) / "kaggle_3m"
    for patient in [path for path in sorted(archive.iterdir()) if path.is_dir()][:3]:
        shutil.copytree(patient, tmp_path / "raw" / "kaggle_3m" / patient.name)
    manifest = ingest("kaggle", tmp_path / "raw", tmp_path / "out")
    assert manifest.groupby("patient_id").size().to_dict() == {
        "TCGA_CS_4941_19960909": 23,
        "TCGA_CS_4942_19970222": 20,
        "TCGA_CS_5393_19990606": 20,
    }
    assert set(manifest["institution"]) == {"CS"}
    assert set(manifest["height_px"]) == set(manifest["width_px"]) == {256}
    # In the whole archive the tumor slices of a patient are one run, and no mask touches the border.
    starts = manifest.groupby("patient_id")["has_tumor"].apply(lambda shown: int((shown.astype(int).diff() == 1).sum()))
    assert set(starts) == {1}
    assert not manifest["has_border_mask"].any()
    ingest("kaggle", make_zip(tmp_path / "raw", tmp_path / "archive.zip"), tmp_path / "from-zip")
    assert hash_path(tmp_path / "out") == hash_path(tmp_path / "from-zip")
