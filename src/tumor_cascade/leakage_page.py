"""The page on leaks: what the split keeps apart, and proof that the checks would say if it did not."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tumor_cascade.data.canary import CHANCE, Canary
from tumor_cascade.data.duplicates import name_fold
from tumor_cascade.data.manifest import read_manifest
from tumor_cascade.data.split import DEVELOPMENT, TEST
from tumor_cascade.data.stratification import Protocol
from tumor_cascade.errors import DataError
from tumor_cascade.evaluation.figures import BLUE, GREY, ORANGE, render_png, start_figure
from tumor_cascade.evaluation.no_learning import score_baselines
from tumor_cascade.pages import describe_making, format_score, format_table, write_page
from tumor_cascade.params import SplitDataParams, read_section
from tumor_cascade.planted_leaks import PLANTED, LeakSearch, deal, search_leaks

NAME = "leakage"
COMMAND = "tumor-cascade results leakage"
MODULES = ("tumor_cascade.planted_leaks", "tumor_cascade.evaluation.no_learning")
SERIES = {
    "patient_level": ("by patient", BLUE),
    PLANTED: ("by patient, but one on both sides (planted)", ORANGE),
    "slice_level": ("by slice (leaky)", GREY),
}
# Under a split of slices the test part counts; of patients only development, out-of-fold: the test set stays locked.
SCORED: dict[Protocol, str] = {"patient_level": DEVELOPMENT, "slice_level": TEST}
COLUMNS = {
    "accuracy": "slice accuracy",
    "auroc": "slice AUROC",
    "slice_dice": "Dice on tumor slices",
    "volume_dice": "volume Dice",
    "pixel_accuracy": "pixel accuracy",
}
BASELINE_NAMES = {
    "nearest_neighbor": "nearest neighbor at 32x32",
    "position": "position in the volume",
    "nothing": "predict nothing",
}


def publish_leakage(slices: Path, manifest: Path, params_path: Path, out_dir: Path) -> Path:
    """Search the data for leaks, plant some, and write the page; return its path.

    Args:
        slices: Folder of packed volumes; read only.
        manifest: `manifest.parquet` of `ingest_data`.
        params_path: Params file with a section `split_data`, whose protocol is not used.
        out_dir: Folder of result pages.

    Raises:
        DataError: The data have no patient ids, or a volume is damaged.
    """
    params, rows = read_section(params_path, "split_data"), read_manifest(manifest)
    assert isinstance(params, SplitDataParams)
    if not rows["has_patient_ids"].all():
        raise DataError("the data have no patient ids: nobody can tell whose slices leak; ingest data with patient ids.")
    search = search_leaks(params, slices, rows)
    baselines = {protocol: score_protocol(params, slices, rows, protocol) for protocol in SCORED}
    facts = {
        **describe_making(NAME, COMMAND, MODULES),
        "params": {"split_data": params.model_dump(mode="json", exclude={"protocol"})},
        "num_patients": int(rows["patient_id"].nunique()),
        "num_slices": len(rows),
        **list_findings(search, baselines),
    }
    return write_page(out_dir, facts, render_page(facts), {"canary": render_png(plot_canaries(search.canaries))})


def score_protocol(params: SplitDataParams, slices: Path, rows: pd.DataFrame, protocol: Protocol) -> pd.DataFrame:
    """Return the scores of the baselines without learning under a protocol."""
    splits = deal(params, rows, protocol)
    dealt = rows.assign(partition=splits["partition"], fold=splits["fold"])
    return score_baselines(slices, dealt, (splits["partition"] == SCORED[protocol]).to_numpy())


def list_findings(search: LeakSearch, baselines: Mapping[Protocol, pd.DataFrame]) -> dict[str, Any]:
    """Return all figures of the page as JSON."""
    return {
        "near_duplicates": {
            protocol: {
                "num_pairs": len(pairs),
                "num_pairs_between_patients": sum(not pair.is_same_patient for pair in pairs),
            }
            for protocol, pairs in search.pairs.items()
        },
        "canary": {name: [asdict(one) for one in canaries] for name, canaries in search.canaries.items()},
        "planted_leaks": [asdict(trial) for trial in search.trials],
        "no_learning": {name: list_scores(table) for name, table in baselines.items()},
    }


def list_scores(table: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    """Return a table of baselines as JSON, None where undefined."""
    rows = table.astype(object).where(table.notna(), None).to_dict(orient="index")
    return {str(name): {str(key): value for key, value in row.items()} for name, row in rows.items()}
