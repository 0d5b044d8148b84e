"""What people compare: at most a dozen metrics per run, under keys that stay."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MAX_HEADLINES, NUM_DIGITS = 12, 6
# Per stage: which keys of metrics.json, in order. `{split}` is the part of the data that was scored.
HEADLINES = {
    "ingest_data": (),
    "validate_data": ("num_patients", "num_slices", "num_critical_failed", "num_warnings", "positive_slice_share"),
    "split_data": (
        "development.num_patients",
        "development.num_slices",
        "test.num_patients",
        "test.num_slices",
        "num_near_duplicates",
    ),
    "train_classifier": (
        "classifier/val_auroc",
        "classifier/val_accuracy",
        "classifier/val_loss",
        "classifier/train_loss",
        "classifier/best_epoch",
        "classifier/num_epochs",
    ),
    "train_segmenter": (
        "segmenter/val_dice",
        "segmenter/val_slice_auroc",
        "segmenter/val_loss",
        "segmenter/train_dice",
        "segmenter/train_loss",
        "segmenter/best_epoch",
        "segmenter/num_epochs",
    ),
    "assemble_cascade": (
        "cascade/val_volume_dice",
        "cascade/val_auroc",
        "cascade/val_sensitivity",
        "cascade/val_specificity",
        "cascade/val_brier",
        "cascade/gate_threshold",
        "cascade/mask_threshold",
    ),
    "evaluate_cascade": (
        "cascade/{split}_volume_dice",
        "cascade/{split}_volume_dice_low",
        "cascade/{split}_volume_dice_high",
        "cascade/{split}_slice_dice",
        "cascade/{split}_auroc",
        "cascade/{split}_sensitivity",
        "cascade/{split}_specificity",
        "cascade/{split}_accuracy",
        "cascade/{split}_lesion_sensitivity",
        "cascade/{split}_hd95_px",
        "segmenter/{split}_volume_dice",
        "oracle/{split}_volume_dice",
    ),
}


def read_headlines(stage: str, metrics_path: Path) -> dict[str, float]:
    """Return a stage's headline metrics; those that its metrics.json lacks or leaves undefined are left out."""
    try:
        metrics = flatten(json.loads(metrics_path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
    splits = [match[1] for key in metrics if (match := re.fullmatch(r"cascade/(\w+)_num_patients", key))]
    keys = [key.format(split=splits[0] if splits else "") for key in HEADLINES[stage]]
    found = {name_metric(stage, key): metrics[key] for key in keys if metrics.get(key) is not None}
    return {key: round(float(value), NUM_DIGITS) for key, value in found.items()}


def name_metric(stage: str, key: str) -> str:
    """Return the key under which a metric stands in MLflow: grouped by model, or else by stage."""
    return key.replace(".", "_") if "/" in key else f"{stage}/{key.replace('.', '_')}"


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, keys joined by dots; everything else stays as it is."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
