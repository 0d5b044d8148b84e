"""`assemble_cascade`: calibrates on validation patients; packs networks, thresholds and references into one product."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.special import expit
from sklearn.metrics import brier_score_loss, roc_auc_score
from tqdm import tqdm

from tumor_cascade.content import describe_content
from tumor_cascade.data.cohort import iterate_volumes, read_rows
from tumor_cascade.data.manifest import SEQUENCES
from tumor_cascade.data.split import DEVELOPMENT, read_split_facts
from tumor_cascade.errors import DataError
from tumor_cascade.evaluation.kept_masks import KeptMasks
from tumor_cascade.evaluation.tuning import choose_out_of_fold, choose_settings, start_settings
from tumor_cascade.evaluation.validation import ValidationScores, decide_table, score_volume
from tumor_cascade.models.cascade import Cascade
from tumor_cascade.models.decision import CascadeSettings
from tumor_cascade.models.scoring import ScoringNetwork
from tumor_cascade.network_folder import CONFIG_NAME
from tumor_cascade.params import AssembleCascadeParams
from tumor_cascade.product import CASCADE_NAME, find_networks, read_artifact_json, read_network
from tumor_cascade.settings import choose_device
from tumor_cascade.storage import CONTENT_NAME, atomic_dir, write_json

CHOSEN = ("temperature", "gate_threshold", "decision_threshold", "mask_threshold")


@dataclass(frozen=True)
class Member:
    """The two networks of one fold and the validation slices that neither has learned from."""

    classifier: ScoringNetwork
    segmenter: ScoringNetwork
    rows: pd.DataFrame  # all rows of the fold's validation patients; `is_scored` where a slice is in validation
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
    """Choose the cascade's numbers on validation patients and pack the product.

    Each network is asked only about patients of its own validation fold. What is reported of these patients is decided
    by numbers that were chosen on the other folds, where there are any.

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
    scores = score_validation(params, members, slices)
    settings, out_of_fold = choose_settings(params, scores), choose_out_of_fold(params, scores)
    table = tabulate_slices(params, scores, out_of_fold)
    product = {
        "settings": settings.to_json(),
        # Under which the fold's own validation patients may be judged: with one fold these have chosen them.
        "out_of_fold_settings": {str(fold): chosen.to_json() for fold, chosen in out_of_fold.items()},
        "is_cross_fitted": len(out_of_fold) > 1,
        "uncertainty": "entropy in bits of the slice probability: 0 certain, 1 at probability 0.5",
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
        dice = np.nanmean(scores.measure_dice(), axis=0)
        by_threshold = pd.DataFrame({"mask_threshold": params.mask_thresholds, "val_volume_dice": dice})
        for name, rows_written in (("slices", table), ("mask_thresholds", by_threshold)):
            rows_written.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
        write_json(folder / CONTENT_NAME, content)
    chosen = {f"cascade/{name}": value for name, value in settings.to_json().items() if name in CHOSEN}
    write_json(out_metrics, {**measure_validation(table), **chosen})


def check_networks(networks: dict[str, Path], digests: dict[str, str]) -> None:
    """Refuse networks of another role, fold or data: they may have learned from the patients they are judged by.

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
        role = name.split("/")[0].removesuffix("s")
        if config.get("role") != role:
            faults.append(
                f"{name} is a {config.get('role')}; must be a {role}. Name what train_{role} wrote in --{role}."
            )
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
        marked = rows.assign(is_scored=is_validation, fold=config["fold"])
        for scoring in (classifier, segmenter):
            scoring.network.to(device)
        members.append(Member(classifier, segmenter, marked[marked["patient_id"].isin(patients)], config["fold"]))
    return members


def score_validation(params: AssembleCascadeParams, members: list[Member], slices: Path) -> ValidationScores:
    """Return what each fold's networks say of its own validation patients, every volume read and predicted once."""
    parts = []
    for member in members:
        cascade = Cascade([member.classifier], [member.segmenter], start_settings(params))
        total, title = member.rows["patient_id"].nunique(), f"validation patients, fold {member.fold}"
        for rows, volume in tqdm(iterate_volumes(slices, member.rows), total=total, desc=title, disable=None):
            parts.append(score_volume(cascade, rows, volume, params.mask_thresholds))
    table = pd.concat([part.slices for part in parts], ignore_index=True)
    return ValidationScores(table, *(np.concatenate([getattr(p, name) for p in parts]) for name in ("px", "hit_px")))


def tabulate_slices(
    params: AssembleCascadeParams, scores: ValidationScores, settings: dict[int, CascadeSettings]
) -> pd.DataFrame:
    """Return the scored slices with the masks and the decision of the cascade that is judged by their patients.

    Args:
        params: The stage's section.
        scores: Of all folds.
        settings: Fold -> settings under which its patients are judged.
    """
    tables = []
    for fold, chosen in settings.items():
        part = scores.select(scores.slices["fold"].to_numpy() == fold)
        slices = part.count_masks(params.mask_thresholds.index(chosen.mask_threshold))
        tables.append(decide_table(slices, chosen))
    table = pd.concat(tables, ignore_index=True)
    return table[table["is_scored"]].drop(columns="is_scored").reset_index(drop=True)


def measure_validation(slices: pd.DataFrame) -> dict[str, float]:
    """Return the metrics of a table of `tabulate_slices`."""
    labels, is_positive = slices["has_tumor"].to_numpy(bool), slices["is_positive"].to_numpy(bool)
    masks = KeptMasks.from_table(slices)
    dice = {"segmenter": masks.measure_dice(np.ones_like(labels)), "cascade": masks.measure_dice(is_positive)}
    return {
        "classifier/val_auroc": float(roc_auc_score(labels, slices["classifier_logit"])),
        "classifier/val_brier": float(brier_score_loss(labels, expit(slices["classifier_logit"]))),
        "segmenter/val_auroc": float(roc_auc_score(labels, slices["segmenter_score"])),
        "cascade/val_auroc": float(roc_auc_score(labels, slices["probability"])),
        "cascade/val_brier": float(brier_score_loss(labels, slices["probability"])),
        "cascade/val_sensitivity": float(is_positive[labels].mean()),
        "cascade/val_specificity": float(1 - is_positive[~labels].mean()),
        "cascade/val_segmented_share": float(slices["gate_is_open"].mean()),
        **{f"{model}/val_volume_dice": float(np.nanmean(values)) for model, values in dice.items()},
    }


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
