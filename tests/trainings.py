"""A made-up cohort that can be learned in seconds, and trainings of it in processes of their own that may be killed."""

import hashlib
import os
import random
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save
from torch import Tensor, nn

from manifests import make_manifest
from processes import FORKSERVER
from tumor_cascade.data.cohort import CohortTensors
from tumor_cascade.data.manifest import write_manifest
from tumor_cascade.data.split import write_splits
from tumor_cascade.data.volumes import Volume, hash_pixels, write_volume
from tumor_cascade.models.resunet import ResUNet
from tumor_cascade.params import TrainClassifierParams, TrainSegmenterParams
from tumor_cascade.stages.train_classifier import train_classifier
from tumor_cascade.stages.train_segmenter import train_segmenter
from tumor_cascade.training.checkpoints import lock_checkpoints
from tumor_cascade.training.classification import ClassifierTraining
from tumor_cascade.training.engine import FitResult, fit
from tumor_cascade.training.modules import TrainingModule
from tumor_cascade.training.segmentation import SegmenterTraining

SIZE_PX = 32
NUM_SLICES = 8  # of a patient; positions 3 to 5 show tumor, as in `make_manifest`

AUGMENTATION = {
    "flip_probability": 0.5,
    "max_rotation_deg": 10.0,
    "max_scale_change": 0.1,
    "max_gain_change": 0.1,
    "max_gamma_change": 0.1,
    "noise_std": 0.02,
    "sequence_drop_probability": 0.1,
}
COMMON: dict[str, Any] = {
    "input_size_px": SIZE_PX,
    "normalization": "unit_range",
    "has_neighbor_slices": False,
    "positive_oversampling": 1.5,
    "batch_size": 8,
    "max_epochs": 3,
    "early_stopping_patience": 3,
    "optimizer": "adamw",
    "learning_rate": 0.01,
    "adam_epsilon": 1e-8,
    "weight_decay": 1e-4,
    "lr_schedule": "constant",
    "ema_decay": 0.0,
    "gradient_clip_norm": 1.0,
    "precision": "32-true",
    "augmentation": AUGMENTATION,
    "seed": 1,
}
CLASSIFIER = {
    **COMMON,
    "network": "resnet18",
    "initialization": "none",
    "head": "linear",
    "dropout": 0.1,
    "monitor": "auroc",
}
SEGMENTER = {
    **COMMON,
    "encoder": "residual",
    "initialization": "none",
    "widths": [8, 16, 32],
    "training_slices": "all",
    "loss": "tversky",
    "fp_weight": 0.5,
    "fn_weight": 0.5,
    "focal_exponent": 0.75,
    "smoothing": 1.0,
    "reduction": "per_image",
    "learning_rate": 0.02,
    "cross_entropy_weight": 0.0,
    "slice_head_weight": 0.0,
    "deep_supervision_weight": 0.0,
    "monitor": "dice",
}


def make_classifier_params(**changes: Any) -> TrainClassifierParams:
    return TrainClassifierParams(**{**CLASSIFIER, **changes})


def make_segmenter_params(**changes: Any) -> TrainSegmenterParams:
    return TrainSegmenterParams(**{**SEGMENTER, **changes})


class SmallClassifier(nn.Module):
    """A classifier with all that can go wrong in a resume: batch norm, dropout, a last linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU()
        )
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(16, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.layers(images).amax((2, 3))).squeeze(1)


def draw_slices(num: int, has_tumor: list[bool], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return uint8 images `(num, 3, 32, 32)`, a grey disc each, and masks: a bright square in FLAIR where tumor is."""
    rng = np.random.default_rng(seed)
    rows = np.arange(SIZE_PX)
    head = (rows[:, None] - 15.5) ** 2 + (rows[None] - 15.5) ** 2 < 14**2
    images = np.where(head, rng.integers(60, 120, (num, 3, SIZE_PX, SIZE_PX)), 0)
    masks = np.zeros((num, SIZE_PX, SIZE_PX), dtype=np.uint8)
    for index in np.flatnonzero(has_tumor):
        top, left = rng.integers(8, 17, 2)
        masks[index, top : top + 7, left : left + 7] = 1
        images[index, 1] += 100 * masks[index]
    return images.astype(np.uint8), masks


