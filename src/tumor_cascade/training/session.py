"""One training from artifacts to artifacts: what `train_classifier` and `train_segmenter` share."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from tumor_cascade.content import describe_content
from tumor_cascade.data.cohort import CohortTensors, read_cohort, read_rows
from tumor_cascade.data.preprocessing import Preprocessing
from tumor_cascade.data.split import DEVELOPMENT, read_split_facts
from tumor_cascade.errors import DataError
from tumor_cascade.params import TrainingParams
from tumor_cascade.network_folder import Role, write_network
from tumor_cascade.settings import get_checkpoints_dir
from tumor_cascade.storage import atomic_dir, write_json
from tumor_cascade.training.checkpoints import lock_checkpoints
from tumor_cascade.training.curves import write_curves
from tumor_cascade.training.engine import FitResult, fit
from tumor_cascade.training.modules import TrainingModule

ModuleFactory = Callable[[nn.Module, Any, CohortTensors, Tensor, Tensor], TrainingModule]


def train_network(
    role: Role,
    params: TrainingParams,
    *,
    network: Callable[[int], nn.Module],
    architecture: dict[str, Any],
    module: ModuleFactory,
    facts: dict[str, Any],
    fold: int,
    slices: Path,
    manifest: Path,
    splits: Path,
    out_network: Path,
    out_report: Path,
    out_metrics: Path,
) -> None:
    """Train one network on one fold and write network, report and metrics; carries on from a checkpoint of the same content.

    Args:
        role: Whose stage this is.
        params: The stage's section, with `monitor`.
        network: Makes the network with its starting weights from the number of input channels; called with torch seeded.
        architecture: Keyword arguments that make the network again, `in_channels` apart.
        module: The training's Lightning module.
        facts: Further content, such as the digest of starting weights.
        fold: Validation fold.
        slices: Folder of packed volumes.
        manifest: The manifest.
        splits: Folder of the split.
        out_network: Network folder to write.
        out_report: Folder of curves to write.
        out_metrics: Metrics of the best epoch to write.
    """
    stage = f"train_{role}"
    inputs = {"manifest": manifest, "splits": splits}
    content = describe_content(stage, {stage: params.model_dump(), "fold": fold, **facts}, inputs)
    rows = read_rows(manifest, splits)
    with lock_checkpoints(get_checkpoints_dir() / stage / content["content_id"][:16]) as checkpoint:
        preprocessing = Preprocessing.from_params(params)
        rows = select_patients(rows)
        train_index, val_index = select_fold(rows, fold)
        if getattr(params, "training_slices", "all") == "positive":
            train_index = train_index[torch.from_numpy(rows["has_tumor"].to_numpy().copy())[train_index]]
        cohort = read_cohort(slices, rows, preprocessing)
        torch.manual_seed(params.seed)
        net = network(preprocessing.num_channels)
        started = time.monotonic()
        result = fit(module(net, params, cohort, train_index, val_index), params.monitor, checkpoint)
        _report_speed(stage, len(result.history) * len(train_index), time.monotonic() - started)
        config = {
            "role": role,
            "architecture": {"in_channels": preprocessing.num_channels, **architecture},
            "preprocessing": asdict(preprocessing),
            "fold": fold,
            "best_epoch": result.best_epoch,
            **describe_patients(rows, train_index, val_index, splits),
        }
        with atomic_dir(out_network) as folder:
            write_network(folder, config, result.weights, content)
        _write_report(role, result, fold, out_report, out_metrics)


def select_patients(rows: pd.DataFrame) -> pd.DataFrame:
    """Return all rows of the patients that have any slice in development; whole volumes, in order."""
    patients = rows.loc[rows["partition"] == DEVELOPMENT, "patient_id"].unique()
    return rows[rows["patient_id"].isin(patients)].reset_index(drop=True)


def select_fold(rows: pd.DataFrame, fold: int) -> tuple[Tensor, Tensor]:
    """Return the row numbers of training and validation slices, int64 `(N,)` and `(V,)`.

    Raises:
        DataError: Either part lacks tumor slices or tumor-free slices, so nothing could be learned or measured.
    """
    is_development = rows["partition"] == DEVELOPMENT
    parts = {"training": is_development & (rows["fold"] != fold), "validation": is_development & (rows["fold"] == fold)}
    faults = []
    for name, selected in parts.items():
        num_tumor, num = int(rows.loc[selected, "has_tumor"].sum()), int(selected.sum())
        if num_tumor in (0, num):
            faults.append(f"fold {fold}: {name} has {num} slices, {num_tumor} with tumor; needs both kinds. Fewer folds?")
    if faults:
        raise DataError(faults)
    train_index, val_index = (torch.from_numpy(np.flatnonzero(selected)) for selected in parts.values())
    return train_index, val_index


def describe_patients(rows: pd.DataFrame, train_index: Tensor, val_index: Tensor, splits: Path) -> dict[str, Any]:
    """Return who the network has seen, as SHA-256 of patient ids, and the protocol of the split."""
    facts = read_split_facts(splits)
    parts = {"training_patients": train_index, "validation_patients": val_index}
    seen = {
        name: sorted(hash_patient(patient) for patient in rows["patient_id"].iloc[index.numpy()].unique())
        for name, index in parts.items()
    }
    return {**seen, "protocol": facts["protocol"], "is_leaky": facts["is_leaky"]}


def hash_patient(patient_id: str) -> str:
    """Return the name under which a product remembers a patient."""
    return hashlib.sha256(patient_id.encode()).hexdigest()


def _write_report(role: Role, result: FitResult, fold: int, out_report: Path, out_metrics: Path) -> None:
    best = result.history[result.best_epoch]
    with atomic_dir(out_report) as folder:
        write_curves(result.history, result.best_epoch, f"{role}, fold {fold}", folder)
    metrics = {f"{role}/{name}": value for name, value in best.items() if name != "epoch"}
    write_json(out_metrics, {**metrics, f"{role}/best_epoch": result.best_epoch, f"{role}/num_epochs": len(result.history)})


def _report_speed(stage: str, num_slices: int, seconds: float) -> None:
    click.echo(f"{stage}: {num_slices} slices in {seconds:.0f} s since (re)start", err=True)
