"""The data of a run as MLflow shows them: named by the manifest's hash, found where DVC keeps them."""

import configparser
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tumor_cascade.registry.projection import DatasetFacts
from tumor_cascade.storage import hash_file

CONTEXTS = {
    "ingest_data": "ingestion",
    "validate_data": "validation",
    "split_data": "split",
    "train_classifier": "training",
    "train_segmenter": "training",
    "assemble_cascade": "calibration",
    "evaluate_cascade": "evaluation",
}


def describe_dataset(manifest: Path, name: str, stage: str) -> DatasetFacts:
    """Return the data behind a manifest, as an input of a run.

    Args:
        manifest: `manifest.parquet` of `ingest_data`.
        name: Of the data set: where its slices came from.
        stage: Whose run it is, or any other word for what the data were used for.
    """
    patients = pq.read_table(manifest, columns=["patient_id"]).column("patient_id")
    digest = hash_file(manifest)
    profile = {"num_patients": len(patients.unique()), "num_slices": len(patients), "manifest_sha256": digest}
    source = locate_data(manifest, Path())
    context = CONTEXTS.get(stage, stage)
    return DatasetFacts(name, digest, json.dumps(source), json.dumps(profile), context)


def locate_data(manifest: Path, repository: Path) -> dict[str, Any]:
    """Return where DVC keeps the slices and the manifest: remote, and path and MD5 of each.

    Without DVC, or where its lock names another manifest than this one, the hash alone says what the data are.
    """
    stages = _read_lock(repository / "dvc.lock").get("stages", {})
    outs = {str(out["path"]): str(out["md5"]) for out in stages.get("ingest_data", {}).get("outs", [])}
    with manifest.open("rb") as stream:
        md5 = hashlib.file_digest(stream, "md5").hexdigest()
    if md5 not in outs.values():
        return {"sha256": hash_file(manifest), "uri": manifest.name}
    remote = _read_remote(repository / ".dvc") or "dvc cache"
    first = next(path for path, digest in outs.items() if digest == md5)
    return {
        "uri": f"{remote}/files/md5/{md5[:2]}/{md5[2:]}",
        "path": first,
        "outs": outs,
        "sha256": hash_file(manifest),
    }


def _read_lock(path: Path) -> Mapping[str, Any]:
    try:
        return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8")) or {}
    except (OSError, YAMLError):
        return {}


def _read_remote(dvc_dir: Path) -> str | None:
    """Return the URL of DVC's default remote; `tumor-cascade remote` writes none with credentials."""
    config = configparser.ConfigParser()
    config.read([dvc_dir / "config", dvc_dir / "config.local"], encoding="utf-8")
    name = config.get("core", "remote", fallback=None)
    return None if name is None else config.get(f"'remote \"{name}\"'", "url", fallback=None)