def make_cohort(num_patients: int = 8, seed: int = 0) -> tuple[CohortTensors, Tensor, Tensor]:
    """Return a cohort and its training and validation slices: the last quarter of the patients validates."""
    has_tumor = [3 <= position <= 5 for position in range(NUM_SLICES)] * num_patients
    images, masks = draw_slices(len(has_tumor), has_tumor, seed)
    patient = torch.arange(num_patients).repeat_interleave(NUM_SLICES)
    cohort = CohortTensors(
        images=torch.from_numpy(images).float() / 255,
        masks=torch.from_numpy(masks)[:, None].bool(),
        has_tumor=torch.tensor(has_tumor),
        position=torch.arange(NUM_SLICES).repeat(num_patients),
        num_slices=torch.full((len(has_tumor),), NUM_SLICES),
        patient=patient,
        has_neighbor_slices=False,
    )
    is_training = patient < num_patients * 3 // 4
    return cohort, torch.nonzero(is_training).flatten(), torch.nonzero(~is_training).flatten()


def write_artifacts(folder: Path, num_patients: int = 10, num_folds: int = 2, seed: int = 0) -> dict[str, Path]:
    """Write slices, manifest and splits of such patients: the last two test, the others are dealt to folds in turn."""
    rows = make_manifest(num_patients, NUM_SLICES).assign(height_px=SIZE_PX, width_px=SIZE_PX)
    slices = folder / "slices"
    slices.mkdir(parents=True)
    parts = []
    for number, (patient_id, patient_rows) in enumerate(rows.groupby("patient_id")):
        images, masks = draw_slices(NUM_SLICES, patient_rows["has_tumor"].tolist(), seed + number)
        write_volume(slices, Volume(str(patient_id), images, masks))
        facts = {
            "tumor_area_px": masks.sum((1, 2)),
            "image_sha256": [hash_pixels(image) for image in images],
            "mask_sha256": [hash_pixels(mask) for mask in masks],
        }
        parts.append(patient_rows.assign(**facts))
    rows = pd.concat(parts, ignore_index=True)
    write_manifest(rows, folder / "manifest.parquet")
    (folder / "splits").mkdir()
    write_splits(folder / "splits", deal(rows, num_folds), {"protocol": "patient_level", "is_leaky": False})
    return {noun: folder / name for noun, name in NAMES.items()}


NAMES = {"slices": "slices", "manifest": "manifest.parquet", "splits": "splits"}


def deal(rows: pd.DataFrame, num_folds: int) -> pd.DataFrame:
    """Return a splits table for manifest rows."""
    number = rows["patient_id"].astype("category").cat.codes
    is_test = number >= number.max() - 1
    splits = rows[["patient_id", "slice_index"]].assign(partition="development", fold=number % num_folds)
    splits.loc[is_test, ["partition", "fold"]] = ["test", -1]
    return splits


@dataclass(frozen=True)
class TrainedFolds:
    """Artifacts of a made-up cohort and the networks of its two folds."""

    data: dict[str, Path]
    classifier: Path
    segmenter: Path


def list_outputs(folder: Path, noun: str) -> dict[str, Path]:
    """Return a training's output paths under a folder, as its stage function names them."""
    return {f"out_{noun}": folder / noun, "out_report": folder / "report", "out_metrics": folder / "metrics.json"}


