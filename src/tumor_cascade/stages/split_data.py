"""Stage `split_data`: a locked test set and k folds, checked for near-duplicates across them."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from tumor_cascade.content import describe_content
from tumor_cascade.data.duplicates import DuplicatePair, describe_leaks, find_near_duplicates
from tumor_cascade.data.manifest import read_manifest
from tumor_cascade.data.split import write_splits
from tumor_cascade.data.stratification import count_institutions, describe_groups, split_slices
from tumor_cascade.errors import DataError
from tumor_cascade.params import SplitDataParams
from tumor_cascade.storage import atomic_dir, write_json


def split_data(params: SplitDataParams, *, manifest: Path, slices: Path, out_splits: Path, out_metrics: Path) -> None:
    """Write who trains, validates and tests.

    Args:
        params: The stage's section.
        manifest: `manifest.parquet` of `ingest_data`.
        slices: Folder of packed volumes, for the near-duplicate scan.
        out_splits: Folder for the table, its facts and `content.json`.
        out_metrics: File for counts and shares.

    Raises:
        DataError: No patient ids under `patient_level`, or two patients with the same pictures on two sides.
        ParamsError: Too few patients for the folds.
    """
    rows = read_manifest(manifest)
    splits = split_slices(
        rows, params.protocol, seed=params.seed, test_share=params.test_share, num_folds=params.num_folds
    )
    pairs = find_near_duplicates(
        rows,
        splits["fold"].to_numpy(),
        slices,
        max_hash_distance=params.max_duplicate_hash_distance,
        min_correlation=params.min_duplicate_correlation,
    )
    leaks = describe_leaks(pairs)
    is_leaky = params.protocol == "slice_level"
    if leaks and not is_leaky:
        raise DataError(leaks, "near-duplicate patients across the split:")
    facts = describe_split(params, rows, splits, pairs)
    with atomic_dir(out_splits) as folder:
        write_splits(folder, splits, facts)
        inputs = {"manifest": manifest, "slices": slices}
        write_json(folder / "content.json", describe_content("split_data", params.model_dump(mode="json"), inputs))
    write_json(out_metrics, {**facts["partitions"], "num_near_duplicates": len(pairs)})


def describe_split(
    params: SplitDataParams, rows: pd.DataFrame, splits: pd.DataFrame, pairs: list[DuplicatePair]
) -> dict[str, Any]:
    """Return the content of splits.json: what was done, with which result."""
    between_patients = [pair for pair in pairs if not pair.is_same_patient]
    return {
        "protocol": params.protocol,
        "is_leaky": params.protocol == "slice_level",
        "has_patient_ids": bool(rows["has_patient_ids"].all()),
        "seed": params.seed,
        "test_share": params.test_share,
        "num_folds": params.num_folds,
        "partitions": describe_groups(rows, splits, "partition"),
        "development_folds": {
            name: facts for name, facts in describe_groups(rows, splits, "fold").items() if int(name) >= 0
        },
        "institutions": count_institutions(rows, splits),
        "near_duplicates": {
            "num_same_patient_pairs": len(pairs) - len(between_patients),
            "num_pairs_between_patients": len(between_patients),
            "pairs_between_patients": [asdict(pair) for pair in between_patients],
        },
    }
