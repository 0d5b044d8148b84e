"""`assemble_cascade`: calibrates on validation patients; packs networks, thresholds and references into one product."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.metrics import brier_score_loss, roc_auc_score
from tqdm import tqdm

from tumor_cascade.content import describe_content
from tumor_cascade.data.cohort import iterate_volumes, read_rows
from tumor_cascade.data.manifest import SEQUENCES
from tumor_cascade.data.split import DEVELOPMENT, read_split_facts
from tumor_cascade.data.volumes import Volume
from tumor_cascade.errors import DataError
from tumor_cascade.evaluation.calibration import choose_gate_threshold, choose_mask_threshold, fit_temperature
from tumor_cascade.models.cascade import Cascade, CascadeSettings, calibrate_logits
from tumor_cascade.models.scoring import ScoringNetwork, score_slices
from tumor_cascade.network_folder import CONFIG_NAME
from tumor_cascade.params import AssembleCascadeParams
from tumor_cascade.product import CASCADE_NAME, find_networks, read_artifact_json, read_network
from tumor_cascade.settings import choose_device
from tumor_cascade.storage import CONTENT_NAME, atomic_dir, write_json


@dataclass(frozen=True)
class Member:
    """The two networks of one fold and the validation slices that neither has learned from."""

    classifier: ScoringNetwork
    segmenter: ScoringNetwork
    rows: pd.DataFrame  # all rows of the fold's validation patients
    fold: int


def assemble_cascade(
    params: AssembleCascadeParams,
    *,
    classifier: Path,
    segmenter: Path,
    slices: Path,
    manifest: Path,
    splits: Path,
    out_cascade: Path,
    out_report: Path,
    out_metrics: Path,
) -> None:
    """Choose temperature, gate and mask threshold on validation patients and pack the product.

    Each network is asked only about patients of its own validation fold, so every number is out-of-fold.

    Raises:
        DataError: A fold's network is missing or was trained on other data, or a part of the data does not fit.
    """
    folders = {
        "classifiers": find_networks(classifier, params.folds),
        "segmenters": find_networks(segmenter, params.folds),
    }
    networks = {f"{role}/{path.parent.name}": path for role, paths in folders.items() for path in paths}
    inputs = {**networks, "manifest": manifest, "splits": splits}
    content = describe_content("assemble_cascade", {"assemble_cascade": params.model_dump()}, inputs)
    check_networks(networks, content["inputs"])
    rows = read_rows(manifest, splits)
    members = read_members(folders, rows)
    settings, metrics, tables = calibrate(params, members, slices)
    product = {
        "settings": settings.to_json(),
        "uncertainty": "entropy in bits of the calibrated slice probability: 0 certain, 1 at probability 0.5",
        "reference": describe_reference(rows),
        **{key: read_split_facts(splits)[key] for key in ("protocol", "is_leaky")},
        "has_patient_ids": bool(rows["has_patient_ids"].all()),
    }
    with atomic_dir(out_cascade) as folder:
        for role, paths in folders.items():
            for path in paths:
                shutil.copytree(path, folder / role / path.parent.name)
        write_json(folder / CASCADE_NAME, product)
        write_json(folder / CONTENT_NAME, content)
    with atomic_dir(out_report) as folder:
        for name, table in tables.items():
            table.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
        write_json(folder / CONTENT_NAME, content)
    write_json(out_metrics, metrics)


def check_networks(networks: dict[str, Path], digests: dict[str, str]) -> None:
    """Refuse networks of another fold or other data: they may have learned from the patients they are judged by.

    Args:
        networks: `<role>/fold-<k>` -> network folder.
        digests: SHA-256 of today's `manifest` and `splits`.

    Raises:
        DataError: With every network that does not fit.
    """
    faults = []
    for name, path in networks.items():
        config, content = (read_artifact_json(path / file) for file in (CONFIG_NAME, CONTENT_NAME))
        if f"fold-{config.get('fold')}" != path.parent.name:
            faults.append(f"{name} was trained for fold {config.get('fold')}; its folder must say so. Train it again.")
        trained_on = content.get("inputs", {})
        other = [noun for noun in ("manifest", "splits") if trained_on.get(noun) != digests[noun]]
        if other:
            faults.append(f"{name} was trained on other {' and '.join(other)} than today's. Train it again.")
    if faults:
        raise DataError(faults)


def read_members(folders: dict[str, list[Path]], rows: pd.DataFrame) -> list[Member]:
    """Return classifier and segmenter of each fold with the fold's validation patients."""
    device, members = torch.device(choose_device()), []
    for paths in zip(*folders.values(), strict=True):
        (classifier, config), (segmenter, _) = (read_network(path) for path in paths)
        is_validation = (rows["partition"] == DEVELOPMENT) & (rows["fold"] == config["fold"])
        patients = rows.loc[is_validation, "patient_id"].unique()
        for scoring in (classifier, segmenter):
            scoring.network.to(device)
        members.append(Member(classifier, segmenter, rows[rows["patient_id"].isin(patients)], config["fold"]))
    return members


