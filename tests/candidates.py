"""Packed cascades with a whole chain behind them, as the pipeline leaves them: untrained, but registrable."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from manifests import make_manifest, write_volumes
from products import write_product
from tumor_cascade.content import find_lock, hash_code
from tumor_cascade.data.manifest import write_manifest
from tumor_cascade.data.split import write_splits
from tumor_cascade.product import read_artifact_json
from tumor_cascade.registry.ledger import DECISION_NAME, LEDGER_PREFIX
from tumor_cascade.registry.promotion import Judgement
from tumor_cascade.registry.verdicts import Verdict
from tumor_cascade.storage import CONTENT_NAME, canonical_json, hash_file, hash_path, write_json

SMALLEST = "efficientnet_lite0"  # of the encoders, on disk
NO_DATA: dict[str, str] = {"manifest": "1" * 64, "splits": "2" * 64}


def write_data(folder: Path, num_patients: int) -> Path:
    """Write slices, manifest and a split whose second half is the test set; return the folder."""
    rows = write_volumes(folder / "slices", make_manifest(num_patients=num_patients))
    write_manifest(rows, folder / "manifest.parquet")
    names = sorted(rows["patient_id"].unique())
    is_test = rows["patient_id"].isin(names[num_patients // 2 :])
    partition = np.where(is_test, "test", "development")
    splits = rows[["patient_id", "slice_index"]].assign(partition=partition, fold=np.where(is_test, -1, 0))
    (folder / "splits").mkdir()
    write_splits(folder / "splits", pd.DataFrame(splits), {"protocol": "patient_level", "is_leaky": False})
    return folder


def hash_data(data: Path) -> dict[str, str]:
    """Return the digests by which outputs name their data."""
    return {"manifest": hash_path(data / "manifest.parquet"), "splits": hash_path(data / "splits")}


def write_candidate(folder: Path, name: str, data: dict[str, str] | None = None, **product: Any) -> Path:
    """Write a packed cascade whose content.json files name data, params and code; return its folder.

    Args:
        folder: To make.
        name: Enters the content_id, nothing else.
        data: Of `hash_data`.
        product: Of `write_product`.
    """
    write_product(folder, **{"gate_threshold": 0.5, "network": SMALLEST, **product})
    digests = data or NO_DATA
    networks = {}
    for role in ("classifier", "segmenter"):
        path = folder / f"{role}s" / "fold-0"
        write_content(path, f"train_{role}", {"name": name}, digests)
        networks[f"{role}s/fold-0"] = hash_path(path)
    write_content(folder, "assemble_cascade", {"name": name}, {**networks, **digests})
    return folder


def write_evaluation(folder: Path, cascade: Path) -> Path:
    """Write all that promotion asks of an evaluation, whose bytes it is of; return its folder."""
    folder.mkdir(parents=True)
    write_content(folder, "evaluate_cascade", {}, {"cascade": hash_path(cascade)})
    return folder


def write_content(folder: Path, stage: str, params: dict[str, Any], inputs: dict[str, str]) -> None:
    content = {
        "stage": stage,
        "params": {stage: params},
        "inputs": inputs,
        "code": hash_code(stage),
        "lock": hash_file(find_lock()),
    }
    content_id = hashlib.sha256(canonical_json(content)).hexdigest()
    write_json(folder / CONTENT_NAME, {**content, "content_id": content_id})


def read_name(cascade: Path) -> str:
    """Return the name that a candidate was written with."""
    return str(read_artifact_json(cascade / CONTENT_NAME)["params"]["assemble_cascade"]["name"])


def judge_as(verdict: Verdict, card: str = "# A card\n") -> Judgement:
    """Return a judgement without any evidence."""
    decision = {"verdict": verdict, "files": {"model_card.md": hashlib.sha256(card.encode()).hexdigest()}}
    pages = {DECISION_NAME: canonical_json(decision), "model_card.md": card.encode()}
    return Judgement(verdict, f"said to be {verdict}", "3" * 64, pages)


def count_entries(folder: Path) -> int:
    """Return the number of entries in a ledger that is a folder."""
    return len(list((folder / LEDGER_PREFIX).glob("*.json")))
