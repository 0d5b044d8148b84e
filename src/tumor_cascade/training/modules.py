"""What both trainings share: data on the device, augmentation, optimizer, and seeding that makes a resume exact."""

import math
from typing import Any

import torch
from pytorch_lightning import LightningModule
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tumor_cascade.data.augmentation import augment_batch
from tumor_cascade.data.cohort import CohortTensors
from tumor_cascade.params import TrainingParams
from tumor_cascade.training.sampling import EpochSampler, derive_seed


def measure_auroc(logits: Tensor, labels: Tensor) -> float:
    """Return the AUROC of slice logits `(N,)` against labels {0, 1} `(N,)`; NaN for a diverged network's."""
    return float(roc_auc_score(labels.numpy(), logits.numpy())) if bool(logits.isfinite().all()) else math.nan


class TrainingModule(LightningModule):
    """A Lightning module without its loss.

    Args:
        network: Maps `(N, C, S, S)` to logits.
        params: The stage's section.
        cohort: All slices of the training and validation patients.
        train_index: int64 `(N,)`, slices to train on.
        val_index: int64 `(V,)`, slices to validate on.
    """

    def __init__(
        self, network: nn.Module, params: TrainingParams, cohort: CohortTensors, train_index: Tensor, val_index: Tensor
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.params = params
        self.cohort = cohort
        self.train_index, self.val_index = train_index, val_index
        self.train_outputs: list[Tensor] = []
        self.val_outputs: list[Any] = []

    def on_fit_start(self) -> None:
        """Move the cohort to the GPU where it fits with room to train."""
        if self.device.type == "cuda":
            size = self.cohort.images.nbytes + self.cohort.masks.nbytes
            if size < 0.5 * torch.cuda.mem_get_info(self.device)[0]:
                self.cohort = self.cohort.to(self.device)

    def train_dataloader(self) -> DataLoader[int]:
        """Return batches of slice numbers; the pixels are gathered on the device."""
        has_tumor = self.cohort.has_tumor.cpu()[self.train_index]
        sampler = EpochSampler(
            self.train_index,
            has_tumor,
            self.params.positive_oversampling,
            self.params.seed,
            self.trainer.global_rank,
            self.trainer.world_size,
        )
        batch_size = self.params.batch_size // self.trainer.world_size  # the processes share a batch
        # Batch norm has nothing to normalise by in a last batch of one.
        is_last_dropped = len(sampler) > batch_size
        return DataLoader(
            range(len(self.cohort.has_tumor)),  # type: ignore[arg-type]  # slice numbers are the items
            batch_size=batch_size,
            sampler=sampler,
            drop_last=is_last_dropped,
        )

    def val_dataloader(self) -> DataLoader[int]:
        """Return batches of validation slice numbers, in order."""
        return DataLoader(
            range(len(self.cohort.has_tumor)),  # type: ignore[arg-type]
            batch_size=self.params.batch_size,
            sampler=self.val_index.tolist(),
        )

    def gather(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs and masks of slices, on this module's device."""
        images, masks = self.cohort.gather(index.to(self.cohort.images.device))
        return images.to(self.device), masks.to(self.device)

    def get_labels(self, index: Tensor) -> Tensor:
        """Return float {0, 1} `(N,)`: whether slices show tumor, on this module's device."""
        return self.cohort.has_tumor[index.to(self.cohort.has_tumor.device)].float().to(self.device)

    def gather_augmented(self, index: Tensor, batch_idx: int) -> tuple[Tensor, Tensor]:
        """Return an augmented training batch; all randomness of the step follows from (seed, epoch, step, rank)."""
        torch.manual_seed(derive_seed(self.params.seed, self.current_epoch, batch_idx, self.global_rank))
        images, masks = augment_batch(*self.gather(index), self.params.augmentation)
        return images.contiguous(memory_format=torch.channels_last), masks

    def configure_optimizers(self) -> Any:
        """Return Adam or AdamW, with a cosine to zero over all steps where asked for."""
        params = self.params
        kind = torch.optim.AdamW if params.optimizer == "adamw" else torch.optim.Adam
        optimizer = kind(
            self.network.parameters(), params.learning_rate, eps=params.adam_epsilon, weight_decay=params.weight_decay
        )
        if params.lr_schedule == "constant":
            return optimizer
        # Per step: Lightning saves an epoch's checkpoint before it steps an epoch's schedule.
        num_steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(num_steps, 1))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def summarize_training(self) -> dict[str, float]:
        """Return the epoch's training metrics and forget its outputs."""
        raise NotImplementedError

    def summarize_validation(self) -> dict[str, float]:
        """Return the epoch's validation metrics and forget its outputs."""
        raise NotImplementedError
