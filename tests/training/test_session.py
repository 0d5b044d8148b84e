from pathlib import Path

import pandas as pd
import pytest
import torch

from trainings import NUM_SLICES, write_artifacts
from tumor_cascade.data.cohort import read_rows
from tumor_cascade.errors import DataError
from tumor_cascade.network_folder import hash_patient
from tumor_cascade.training.initialization import StartingWeights
from tumor_cascade.training.session import describe_patients, select_fold, select_patients


@pytest.fixture
def artifacts(tmp_path: Path) -> dict[str, Path]:
    return write_artifacts(tmp_path)  # 10 patients of 8 slices: two test, four in each of two folds


@pytest.fixture
def rows(artifacts: dict[str, Path]) -> pd.DataFrame:
    return select_patients(read_rows(artifacts["manifest"], artifacts["splits"]))


def test_select_patients__leaves_test_patients_out(rows: pd.DataFrame) -> None:
    assert rows["patient_id"].nunique() == 8
    assert set(rows["partition"]) == {"development"}
    assert rows.index.tolist() == list(range(8 * NUM_SLICES))


def test_select_patients__keeps_whole_volumes_of_patients_split_by_slice(artifacts: dict[str, Path]) -> None:
    rows = read_rows(artifacts["manifest"], artifacts["splits"])
    rows["partition"] = ["test" if index % 3 == 0 else "development" for index in rows["slice_index"]]
    # Neighbors come from the whole volume, whoever may learn from which slice.
    assert len(select_patients(rows)) == len(rows)


def test_select_fold__parts_share_no_patient_and_leave_none_out(rows: pd.DataFrame) -> None:
    seen = []
    for fold in (0, 1):
        train_index, val_index = select_fold(rows, fold, "all")
        train, val = (set(rows["patient_id"].iloc[index.numpy()]) for index in (train_index, val_index))
        assert len(train) == len(val) == 4 and not train & val
        assert len(train_index) == len(val_index) == 4 * NUM_SLICES
        seen.append(val)
    assert not seen[0] & seen[1]


def test_select_fold__positive_slices_train_and_all_validate(rows: pd.DataFrame) -> None:
    train_index, val_index = select_fold(rows, 0, "positive")
    assert len(train_index) == 4 * 3 and rows["has_tumor"].iloc[train_index.numpy()].all()
    assert len(val_index) == 4 * NUM_SLICES
    assert train_index.dtype == val_index.dtype == torch.int64


def test_select_fold__never_takes_test_slices(artifacts: dict[str, Path]) -> None:
    rows = read_rows(artifacts["manifest"], artifacts["splits"])
    train_index, val_index = select_fold(rows, 0, "all")
    assert (rows["partition"].iloc[torch.cat([train_index, val_index]).numpy()] == "development").all()


def test_select_fold__one_kind_teaches_nothing(rows: pd.DataFrame) -> None:
    without = rows.assign(has_tumor=rows["has_tumor"] & (rows["fold"] == 1))
    with pytest.raises(DataError) as raised:
        select_fold(without, 0, "all")
    assert raised.value.violations == [
        "fold 0: validation has 32 slices, 0 with tumor; must have both kinds. Use fewer folds."
    ]
    with pytest.raises(DataError, match="fold 0: training has 32 slices, 32 with tumor"):
        select_fold(rows.assign(has_tumor=rows["has_tumor"] | (rows["fold"] == 1)), 0, "all")


def test_select_fold__a_fold_that_is_not_there(rows: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="fold 7 is none of the split's, 0 to 1; name another"):
        select_fold(rows, 7, "all")


def test_select_fold__slices_without_masks_teach_nothing(rows: pd.DataFrame) -> None:
    unlabelled = rows.assign(has_mask=False, has_tumor=False)
    with pytest.raises(DataError, match="training needs a mask for every slice"):
        select_fold(unlabelled, 0, "all")


def test_describe_patients__names_nobody(artifacts: dict[str, Path], rows: pd.DataFrame) -> None:
    facts = describe_patients(rows, *select_fold(rows, 0, "all"), artifacts["splits"], None)
    # In order AA_0000, AA_0002, ... AA_0008, BB_0001, ... BB_0007 every second one validates in fold 0.
    assert facts["validation_patients"] == sorted(map(hash_patient, ("AA_0000", "AA_0004", "AA_0008", "BB_0003")))
    assert len(facts["training_patients"]) == 4
    assert (facts["protocol"], facts["is_leaky"]) == ("patient_level", False)
    assert "AA_" not in str(facts)


def test_describe_patients__starting_weights_have_seen_theirs(artifacts: dict[str, Path], rows: pd.DataFrame) -> None:
    start = StartingWeights(Path("weights.safetensors"), 64 * "0", {"training_patients": ["elsewhere"]})
    facts = describe_patients(rows, *select_fold(rows, 0, "all"), artifacts["splits"], start)
    assert len(facts["training_patients"]) == 4 + 1 and "elsewhere" in facts["training_patients"]
    assert len(facts["validation_patients"]) == 4


def test_hash_patient__literal() -> None:
    # SHA-256 of the ASCII text TCGA_CS_4941.
    assert hash_patient("TCGA_CS_4941").startswith("397cdf55e4b3f4f5")
