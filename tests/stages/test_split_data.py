"""Stage `split_data`, from files to files."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from manifests import make_manifest, write_volumes
from phantoms import Cohort, ingest_phantom, make_split_params
from tumor_cascade.data.manifest import write_manifest
from tumor_cascade.data.split import read_split_facts, read_splits
from tumor_cascade.data.stratification import split_slices
from tumor_cascade.errors import DataError, ParamsError
from tumor_cascade.stages.split_data import check_leaks, find_leaks, split_data
from tumor_cascade.storage import hash_path


def run(folder: Path, manifest: pd.DataFrame, out: str = "splits", **changes: Any) -> Path:
    """Run the stage over a manifest whose volumes stand in `folder`/slices; return the splits folder."""
    write_manifest(manifest, folder / "manifest.parquet")
    split_data(
        make_split_params(**changes),
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


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Eight generated patients."""
    return ingest_phantom(tmp_path_factory.mktemp("phantom"), 8)


def split_phantom(phantom: Cohort, folder: Path, protocol: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split the phantom; return splits.json and metrics.json."""
    split_data(
        make_split_params(protocol=protocol),
        manifest=phantom.manifest,
        slices=phantom.slices,
        out_splits=folder / "splits",
        out_metrics=folder / "metrics.json",
    )
    return read_split_facts(folder / "splits"), json.loads((folder / "metrics.json").read_text())


def test_split_data__canary_hears_nothing_by_patient(phantom: Cohort, tmp_path: Path) -> None:
    facts, metrics = split_phantom(phantom, tmp_path, "patient_level")
    assert list(facts["canary"]) == ["fold-0", "fold-1", "fold-2", "test"]
    assert all(one["is_chance"] and one["low"] < 0.5 < one["high"] for one in facts["canary"].values())
    assert metrics["canary"] == facts["canary"]


def test_split_data__canary_hears_the_split_by_slice(phantom: Cohort, tmp_path: Path) -> None:
    facts, _ = split_phantom(phantom, tmp_path, "slice_level")
    assert facts["is_leaky"] is True
    assert all(not one["is_chance"] and one["accuracy"] > 0.7 for one in facts["canary"].values())


def test_check_leaks__split_of_slices_declared_to_be_of_patients(phantom: Cohort) -> None:
    params, rows = make_split_params(), phantom.rows
    splits = split_slices(rows, "slice_level", seed=1, test_share=0.25, num_folds=3)
    pairs, canaries = find_leaks(params, rows, splits, phantom.slices)
    with pytest.raises(DataError, match="one person stands on two sides of the split:") as caught:
        check_leaks(params, pairs, canaries)
    assert (
        len([line for line in caught.value.violations if "permuted-label canary" in line]) == 4
    )  # test and three folds
    check_leaks(make_split_params(protocol="slice_level"), pairs, canaries)  # which says what it is, and is let pass


def test_check_leaks__one_patient_dealt_over_two_folds(phantom: Cohort) -> None:
    params, rows = make_split_params(), phantom.rows
    splits = split_slices(rows, "patient_level", seed=1, test_share=0.25, num_folds=3)
    check_leaks(params, *find_leaks(params, rows, splits, phantom.slices))
    patient = splits.loc[splits["fold"] == 0, "patient_id"].iloc[0]
    splits.loc[(splits["patient_id"] == patient) & (splits["slice_index"] % 2 == 1), "fold"] = 1
    with pytest.raises(DataError, match=r"development fold 0: the permuted-label canary.*excludes chance"):
        check_leaks(params, *find_leaks(params, rows, splits, phantom.slices))


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
    assert read_split_facts(tmp_path / "splits")["canary"] == {}  # nobody can tell who is recognised


def test_split_data__too_few_patients(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="num_folds is 20"):
        run(tmp_path, make_manifest(6), num_folds=20)
