"""The outputs of a whole pipeline as its stages lay them out, though none has run: right hashes, made-up content."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from manifests import make_manifest, write_volumes
from tumor_cascade.configuration import build_preset, configure
from tumor_cascade.content import describe_content
from tumor_cascade.data.manifest import write_manifest
from tumor_cascade.registry.outputs import CONTENT_NOUNS
from tumor_cascade.storage import CONTENT_NAME, write_json

EPOCH_TIMES = (1_700_000_000.0, 1_700_000_060.5, 1_700_000_121.0)
VAL_DICE = (0.25, 0.5, 0.75)
PROTOCOL = {"protocol": "patient_level", "is_leaky": False, "has_patient_ids": True}
METRICS = {
    "validate_data": {"num_critical_failed": 0, "num_patients": 4, "num_slices": 16, "num_warnings": 1},
    "split_data": {"development": {"num_patients": 3}, "test": {"num_patients": 1}, "num_near_duplicates": 0},
    "train_classifier": {"classifier/val_auroc": 0.9, "classifier/best_epoch": 2},
    "train_segmenter": {"segmenter/val_dice": 0.75, "segmenter/train_dice": 1 / 3, "segmenter/best_epoch": 2},
    "assemble_cascade": {"cascade/val_volume_dice": 0.8, "cascade/gate_threshold": 0.1},
    "evaluate_cascade": {
        "cascade/test_num_patients": 1,
        "cascade/test_volume_dice": 0.7,
        "cascade/test_volume_dice_low": 0.6,
        "cascade/test_volume_dice_high": 0.8,
        "cascade/test_hd95_px": None,
        "cascade/test_f1": 0.5,
    },
}


def write_outputs(folder: Path, overrides: Sequence[str] = ()) -> Path:
    """Write params.yaml and artifacts/ of preset `smoke` with overrides into a folder; return the latter."""
    artifacts = folder / "artifacts"
    configure("smoke", folder / "params.yaml", overrides)
    params = build_preset("smoke", overrides)
    data = artifacts / "ingest_data"
    write_manifest(
        write_volumes(data / "slices", make_manifest(num_patients=4, num_slices=4)), data / "manifest.parquet"
    )
    inputs = {"manifest": data / "manifest.parquet", "slices": data / "slices"}
    write_json(data / "slices" / CONTENT_NAME, describe_content("ingest_data", params["ingest_data"], {}))
    _write_stage(artifacts, "validate_data", params["validate_data"], inputs, {"result.json": "[]"})
    splits = _write_stage(artifacts, "split_data", params["split_data"], inputs, {"splits.json": json.dumps(PROTOCOL)})
    inputs = {"manifest": inputs["manifest"], "splits": splits}
    networks = {}
    for role in ("classifier", "segmenter"):
        stage = f"train_{role}"
        files = {"config.json": json.dumps(PROTOCOL), "weights.safetensors": str(params[stage])}
        made_of = {stage: params[stage], "fold": 0}
        networks[f"{role}s/fold-0"] = _write_stage(artifacts, stage, made_of, inputs, files)
    made_of = {"assemble_cascade": params["assemble_cascade"]}
    files = {f"{name}/{path.name}": path.read_text() for name, one in networks.items() for path in one.iterdir()}
    files["cascade.json"] = json.dumps(PROTOCOL)
    cascade = _write_stage(artifacts, "assemble_cascade", made_of, {**networks, **inputs}, files)
    made_of = {"evaluate_cascade": params["evaluate_cascade"]}
    files = {
        "report.html": "<html></html>",
        "figures/roc.png": "picture",
        "per_patient.csv": "patient_id,dice\nAA_0000,0.7\n",
    }
    report = _write_stage(artifacts, "evaluate_cascade", made_of, {**inputs, "cascade": cascade}, files)
    write_json(report / CONTENT_NAME, {**json.loads((report / CONTENT_NAME).read_text()), **PROTOCOL})
    return artifacts


def _write_stage(
    artifacts: Path, stage: str, params: dict[str, Any], inputs: dict[str, Path], files: dict[str, str]
) -> Path:
    """Write an output with its content.json, metrics, and a training's curves; return the output's folder."""
    folder = artifacts / stage / ("fold-0" if stage.startswith("train_") else "")
    target = folder / CONTENT_NOUNS[stage]
    for name, text in files.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text(text)
    write_json(target / CONTENT_NAME, describe_content(stage, params, inputs))
    write_json(folder / "metrics.json", METRICS[stage])
    if stage.startswith("train_"):
        (folder / "report").mkdir(exist_ok=True)
        rows = "".join(f"{epoch},{dice}\n" for epoch, dice in enumerate(VAL_DICE))
        (folder / "report" / "curves.csv").write_text(f"epoch,val_dice\n{rows}")
    return target


def read_content_id(artifacts: Path, stage: str) -> str:
    """Return the content_id of a stage's output."""
    return str(json.loads(find_content(artifacts, stage).read_text())["content_id"])


def find_content(artifacts: Path, stage: str, fold: int = 0) -> Path:
    """Return where a stage's output says what it is made of."""
    folder = artifacts / stage / (f"fold-{fold}" if stage.startswith("train_") else "")
    return folder / CONTENT_NOUNS[stage] / CONTENT_NAME


def write_progress(checkpoints: Path, stage: str, content_id: str, num_epochs: int) -> Path:
    """Write a training's log as it stands after some epochs: `VAL_DICE` at `EPOCH_TIMES`."""
    path = checkpoints / stage / content_id[:16] / "progress.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines: list[dict[str, Any]] = [{"stage": stage, "fold": 0, "content_id": content_id, "time": EPOCH_TIMES[0] - 60}]
    for epoch in range(num_epochs):
        facts = {"seconds": 60.0, "images_per_s": 10.0 + epoch, "device": "cpu", "peak_memory_bytes": 2**30}
        lines.append({"epoch": epoch, "time": EPOCH_TIMES[epoch], "val_dice": VAL_DICE[epoch], **facts})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
