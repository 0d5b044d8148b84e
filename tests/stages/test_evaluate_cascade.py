"""The whole stage with a real, if useless, cascade: what it writes and that the numbers are right."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest

from manifests import make_manifest, write_volumes
from predictions import PARAMS
from products import write_product
from tumor_cascade.data.manifest import read_manifest, write_manifest
from tumor_cascade.data.split import write_splits
from tumor_cascade.data.volumes import read_volume
from tumor_cascade.errors import DataError
from tumor_cascade.evaluation.no_learning import score_baselines
from tumor_cascade.evaluation.selection import Cohort
from tumor_cascade.product import load_cascade
from tumor_cascade.stages.evaluate_cascade import evaluate_cascade, evaluate_cohort
from tumor_cascade.storage import hash_path

TABLES = {"per_slice", "per_patient", "roc", "precision_recall", "calibration", "dice_by_threshold"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four patients of 10 slices in a folder, and a cascade whose gate lets about half of all slices pass."""
    folder = tmp_path_factory.mktemp("data")
    rows = write_volumes(folder / "slices", make_manifest(num_patients=4))
    write_manifest(rows, folder / "manifest.parquet")
    probe = load_cascade(write_product(folder / "probe", gate_threshold=0.0))
    probabilities = [probe.predict_volume(images).probabilities for images, _ in read_volumes(folder / "slices", rows)]
    write_product(folder / "cascade", gate_threshold=float(np.median(probabilities)))
    return folder


