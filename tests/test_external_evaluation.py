import json
from pathlib import Path

import pandas as pd
import pytest

from archives import encode, make_archive, make_image, make_mask, make_patient_id, make_zip
from manifests import make_manifest
from products import CONTENT_ID, write_product
from tumor_cascade.configuration import PRESETS_DIR
from tumor_cascade.errors import DataError, ParamsError
from tumor_cascade.external_evaluation import evaluate_folder, find_acquaintance
from tumor_cascade.params import EvaluateCascadeParams, IngestDataParams, read_section
from tumor_cascade.storage import write_json

# Of `make_manifest`: AA_0000, BB_0001, AA_0002, ...
KNOWN, VALIDATED = "AA_0000", "BB_0001"
MANIFEST = make_manifest(num_patients=4)
INGEST, EVALUATE = (read_section(PRESETS_DIR / "phantom.yaml", name) for name in ("ingest_data", "evaluate_cascade"))
assert isinstance(INGEST, IngestDataParams)
assert isinstance(EVALUATE, EvaluateCascadeParams)
FAST = EVALUATE.model_copy(update={"num_bootstrap": 100})


def test_find_acquaintance__strangers(tmp_path: Path) -> None:
    acquaintance = find_acquaintance(write_product(tmp_path, gate_threshold=0.5, training_patients=["ZZ_1"]), MANIFEST)
    assert (acquaintance.num_patients, acquaintance.training, acquaintance.validation) == (4, (), ())
    assert (acquaintance.is_leaky, acquaintance.protocol) == (False, "external")


def test_find_acquaintance__training_and_validation_patients_are_known(tmp_path: Path) -> None:
    # The first is on both sides, of different networks: it counts as trained on.
    cascade = write_product(
        tmp_path, gate_threshold=0.5, training_patients=[KNOWN], validation_patients=[KNOWN, VALIDATED]
    )
    acquaintance = find_acquaintance(cascade, MANIFEST)
    assert (acquaintance.training, acquaintance.validation, acquaintance.is_leaky) == ((KNOWN,), (VALIDATED,), True)
    assert acquaintance.protocol == "external; 2 of 4 patients known from training or validation"


def test_find_acquaintance__leaky_product_stays_leaky(tmp_path: Path) -> None:
    acquaintance = find_acquaintance(write_product(tmp_path, gate_threshold=0.5, is_leaky=True), MANIFEST)
    assert (acquaintance.is_leaky, acquaintance.protocol) == (True, "external; cascade trained under slice_level")


def test_find_acquaintance__invented_ids_are_not_compared(tmp_path: Path) -> None:
    cascade = write_product(tmp_path, gate_threshold=0.5, training_patients=[KNOWN])
    acquaintance = find_acquaintance(cascade, MANIFEST.assign(has_patient_ids=False))
    assert (acquaintance.is_checkable, acquaintance.known, acquaintance.is_leaky) == (False, (), False)
    assert acquaintance.protocol == "external; no patient ids to compare with training"


def test_find_acquaintance__product_that_does_not_tell(tmp_path: Path) -> None:
    cascade = write_product(tmp_path, gate_threshold=0.5)
    write_json(cascade / "classifiers" / "fold-0" / "config.json", {"role": "classifier"})
    with pytest.raises(DataError, match=r"does not say whom it has learned from .*training_patients.*; make it again"):
        find_acquaintance(cascade, MANIFEST)


def test_evaluate_folder__zip_with_a_known_patient(tmp_path: Path) -> None:
    packed = make_zip(make_archive(tmp_path / "raw", num_patients=3), tmp_path / "download.zip")
    known = [make_patient_id(1)]
    cascade = write_product(tmp_path / "cascade", gate_threshold=0.0, training_patients=known)
    out = tmp_path / "out"
    found = evaluate_folder(cascade, packed, out, INGEST, FAST, layout="kaggle", is_overwrite=False)
    assert found.training == (make_patient_id(1),)
    assert sorted(path.name for path in out.iterdir()) == ["known_patients.csv", "metrics.json", "report"]
    assert (out / "known_patients.csv").read_text() == f"patient_id,known_from\n{make_patient_id(1)},training\n"
    metrics = json.loads((out / "metrics.json").read_text())
    # Three patients of three slices, the middle one with tumor.
    assert (metrics["cascade/test_num_patients"], metrics["cascade/test_num_slices"]) == (3, 9)
    assert metrics["cascade/test_num_tumor_slices"] == 3
    assert metrics["cascade/test_is_leaky"] == 1
    content = json.loads((out / "report" / "content.json").read_text())
    assert content["protocol"] == "external; 1 of 3 patients known from training or validation"
    assert content["content_id"] != CONTENT_ID
    assert set(pd.read_csv(out / "report" / "per_patient.csv")["patient_id"]) == {make_patient_id(n) for n in range(3)}


