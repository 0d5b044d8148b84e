"""Who is scored by which networks."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from manifests import make_manifest
from products import write_product
from tumor_cascade.errors import DataError
from tumor_cascade.evaluation.selection import select_out_of_fold, select_test
from tumor_cascade.network_folder import hash_patient
from tumor_cascade.storage import write_json

# AA_0000, BB_0001, AA_0002, BB_0003; the last is locked away, the others are dealt to folds 0, 1 and 0.
ROWS = make_manifest(num_patients=4)
FOLDS = ROWS["patient_id"].map({"AA_0000": 0, "BB_0001": 1, "AA_0002": 0, "BB_0003": -1})
ROWS = ROWS.assign(fold=FOLDS, partition=np.where(FOLDS < 0, "test", "development"))


def write_folds(folder: Path, training_patients: dict[int, list[str]]) -> Path:
    """Write a cascade of one fold per entry, whose thresholds are 0.1 in all, 0.2 for fold 0 and 0.3 for fold 1."""
    write_product(folder, gate_threshold=0.1)
    for role in ("classifiers", "segmenters"):
        for fold, patients in training_patients.items():
            target = folder / role / f"fold-{fold}"
            if fold:
                shutil.copytree(folder / role / "fold-0", target)
            config = json.loads((target / "config.json").read_text())
            hashed = [hash_patient(patient) for patient in patients]
            write_json(target / "config.json", {**config, "fold": fold, "training_patients": hashed})
    product = json.loads((folder / "cascade.json").read_text())
    product["out_of_fold_settings"] = {
        str(fold): {**product["settings"], "gate_threshold": 0.2 + 0.1 * fold} for fold in training_patients
    }
    write_json(folder / "cascade.json", product)
    return folder


HONEST = {0: ["BB_0001"], 1: ["AA_0000", "AA_0002"]}


def list_scored(rows: pd.DataFrame) -> list[str]:
    return sorted(rows.loc[rows["is_scored"], "patient_id"].unique())


def test_select_test__all_networks_and_the_locked_patients(tmp_path: Path) -> None:
    cohort = select_test(write_folds(tmp_path / "cascade", HONEST), ROWS, "patient_level", False)
    [(cascade, rows)] = cohort.parts
    assert len(cascade.classifiers) == 2 and list_scored(rows) == ["BB_0003"]
    assert (cohort.split, cascade.settings.gate_threshold) == ("test", 0.1)


def test_select_out_of_fold__each_patient_by_the_networks_of_its_fold(tmp_path: Path) -> None:
    cohort = select_out_of_fold(write_folds(tmp_path / "cascade", HONEST), ROWS, "patient_level", False)
    assert [list_scored(rows) for _, rows in cohort.parts] == [["AA_0000", "AA_0002"], ["BB_0001"]]
    assert [len(cascade.segmenters) for cascade, _ in cohort.parts] == [1, 1]
    assert [cascade.settings.gate_threshold for cascade, _ in cohort.parts] == pytest.approx([0.2, 0.3])
    assert cohort.split == "oof"
    assert cohort.scope.endswith("thresholds chosen on the other folds, each network's best epoch on its own")


def test_select_out_of_fold__networks_that_have_learned_from_their_patients(tmp_path: Path) -> None:
    cascade = write_folds(tmp_path / "cascade", {0: ["AA_0002", "BB_0001"], 1: ["BB_0001"]})
    with pytest.raises(DataError, match="other splits than these") as raised:
        select_out_of_fold(cascade, ROWS, "patient_level", False)
    assert raised.value.violations == [
        "patient AA_0002 of fold 0 was in its training.",
        "patient BB_0001 of fold 1 was in its training.",
    ]


def test_select_out_of_fold__only_folds_that_the_cascade_holds(tmp_path: Path) -> None:
    cohort = select_out_of_fold(write_folds(tmp_path / "cascade", {0: []}), ROWS, "patient_level", False)
    assert [list_scored(rows) for _, rows in cohort.parts] == [["AA_0000", "AA_0002"]]
    assert "one fold only" in cohort.scope


def test_select_out_of_fold__split_by_slice(tmp_path: Path) -> None:
    rows = ROWS.assign(partition="development", fold=ROWS["slice_index"] % 2)
    one = select_out_of_fold(write_folds(tmp_path / "one", {0: ["AA_0000"]}), rows, "slice_level", True)
    [(_, part)] = one.parts
    assert len(part) == len(rows) and part["is_scored"].sum() == len(rows) / 2  # whole volumes, half of it counts
    with pytest.raises(DataError, match=r"folds \[0, 1\] of a split by slice .* choose one fold, or partition test"):
        select_out_of_fold(write_folds(tmp_path / "two", HONEST), rows, "slice_level", True)