def train_folds(folder: Path) -> TrainedFolds:
    """Train both networks of both folds, for a moment each."""
    data = write_artifacts(folder)
    classifier_params = make_classifier_params(max_epochs=1, learning_rate=1e-3)
    for fold in (0, 1):
        outputs = list_outputs(folder / "train_classifier" / f"fold-{fold}", "classifier")
        train_classifier(classifier_params, fold=fold, **data, **outputs)
        outputs = list_outputs(folder / "train_segmenter" / f"fold-{fold}", "segmenter")
        train_segmenter(make_segmenter_params(max_epochs=4), fold=fold, **data, **outputs)
    return TrainedFolds(data, folder / "train_classifier", folder / "train_segmenter")


class KilledSegmenter(SegmenterTraining):
    """The segmenter's training, in a process that is killed in the middle of a step."""

    kill_step = -1
    num_steps = 0

    def training_step(self, index: Tensor, batch_idx: int) -> Tensor:
        loss = super().training_step(index, batch_idx)
        self.num_steps += 1
        if self.num_steps == self.kill_step:
            os.kill(os.getpid(), signal.SIGKILL)
        return loss


class KilledClassifier(ClassifierTraining):
    """The classifier's training, in a process that is killed in the middle of a validation."""

    kill_step = -1
    num_steps = 0

    def validation_step(self, index: Tensor, batch_idx: int) -> None:
        super().validation_step(index, batch_idx)
        self.num_steps += 1
        if self.num_steps == self.kill_step:
            os.kill(os.getpid(), signal.SIGKILL)


def make_module(role: str, changes: dict[str, Any], cohort_seed: int = 0) -> TrainingModule:
    """Return a fresh training of the made-up cohort, from its seeded start."""
    cohort, train_index, val_index = make_cohort(seed=cohort_seed)
    torch.manual_seed(1)
    if role == "segmenter":
        params = make_segmenter_params(**changes)
        network = ResUNet(
            3, params.widths, params.encoder, params.slice_head_weight > 0, params.deep_supervision_weight > 0
        )
        return KilledSegmenter(network, params, cohort, train_index, val_index)
    return KilledClassifier(SmallClassifier(), make_classifier_params(**changes), cohort, train_index, val_index)


def hash_result(result: FitResult) -> str:
    """Return one digest of weights, history and best epoch."""
    weights = save({name: value.contiguous() for name, value in result.weights.items()})
    return hashlib.sha256(weights + repr((result.history, result.best_epoch)).encode()).hexdigest()


def train(role: str, changes: dict[str, Any], checkpoint_dir: Path, kill_step: int, connection: Any) -> None:
    """Train under the lock and send the digest of the result; dies at the step asked for, counted in this process."""
    os.environ.update({"TUMOR_CASCADE_NUM_THREADS": "1", "TUMOR_CASCADE_DEVICE": "cpu"})
    module = make_module(role, changes)
    module.kill_step = kill_step  # type: ignore[assignment]
    with lock_checkpoints(checkpoint_dir) as checkpoint:
        result = fit(module, checkpoint, {})
    connection.send((hash_result(result), result.history))


def run_training(
    role: str, changes: dict[str, Any], checkpoint_dir: Path, kill_step: int = -1
) -> tuple[str, list[dict[str, float]]] | None:
    """Train in a process of its own; return digest and history, or None where it was killed."""
    receiver, sender = FORKSERVER.Pipe(duplex=False)
    process = FORKSERVER.Process(target=train, args=(role, changes, checkpoint_dir, kill_step, sender), daemon=True)
    process.start()
    sender.close()
    process.join()
    if process.exitcode == -signal.SIGKILL:
        return None
    assert process.exitcode == 0
    digest, history = receiver.recv()
    return digest, history


def choose_kill_steps(num_kills: int, low: int, high: int) -> list[int]:
    """Return steps to kill at, printed with the seed that gives them again (TEST_KILL_SEED)."""
    seed = int(os.environ.get("TEST_KILL_SEED", random.SystemRandom().randrange(10**6)))
    steps = [random.Random(seed + i).randint(low, high) for i in range(num_kills)]
    print(f"TEST_KILL_SEED={seed}: killed in training at steps {steps}, counted from each start")
    return steps
