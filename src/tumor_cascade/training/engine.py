"""Fitting a network with Lightning so that a kill at any moment costs at most an epoch and changes no weight."""

import logging
import math
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import EMAWeightAveraging, ModelCheckpoint, TQDMProgressBar
from torch import Tensor

from tumor_cascade.errors import ParamsError
from tumor_cascade.settings import choose_device, get_num_nodes, get_num_processes, get_num_threads
from tumor_cascade.training.checkpoints import CHECKPOINT_NAME, AtomicCheckpointIO, read_checkpoint
from tumor_cascade.training.modules import TrainingModule
from tumor_cascade.training.progress import ProgressLog

MODES = {"loss": "min", "auroc": "max", "dice": "max"}


@dataclass(frozen=True)
class FitResult:
    """What a finished training leaves.

    Attributes:
        weights: State dict of the network at its best validation epoch, on the CPU.
        history: One row of metrics per epoch.
        best_epoch: Number of the epoch that `weights` are from, from 0.
    """

    weights: dict[str, Tensor]
    history: list[dict[str, float]]
    best_epoch: int


class EpochRecorder(Callback):
    """Keeps the history and the best weights, inside the one checkpoint file, and stops early.

    A best checkpoint in a file of its own would need two files to change at once; see docs/adr. Lightning's own early
    stopping counts in float32 and forgets why it stopped, so a restart could disagree with it and train on.
    """

    def __init__(self, monitor: str, max_epochs: int, patience: int, progress: ProgressLog) -> None:
        self.monitor, self.sign = f"val_{monitor}", -1.0 if MODES[monitor] == "min" else 1.0
        self.max_epochs, self.patience, self.progress = max_epochs, patience, progress
        self.history: list[dict[str, float]] = []
        self.weights: dict[str, Tensor] = {}
        self.best_epoch = -1

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the time."""
        self.progress.start_epoch()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the epoch; keep the weights (averaged ones, where they are) if it is the best so far."""
        assert isinstance(pl_module, TrainingModule)
        metrics = pl_module.summarize_validation()
        pl_module.log_dict(metrics, prog_bar=True)
        if self.best_epoch < 0 or self._is_better(metrics):
            self.best_epoch = trainer.current_epoch
            network = pl_module.network.state_dict()
            self.weights = {name: value.detach().cpu().clone() for name, value in network.items()}
        self.history.append({"epoch": trainer.current_epoch, **metrics})

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Complete the epoch's row with its training metrics; stop where the training is finished."""
        assert isinstance(pl_module, TrainingModule)
        self.history[-1] = {**self.history[-1], **pl_module.summarize_training()}
        # One decision for all processes, whatever each has measured: none may train on alone.
        is_over = trainer.strategy.reduce_boolean_decision(self.is_finished(), all=False)
        trainer.should_stop = trainer.should_stop or is_over
        if not trainer.is_global_zero:
            return
        num_images = int(trainer.num_training_batches) * pl_module.params.batch_size + len(pl_module.val_index)
        self.progress.end_epoch(self.history[-1], num_images, pl_module.device)
        if trainer.progress_bar_callback is None:
            row = " ".join(f"{name} {value:.4f}" for name, value in sorted(self.history[-1].items()) if name != "epoch")
            click.echo(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}: {row}", err=True)

    def _is_better(self, metrics: dict[str, float]) -> bool:
        return self.sign * metrics[self.monitor] > self.sign * self.history[self.best_epoch][self.monitor]

    def is_finished(self) -> bool:
        """Say whether the training ended: by its length, by early stopping, or because it diverged."""
        num_epochs = len(self.history)
        has_diverged = num_epochs > 0 and not is_finite(self.history[-1])
        return num_epochs >= self.max_epochs or num_epochs - 1 - self.best_epoch >= self.patience or has_diverged

    def state_dict(self) -> dict[str, Any]:
        """Return what the checkpoint keeps of this callback."""
        return {"history": self.history, "weights": self.weights, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up where a checkpoint stands."""
        self.history, self.weights = list(state_dict["history"]), dict(state_dict["weights"])
        self.best_epoch = state_dict["best_epoch"]


def is_finite(metrics: dict[str, float]) -> bool:
    """Say whether all of an epoch's metrics are numbers."""
    return all(math.isfinite(value) for value in metrics.values())


def fit(module: TrainingModule, checkpoint_path: Path, facts: dict[str, Any]) -> FitResult:
    """Train to the end, from the checkpoint where one stands, and return the best weights.

    Args:
        module: Network, data and params of the training.
        checkpoint_path: File that is written after each epoch; the caller holds its lock.
        facts: Who trains what, for the log beside the checkpoint.

    Raises:
        ParamsError: The training diverged before it had any weights worth keeping.
    """
    params = module.params
    progress = ProgressLog(checkpoint_path.parent)
    recorder = EpochRecorder(params.monitor, params.max_epochs, params.early_stopping_patience, progress)
    saved = read_checkpoint(checkpoint_path)
    if saved is not None:
        recorder.load_state_dict(saved["callbacks"][recorder.state_key])
    if not recorder.is_finished():
        trainer = build_trainer(module, recorder, checkpoint_path.parent)
        if trainer.is_global_zero:
            progress.start(facts)
        trainer.fit(module, ckpt_path=checkpoint_path if saved is not None else None, weights_only=True)
    best = recorder.history[recorder.best_epoch]
    if not is_finite(best):
        shown = ", ".join(f"{name} {value:g}" for name, value in sorted(best.items()))
        raise ParamsError(
            f"the training diverged at once ({shown}); every metric must be a number. Lower learning_rate, set "
            "gradient_clip_norm, or raise input_size_px if tumors vanish at this size."
        )
    return FitResult(recorder.weights, recorder.history, recorder.best_epoch)


def build_trainer(module: TrainingModule, recorder: EpochRecorder, checkpoint_dir: Path) -> Trainer:
    """Return the Lightning trainer of a stage: one checkpoint per epoch, early stopping, deterministic.

    Raises:
        ParamsError: A batch, or the loss over it, cannot be shared out over the processes.
    """
    params = module.params
    num_processes, num_nodes, num_threads = get_num_processes(), get_num_nodes(), get_num_threads()
    if params.batch_size % (num_processes * num_nodes):
        raise ParamsError(
            f"batch_size is {params.batch_size}; must be a multiple of the {num_processes * num_nodes} processes that "
            "share it (TUMOR_CASCADE_NUM_PROCESSES x TUMOR_CASCADE_NUM_NODES). Change one of them."
        )
    if num_processes * num_nodes > 1 and getattr(params, "reduction", "per_image") == "per_batch":
        raise ParamsError(
            "train_segmenter.reduction is per_batch; must be per_image where processes share a batch: each would "
            "measure its own part alone. Change it, or train in one process."
        )
    accelerator = "gpu" if choose_device() == "cuda" else "cpu"
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    callbacks: list[Callback] = [
        recorder,  # before the averaging, which swaps the averaged weights out again after validation
        # On the network's own device: left to itself, the callback finds the network where it was before it moved.
        *([EMAWeightAveraging(choose_device(), decay=params.ema_decay)] if params.ema_decay > 0 else []),
        ModelCheckpoint(
            checkpoint_dir, CHECKPOINT_NAME, save_top_k=1, save_on_train_epoch_end=True, enable_version_counter=False
        ),
        *([TQDMProgressBar()] if sys.stderr.isatty() else []),  # elsewhere a line per epoch reads better
    ]
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in (".*does not have many workers.*", ".*exists and is not empty.*", ".*LeafSpec.*"):
        warnings.filterwarnings("ignore", message=message)
    return Trainer(
        accelerator=accelerator,
        devices=num_processes,
        num_nodes=num_nodes,
        strategy="ddp" if num_processes * num_nodes > 1 else "auto",
        sync_batchnorm=accelerator != "cpu" and num_processes * num_nodes > 1,
        precision=params.precision,
        max_epochs=params.max_epochs,
        gradient_clip_val=params.gradient_clip_norm or None,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        default_root_dir=checkpoint_dir,
        deterministic=True,
        logger=False,
        enable_model_summary=False,
        enable_progress_bar=sys.stderr.isatty(),
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