@pytest.fixture(scope="module")
def run_dir(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the stage writes for a split by patient: institution BB is the test set."""
    folder = tmp_path_factory.mktemp("run")
    run(data, folder, select_patients)
    return folder


def select_patients(rows: pd.DataFrame) -> pd.Series:
    return rows["institution"] == "BB"


def read_volumes(slices: Path, rows: pd.DataFrame) -> Iterator[tuple[Any, Any]]:
    for _, patient in rows.groupby("patient_id"):
        volume = read_volume(slices, patient)
        yield volume.images, volume.masks


def write_split(folder: Path, rows: pd.DataFrame, is_test: pd.Series, protocol: str) -> Path:
    partition = np.where(is_test, "test", "development")
    splits = rows[["patient_id", "slice_index"]].assign(partition=partition, fold=np.where(is_test, -1, 0))
    folder.mkdir()
    write_splits(folder, splits, {"protocol": protocol, "is_leaky": protocol == "slice_level"})
    return folder


def run(
    data: Path,
    folder: Path,
    select: Callable[[pd.DataFrame], pd.Series],
    protocol: str = "patient_level",
    cascade: Path | None = None,
    partition: Literal["test", "out_of_fold"] = "test",
) -> dict[str, Any]:
    rows, params = read_manifest(data / "manifest.parquet"), PARAMS.model_copy(update={"partition": partition})
    inputs = {"cascade": cascade or data / "cascade", "slices": data / "slices", "manifest": data / "manifest.parquet"}
    splits = write_split(folder / "splits", rows, select(rows), protocol)
    outputs = {"out_report": folder / "report", "out_metrics": folder / "metrics.json"}
    evaluate_cascade(params, **inputs, splits=splits, **outputs)
    return read_metrics(folder)


def read_metrics(folder: Path) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text(), parse_constant=refuse)
    return metrics


def test_evaluate_cascade__numbers_of_the_test_patients(data: Path, run_dir: Path) -> None:
    rows = read_manifest(data / "manifest.parquet")
    cascade, dice, decisions = load_cascade(data / "cascade"), [], []
    for images, masks in read_volumes(data / "slices", rows[select_patients(rows)]):
        prediction = cascade.predict_volume(images)
        dice.append(2 * (masks & prediction.masks).sum() / (masks.sum() + prediction.masks.sum()))
        decisions.append(prediction.is_positive == masks.any(axis=(1, 2)))
    metrics = read_metrics(run_dir)
    assert metrics["cascade/test_volume_dice"] == pytest.approx(np.mean(dice), abs=1e-6)
    assert metrics["cascade/test_accuracy"] == pytest.approx(np.mean(decisions), abs=1e-6)
    assert metrics["cascade/test_num_patients"] == 2
    assert metrics["cascade/test_num_slices"] == 20
    assert metrics["cascade/test_num_tumor_slices"] == 6
    assert metrics["cascade/test_is_leaky"] == 0


def test_evaluate_cascade__what_no_learning_scores_stands_beside(data: Path, run_dir: Path) -> None:
    rows = read_manifest(data / "manifest.parquet")
    is_test = select_patients(rows).to_numpy()
    scores = score_baselines(data / "slices", rows.assign(fold=np.where(is_test, -1, 0)), is_test)
    metrics = read_metrics(run_dir)
    assert metrics["nothing/test_accuracy"] == 0.7  # 6 of 20 slices show tumor
    assert metrics["nearest_neighbor/test_volume_dice"] == scores["nearest_neighbor"]["volume_dice"]
    assert metrics["position/test_auroc"] == scores["position"]["auroc"]
    html = (run_dir / "report" / "report.html").read_text()
    assert "what no learning at all scores on the same slices" in html
    assert f"<td>{scores['position']['auroc']:.3f}</td>" in html


def test_evaluate_cascade__what_it_writes(run_dir: Path) -> None:
    report = run_dir / "report"
    assert {path.stem for path in report.glob("*.csv")} == TABLES
    assert {path.name for path in report.glob("*.json")} == {"content.json", "estimates.json"}
    assert len(list((report / "figures").glob("*.png"))) == 8
    content = json.loads((report / "content.json").read_text())
    assert content["inputs"].keys() == {"cascade", "manifest", "splits"}
    assert content["content_id"] in (report / "report.html").read_text()
    per_patient = pd.read_csv(report / "per_patient.csv")
    assert per_patient["patient_id"].tolist() == ["BB_0001", "BB_0003"]
    assert per_patient["tumor_px"].tolist() == [330, 390]  # 3 slices of 100 + 10 p pixels
    assert len(pd.read_csv(report / "per_slice.csv")) == 20


def test_evaluate_cascade__same_input_same_bytes(data: Path, run_dir: Path, tmp_path: Path) -> None:
    run(data, tmp_path, select_patients)
    assert hash_path(tmp_path) == hash_path(run_dir)


def test_evaluate_cascade__slice_level_counts_test_slices_of_whole_volumes(data: Path, tmp_path: Path) -> None:
    metrics = run(data, tmp_path, lambda rows: rows["slice_index"].isin([1, 4, 7]), "slice_level")
    assert metrics["cascade/test_num_slices"] == 12
    assert metrics["cascade/test_num_tumor_slices"] == 4
    assert metrics["cascade/test_is_leaky"] == 1
    assert metrics["cascade/test_lesion_sensitivity"] is None
    assert set(pd.read_csv(tmp_path / "report" / "per_slice.csv")["slice_index"]) == {1, 4, 7}
    assert "Leaky, for comparison only." in (tmp_path / "report" / "report.html").read_text()


def test_evaluate_cascade__test_patient_that_a_network_has_seen(data: Path, tmp_path: Path) -> None:
    known = ["AA_0000", "BB_0003"]
    cascade = write_product(tmp_path / "cascade", gate_threshold=0.5, training_patients=known)
    with pytest.raises(DataError, match=r"other splits than these(?s:.*)test patient BB_0003 was in training") as error:
        run(data, tmp_path, select_patients, cascade=cascade)
    assert len(error.value.violations) == 1


def test_evaluate_cascade__out_of_fold_scores_development_patients(data: Path, tmp_path: Path) -> None:
    metrics = run(data, tmp_path, select_patients, partition="out_of_fold")
    assert metrics["cascade/oof_num_patients"] == 2 and metrics["cascade/oof_is_leaky"] == 0
    assert not [name for name in metrics if "/test_" in name]
    report = tmp_path / "report"
    assert pd.read_csv(report / "per_patient.csv")["patient_id"].tolist() == ["AA_0000", "AA_0002"]
    scope = json.loads((report / "content.json").read_text())["scope"]
    assert "one fold only" in scope and scope in (report / "report.html").read_text()


def test_evaluate_cascade__empty_test_set(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no slice to evaluate on"):
        run(data, tmp_path, lambda rows: pd.Series(False, index=rows.index))
    assert not (tmp_path / "report").exists()


def test_evaluate_cohort__patients_without_masks_are_all_named(data: Path, tmp_path: Path) -> None:
    rows = make_manifest(num_patients=2, has_mask=False)
    with pytest.raises(DataError, match=r"(?s)AA_0000 has no masks.*BB_0001 has no masks"):
        evaluate_rows(data, tmp_path, rows)


def test_evaluate_cohort__all_rows_without_a_split(data: Path, tmp_path: Path) -> None:
    rows = read_manifest(data / "manifest.parquet").assign(has_patient_ids=False)
    evaluate_rows(data, tmp_path, rows)
    assert read_metrics(tmp_path)["cascade/test_num_slices"] == 40
    marks = json.loads((tmp_path / "report" / "content.json").read_text())
    assert (marks["protocol"], marks["is_leaky"], marks["has_patient_ids"]) == ("external data", False, False)
    assert "No patient ids." in (tmp_path / "report" / "report.html").read_text()


def evaluate_rows(data: Path, tmp_path: Path, rows: pd.DataFrame) -> None:
    cascade = load_cascade(data / "cascade")
    evaluate_cohort(
        PARAMS,
        Cohort([(cascade, rows)], "test", "anybody", "external data", False),
        slices=data / "slices",
        out_report=tmp_path / "report",
        out_metrics=tmp_path / "metrics.json",
        content={"content_id": "c0ffee"},
    )