def calibrate(
    params: AssembleCascadeParams, members: list[Member], slices: Path
) -> tuple[CascadeSettings, dict[str, float], dict[str, pd.DataFrame]]:
    """Return the cascade's settings, validation metrics, and the tables behind the choices."""
    table = score_validation(params, members, slices)
    logits, labels = table["logit"].to_numpy(), table["has_tumor"].to_numpy()
    temperature = fit_temperature(logits, labels)
    probabilities = calibrate_logits(logits, temperature)
    gate = choose_gate_threshold(probabilities, labels, params.target_sensitivity) if params.gate != "none" else 0.0
    settings = CascadeSettings(
        temperature=temperature,
        gate_threshold=gate,
        mask_threshold=0.5,
        has_flip_averaging=params.has_flip_averaging,
        min_component_voxels=params.postprocessing.min_component_voxels,
        has_only_largest_component=params.postprocessing.has_only_largest_component,
    )
    dice = score_thresholds(params, members, slices, settings)
    settings = replace(settings, mask_threshold=choose_mask_threshold(params.mask_thresholds, dice))
    chosen = dice[:, params.mask_thresholds.index(settings.mask_threshold)]
    is_open = probabilities >= gate
    metrics = {
        "classifier/val_auroc": float(roc_auc_score(labels, logits)),
        "classifier/val_brier": float(brier_score_loss(labels, expit(logits))),
        "cascade/val_brier": float(brier_score_loss(labels, probabilities)),
        "cascade/val_sensitivity": float(is_open[labels].mean()),
        "cascade/val_specificity": float(1 - is_open[~labels].mean()),
        "cascade/val_volume_dice": float(np.nanmean(chosen)),
        "cascade/temperature": settings.temperature,
        "cascade/gate_threshold": settings.gate_threshold,
        "cascade/mask_threshold": settings.mask_threshold,
    }
    by_threshold = pd.DataFrame({"mask_threshold": params.mask_thresholds, "val_volume_dice": np.nanmean(dice, axis=0)})
    return settings, metrics, {"slices": table.assign(probability=probabilities), "mask_thresholds": by_threshold}


def score_validation(params: AssembleCascadeParams, members: list[Member], slices: Path) -> pd.DataFrame:
    """Return one row per validation slice: patient_id, slice_index, has_tumor, logit."""
    tables = []
    for member in members:
        for rows, volume in show_progress(member, slices, "calibrating the gate"):
            with torch.inference_mode():
                logits = score_slices(member.classifier, torch.from_numpy(volume.images), params.has_flip_averaging)
            table = rows[["patient_id", "slice_index", "has_tumor"]].assign(logit=logits)
            tables.append(table[select_validation(rows, member.fold)])
    return pd.concat(tables, ignore_index=True)


def score_thresholds(
    params: AssembleCascadeParams, members: list[Member], slices: Path, settings: CascadeSettings
) -> NDArray[np.float64]:
    """Return the cascade's volume Dice `(patients, candidates)`, NaN for a patient without tumor."""
    scores = []
    for member in members:
        cascade = Cascade([member.classifier], [member.segmenter], settings)
        for rows, volume in show_progress(member, slices, "choosing the mask threshold"):
            assert volume.masks is not None
            is_scored = select_validation(rows, member.fold)
            truth = volume.masks[is_scored].astype(bool)
            prediction = cascade.predict_volume(volume.images, is_every_slice_segmented=True)
            masks = (cascade.cut(prediction, threshold)[is_scored] for threshold in params.mask_thresholds)
            scores.append([measure_dice(truth, mask) for mask in masks])
    return np.array(scores)


def measure_dice(truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> float:
    """Return 2 |A and B| / (|A| + |B|); NaN where the truth is empty."""
    return float(2 * (truth & prediction).sum() / (truth.sum() + prediction.sum())) if truth.any() else float("nan")


def select_validation(rows: pd.DataFrame, fold: int) -> NDArray[np.bool_]:
    """Return which rows of a patient belong to the validation part of a fold: all, unless slices were split."""
    return ((rows["partition"] == DEVELOPMENT) & (rows["fold"] == fold)).to_numpy()


def show_progress(member: Member, slices: Path, what: str) -> "tqdm[tuple[pd.DataFrame, Volume]]":
    """Return the member's validation volumes with a progress bar on a terminal."""
    total = member.rows["patient_id"].nunique()
    return tqdm(iterate_volumes(slices, member.rows), total=total, desc=f"{what}, fold {member.fold}", disable=None)


def describe_reference(rows: pd.DataFrame) -> dict[str, Any]:
    """Return what development data look like, to notice later that other data come in: intensities and tumor rate."""
    rows = rows[rows["partition"] == DEVELOPMENT]
    names = [*(f"{name}_{fact}" for name in SEQUENCES for fact in ("mean", "std", "p01", "p99")), "foreground_share"]
    quantiles = rows[names].astype(float).quantile([0.01, 0.25, 0.5, 0.75, 0.99])
    return {
        "num_slices": len(rows),
        "positive_rate": float(rows["has_tumor"].mean()),
        "quantiles": {name: {str(q): float(value) for q, value in quantiles[name].items()} for name in names},
    }