def test_evaluate_folder__new_patients_only(tmp_path: Path) -> None:
    raw, out = make_archive(tmp_path / "raw", num_patients=3), tmp_path / "out"
    cascade = write_product(tmp_path / "cascade", gate_threshold=0.0, training_patients=[make_patient_id(1)])
    found = evaluate_folder(cascade, raw, out, INGEST, FAST, layout="kaggle", is_overwrite=False, has_only_new=True)
    assert (found.num_patients, found.known, found.num_left_out, found.is_leaky) == (2, (), 1, False)
    assert found.protocol == "external; known patients left out: 1"
    assert not (out / "known_patients.csv").exists()
    scored = set(pd.read_csv(out / "report" / "per_patient.csv")["patient_id"])
    assert scored == {make_patient_id(n) for n in (0, 2)}
    cascade = write_product(
        tmp_path / "knows-all", gate_threshold=0.0, validation_patients=[make_patient_id(n) for n in range(3)]
    )
    with pytest.raises(DataError, match="no patient is new"):
        evaluate_folder(
            cascade, raw, tmp_path / "more", INGEST, FAST, layout="kaggle", is_overwrite=False, has_only_new=True
        )
    assert not (tmp_path / "more").exists()


def test_evaluate_folder__flat_folder_of_images(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for seed in range(3):
        (tmp_path / "images" / f"scan{seed}.png").write_bytes(encode(make_image(seed), "PNG"))
        (tmp_path / "images" / f"scan{seed}_mask.png").write_bytes(encode(make_mask(radius_px=4 * (seed > 0)), "PNG"))
    cascade = write_product(tmp_path / "cascade", gate_threshold=0.0)
    found = evaluate_folder(
        cascade, tmp_path / "images", tmp_path / "out", INGEST, FAST, layout="images", is_overwrite=False
    )
    assert (found.num_patients, found.is_checkable) == (3, False)
    assert json.loads((tmp_path / "out" / "report" / "content.json").read_text())["has_patient_ids"] is False
    with pytest.raises(DataError, match=r"--new-only: .*images or .*cascade has no patient ids, so nobody can say who"):
        evaluate_folder(
            cascade,
            tmp_path / "images",
            tmp_path / "new",
            INGEST,
            FAST,
            layout="images",
            is_overwrite=False,
            has_only_new=True,
        )
    assert not (tmp_path / "new").exists()


def test_evaluate_folder__data_without_masks_write_nothing(tmp_path: Path) -> None:
    data = make_archive(tmp_path / "raw", has_masks=False)
    cascade = write_product(tmp_path / "cascade", gate_threshold=0.0)
    with pytest.raises(DataError, match="has no masks"):
        evaluate_folder(cascade, data, tmp_path / "out", INGEST, FAST, layout="kaggle", is_overwrite=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cascade", "raw"]


def test_evaluate_folder__replaces_its_own_output_and_no_stage_s(tmp_path: Path) -> None:
    raw, out = make_archive(tmp_path / "raw", num_patients=3), tmp_path / "out"
    cascade = write_product(tmp_path / "cascade", gate_threshold=0.0)
    for is_overwrite in (False, True):
        evaluate_folder(cascade, raw, out, INGEST, FAST, layout="kaggle", is_overwrite=is_overwrite)
    stage = tmp_path / "evaluate_cascade"
    write_json(stage / "metrics.json", {})
    write_json(stage / "report" / "content.json", {"scope": "the locked test set"})
    with pytest.raises(ParamsError, match="evaluate_cascade holds other things than earlier output"):
        evaluate_folder(cascade, raw, stage, INGEST, FAST, layout="kaggle", is_overwrite=True)
    assert sorted(path.name for path in stage.iterdir()) == ["metrics.json", "report"]


def test_evaluate_folder__output_over_the_cascade(tmp_path: Path) -> None:
    cascade = write_product(tmp_path / "cascade", gate_threshold=0.0)
    with pytest.raises(ParamsError, match="which is read"):
        evaluate_folder(cascade, tmp_path / "raw", cascade, INGEST, FAST, layout="kaggle", is_overwrite=True)
