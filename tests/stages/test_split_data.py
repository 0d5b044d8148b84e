"""Stage `split_data`, from files to files."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from manifests import make_manifest, write_volumes
from tumor_cascade.data.manifest import write_manifest
from tumor_cascade.data.split import read_split_facts, read_splits
from tumor_cascade.errors import DataError, ParamsError
from tumor_cascade.params import SplitDataParams
from tumor_cascade.stages.split_data import split_data
from tumor_cascade.storage import hash_path


def make_params(**changes: Any) -> SplitDataParams:
    """Return a section fit for few patients."""
    values = {
        "protocol": "patient_level",
        "seed": 1,
        "test_share": 0.25,
        "num_folds": 3,
        "max_duplicate_hash_distance": 4,
        "min_duplicate_correlation": 0.985,
        "num_canary_permutations": 1000,
        "canary_confidence": 0.9999,
    }
    return SplitDataParams.model_validate({**values, **changes})


def run(folder: Path, manifest: pd.DataFrame, out: str = "splits", **changes: Any) -> Path:
    """Run the stage over a manifest whose volumes stand in `folder`/slices; return the splits folder."""
    write_manifest(manifest, folder / "manifest.parquet")
    split_data(
        make_params(**changes),
        manifest=folder / "manifest.parquet",
        slices=folder / "slices",
        out_splits=folder / out,
        out_metrics=folder / f"{out}.json",
    )
    return folder / out


def test_split_data__smoke_cohort(tmp_path: Path) -> None:
    manifest = write_volumes(tmp_path / "slices", make_manifest(12, 10, institutions=("AA", "BB", "CC")))
    splits_dir = run(tmp_path, manifest)
    splits, facts = read_splits(splits_dir), read_split_facts(splits_dir)
    assert sorted(path.name for path in splits_dir.iterdir()) == ["content.json", "splits.json", "splits.parquet"]
    # a quarter of 12 patients, one of each institution; the other nine over three folds
    assert splits.groupby("fold")["patient_id"].nunique().to_dict() == {-1: 3, 0: 3, 1: 3, 2: 3}
    assert facts["institutions"] == {name: {"development": 3, "test": 1} for name in ("AA", "BB", "CC")}
    assert facts["is_leaky"] is False
    assert facts["near_duplicates"] == {
        "num_same_patient_pairs": 0,
        "num_pairs_between_patients": 0,
        "pairs_between_patients": [],
    }
    metrics = json.loads((tmp_path / "splits.json").read_text())
    assert metrics["development"]["num_patients"] == 9
    assert metrics["test"]["positive_share"] == 0.3
    assert metrics["num_near_duplicates"] == 0
    content = json.loads((splits_dir / "content.json").read_text())
    assert content["stage"] == "split_data" and len(content["content_id"]) == 64


def test_split_data__two_runs_give_the_same_bytes(tmp_path: Path) -> None:
    manifest = write_volumes(tmp_path / "slices", make_manifest(6))
    assert hash_path(run(tmp_path, manifest, "a")) == hash_path(run(tmp_path, manifest, "b"))


def test_split_data__patient_standing_twice_under_two_ids(tmp_path: Path) -> None:
    manifest = write_volumes(tmp_path / "slices", make_manifest(4))
    original, copy = (manifest["patient_id"] == name for name in ("AA_0000", "BB_0003"))
    (tmp_path / "slices" / "BB_0003.npy").write_bytes((tmp_path / "slices" / "AA_0000.npy").read_bytes())
    facts = ["image_sha256", "mask_sha256", "perceptual_hash"]
    manifest.loc[copy, facts] = manifest.loc[original, facts].to_numpy()
    with pytest.raises(DataError, match=r"patients AA_0000 \(.*\) and BB_0003 \(.*\) share 10 nearly identical"):
        run(tmp_path, manifest)
    assert not (tmp_path / "splits").exists()
    splits_dir = run(tmp_path, manifest, protocol="slice_level")  # the study's protocol is let pass, and says so
    facts = read_split_facts(splits_dir)
    assert facts["is_leaky"] is True
    assert facts["near_duplicates"]["num_pairs_between_patients"] > 0
    assert facts["near_duplicates"]["pairs_between_patients"][0]["patients"] == ["AA_0000", "BB_0003"]


def test_split_data__slices_without_patient_ids(tmp_path: Path) -> None:
    manifest = write_volumes(tmp_path / "slices", make_manifest(6)).assign(has_patient_ids=False)
    with pytest.raises(DataError, match="no patient ids"):
        run(tmp_path, manifest)
    assert read_split_facts(run(tmp_path, manifest, protocol="slice_level"))["has_patient_ids"] is False


def test_split_data__too_few_patients(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="num_folds is 20"):
        run(tmp_path, make_manifest(6), num_folds=20)
