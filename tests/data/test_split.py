"""The splits table on disk."""

from pathlib import Path

import pytest

from manifests import make_manifest
from tumor_cascade.data.split import FACTS_NAME, SPLITS_NAME, read_split_facts, read_splits, write_splits
from tumor_cascade.data.stratification import split_slices
from tumor_cascade.errors import DataError


def test_write_splits__read_back(tmp_path: Path) -> None:
    splits = split_slices(make_manifest(), "patient_level", seed=1, test_share=0.2, num_folds=2)
    write_splits(tmp_path, splits, {"is_leaky": False})
    assert read_splits(tmp_path).equals(splits.astype({"patient_id": "str", "partition": "str", "fold": "int32"}))
    assert read_split_facts(tmp_path) == {"is_leaky": False}


def test_write_splits__same_bytes_for_the_same_splits(tmp_path: Path) -> None:
    manifest = make_manifest()
    for name, rows in (("a", manifest), ("b", manifest.sample(frac=1, random_state=3))):
        (tmp_path / name).mkdir()
        write_splits(tmp_path / name, split_slices(rows, "patient_level", seed=1, test_share=0.2, num_folds=2), {})
    assert (tmp_path / "a" / SPLITS_NAME).read_bytes() == (tmp_path / "b" / SPLITS_NAME).read_bytes()


def test_read_splits__missing_or_foreign_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"splits.parquet cannot be read \(FileNotFoundError\); run split_data again"):
        read_splits(tmp_path)
    (tmp_path / SPLITS_NAME).write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"cannot be read \(ArrowInvalid\)"):
        read_splits(tmp_path)
    make_manifest().to_parquet(tmp_path / SPLITS_NAME)
    with pytest.raises(DataError, match="other columns"):
        read_splits(tmp_path)


def test_read_split_facts__missing_or_broken(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"splits.json cannot be read \(FileNotFoundError\)"):
        read_split_facts(tmp_path)
    (tmp_path / FACTS_NAME).write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="JSONDecodeError"):
        read_split_facts(tmp_path)
