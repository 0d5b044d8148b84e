"""One training from artifacts to artifacts: what `train_classifier` and `train_segmenter` share."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from tumor_cascade.content import describe_content
from tumor_cascade.data.cohort import CohortTensors, read_cohort, read_rows, require_masks
from tumor_cascade.data.preprocessing import Preprocessing
from tumor_cascade.data.split import DEVELOPMENT, read_split_facts
from tumor_cascade.errors import DataError
from tumor_cascade.network_folder import Role, hash_patient, write_network
from tumor_cascade.params import TrainingParams
from tumor_cascade.settings import get_checkpoints_dir
from tumor_cascade.storage import atomic_dir, write_json
from tumor_cascade.training.checkpoints import is_main_process, lock_checkpoints
from tumor_cascade.training.curves import write_curves
from tumor_cascade.training.engine import FitResult, fit
from tumor_cascade.training.initialization import StartingWeights, check_patients
from tumor_cascade.training.modules import TrainingModule

ModuleFactory = Callable[[Any, Any, CohortTensors, Tensor, Tensor], TrainingModule]


@dataclass(frozen=True)
class NetworkRecipe:
    """What a stage trains.

    Attributes:
        role: Whose stage it is.
        build: Makes the network with its starting weights from the number of input channels; called with torch seeded.
        architecture: Keyword arguments that make the network again, `in_channels` apart.
        module: Makes the training's Lightning module.
        start: Starting weights that `build` uses; None for a random start.
    """

    role: Role
    build: Callable[[int], nn.Module]
    architecture: dict[str, Any]
    module: ModuleFactory
    start: StartingWeights | None


@dataclass(frozen=True)
class TrainingPaths:
    """What a training reads and writes; artifact nouns as in `stages/interface.py`."""

    slices: Path
    manifest: Path
    splits: Path
    out_network: Path
    out_report: Path
    out_metrics: Path


def train_network(recipe: NetworkRecipe, params: TrainingParams, fold: int, paths: TrainingPaths) -> None:
    """Train one network on all folds but one; write network, report and metrics. Carries on from its own checkpoint.

    Args:
        recipe: What to train.
        params: The stage's section.
        fold: Validation fold: the best epoch on it wins.
        paths: Inputs and outputs; the outputs appear only when the training has ended.

    Raises:
        DataError: The data do not fit each other, cannot teach anything, or were seen by the starting weights.
    """
    stage, start = f"train_{recipe.role}", recipe.start
    inputs = {"manifest": paths.manifest, "splits": paths.splits}
    facts = {} if start is None else {"initialization_sha256": start.sha256}
    content = describe_content(stage, {stage: params.model_dump(), "fold": fold, **facts}, inputs)
    rows = read_rows(paths.manifest, paths.splits)
    if start is not None:
        is_test = rows["partition"] != DEVELOPMENT
        check_patients(start, rows.loc[rows["fold"] == fold, "patient_id"], rows.loc[is_test, "patient_id"])
    rows = select_patients(rows)
    preprocessing = Preprocessing.from_params(params)
    train_index, val_index = select_fold(rows, fold, getattr(params, "training_slices", "all"))
    with lock_checkpoints(get_checkpoints_dir() / stage / content["content_id"][:16]) as checkpoint:
        cohort = read_cohort(paths.slices, rows, preprocessing)
        torch.manual_seed(params.seed)
        network = recipe.build(preprocessing.num_channels)
        module = recipe.module(network, params, cohort, train_index, val_index)
        result = fit(module, checkpoint, {"stage": stage, "fold": fold, "content_id": content["content_id"]})
        if not is_main_process():
            return
        config = {
            "role": recipe.role,
            "architecture": {"in_channels": preprocessing.num_channels, **recipe.architecture},
            "preprocessing": asdict(preprocessing),
            "fold": fold,
            "best_epoch": result.best_epoch,
            **describe_patients(rows, train_index, val_index, paths.splits, start),
        }
        with atomic_dir(paths.out_network) as folder:
            write_network(folder, config, result.weights, content)
        _write_report(recipe.role, result, fold, paths)


def select_patients(rows: pd.DataFrame) -> pd.DataFrame:
    """Return all rows of the patients that have any slice in development; whole volumes, in order."""
    patients = rows.loc[rows["partition"] == DEVELOPMENT, "patient_id"].unique()
    return rows[rows["patient_id"].isin(patients)].reset_index(drop=True)


def select_fold(rows: pd.DataFrame, fold: int, training_slices: str) -> tuple[Tensor, Tensor]:
    """Return the row numbers of training and validation slices, int64 `(N,)` and `(V,)`.

    Args:
        rows: Slices with `partition`, `fold`, `has_mask` and `has_tumor`.
        fold: Validation fold.
        training_slices: `all`, or `positive` to learn from tumor slices alone; validation always has all.

    Raises:
        DataError: Slices have no masks, the split has no such fold, or either part lacks tumor slices or tumor-free
            slices, so that nothing could be learned or measured.
    """
    is_development = rows["partition"] == DEVELOPMENT
    parts = {"training": is_development & (rows["fold"] != fold), "validation": is_development & (rows["fold"] == fold)}
    require_masks(rows[is_development])
    if not parts["validation"].any():
        folds = sorted(rows.loc[is_development, "fold"].unique())
        raise DataError(f"fold {fold} is none of the split's, {folds[0]} to {folds[-1]}; name another, or split anew.")
    faults = []
    for name, selected in parts.items():
        num_tumor, num = int(rows.loc[selected, "has_tumor"].sum()), int(selected.sum())
        if num_tumor in (0, num):
            faults.append(
                f"fold {fold}: {name} has {num} slices, {num_tumor} with tumor; must have both kinds. Use fewer folds."
            )
    if faults:
        raise DataError(faults)
    if training_slices == "positive":
        parts["training"] &= rows["has_tumor"]
    train_index, val_index = (torch.from_numpy(np.flatnonzero(selected)) for selected in parts.values())
    return train_index, val_index


def describe_patients(
    rows: pd.DataFrame, train_index: Tensor, val_index: Tensor, splits: Path, start: StartingWeights | None
) -> dict[str, Any]:
    """Return who the network and its start have seen, as SHA-256 of patient ids, and the protocol of the split."""
    facts = read_split_facts(splits)
    parts = {"training_patients": train_index, "validation_patients": val_index}
    seen = {
        name: sorted(hash_patient(patient) for patient in rows["patient_id"].iloc[index.numpy()].unique())
        for name, index in parts.items()
    }
    if start is not None:
        seen["training_patients"] = sorted(start.training_patients.union(seen["training_patients"]))
    return {**seen, "protocol": facts["protocol"], "is_leaky": facts["is_leaky"]}


def _write_report(role: Role, result: FitResult, fold: int, paths: TrainingPaths) -> None:
    best = result.history[result.best_epoch]
    with atomic_dir(paths.out_report) as folder:
        write_curves(result.history, result.best_epoch, f"{role}, fold {fold}", folder)
    metrics = {f"{role}/{name}": value for name, value in best.items() if name != "epoch"}
    lengths = {f"{role}/best_epoch": result.best_epoch, f"{role}/num_epochs": len(result.history)}
    write_json(paths.out_metrics, {**metrics, **lengths})
