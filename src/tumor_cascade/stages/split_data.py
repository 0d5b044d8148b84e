"""Stage `split_data`: a locked test set and k folds, checked for leaks between them."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from tumor_cascade.content import describe_content
from tumor_cascade.data.canary import Canary, describe_recognition, run_canary
from tumor_cascade.data.duplicates import DuplicatePair, describe_leaks, find_near_duplicates
from tumor_cascade.data.manifest import read_manifest
from tumor_cascade.data.split import write_splits
from tumor_cascade.data.stratification import count_institutions, describe_groups, split_slices
from tumor_cascade.data.thumbnails import read_thumbnails
from tumor_cascade.errors import DataError
from tumor_cascade.params import SplitDataParams
from tumor_cascade.storage import atomic_dir, write_json


def split_data(params: SplitDataParams, *, manifest: Path, slices: Path, out_splits: Path, out_metrics: Path) -> None:
    """Write who trains, validates and tests.

    Args:
        params: The stage's section.
        manifest: `manifest.parquet` of `ingest_data`.
        slices: Folder of packed volumes, for the search for leaks.
        out_splits: Folder for the table, its facts and `content.json`.
        out_metrics: File for counts, shares and the canary's scores.

    Raises:
        DataError: No patient ids under `patient_level`, or a leak between two sides.
        ParamsError: Too few patients for the folds.
    """
    rows = read_manifest(manifest)
    splits = split_slices(
        rows, params.protocol, seed=params.seed, test_share=params.test_share, num_folds=params.num_folds
    )
    pairs, canaries = find_leaks(params, rows, splits, slices)
    check_leaks(params, pairs, canaries)
    facts = describe_split(params, rows, splits, pairs, canaries)
    with atomic_dir(out_splits) as folder:
        write_splits(folder, splits, facts)
        inputs = {"manifest": manifest, "slices": slices}
        write_json(folder / "content.json", describe_content("split_data", params.model_dump(mode="json"), inputs))
    metrics = {**facts["partitions"], "num_near_duplicates": len(pairs), "canary": facts["canary"]}
    write_json(out_metrics, metrics)


def find_leaks(
    params: SplitDataParams, rows: pd.DataFrame, splits: pd.DataFrame, slices: Path
) -> tuple[list[DuplicatePair], list[Canary]]:
    """Return the same pictures on two sides, and how well patients can be recognised from the other side.

    Without patient ids there is no telling who is recognised: no canary.
    """
    pairs = find_near_duplicates(
        rows,
        splits["fold"].to_numpy(),
        slices,
        max_hash_distance=params.max_duplicate_hash_distance,
        min_correlation=params.min_duplicate_correlation,
    )
    if not rows["has_patient_ids"].all():
        return pairs, []
    canaries = run_canary(
        splits,
        read_thumbnails(slices, rows),
        num_permutations=params.num_canary_permutations,
        confidence=params.canary_confidence,
        seed=params.seed,
    )
    return pairs, canaries


def check_leaks(params: SplitDataParams, pairs: list[DuplicatePair], canaries: list[Canary]) -> None:
    """Refuse leaks in what calls itself a split by patient.

    Raises:
        DataError: Naming each of them.
    """
    leaks = [*describe_leaks(pairs), *describe_recognition(canaries)]
    if leaks and params.protocol == "patient_level":
        raise DataError(leaks, "one person stands on two sides of the split:")


def describe_split(
    params: SplitDataParams,
    rows: pd.DataFrame,
    splits: pd.DataFrame,
    pairs: list[DuplicatePair],
    canaries: list[Canary],
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
        "canary": {one.part: {**asdict(one), "is_chance": one.is_chance} for one in canaries},
    }
