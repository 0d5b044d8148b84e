"""Self-supervision: an encoder that has learned to restore hidden parts of training patients' slices, without labels.

Source: image restoration as a proxy task for medical images, Zhou et al. 2019 (https://arxiv.org/abs/1908.06912).
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tumor_cascade.content import describe_content
from tumor_cascade.data.cohort import read_cohort, read_rows
from tumor_cascade.data.preprocessing import FLAIR, Preprocessing
from tumor_cascade.models.resunet import ResUNet
from tumor_cascade.network_folder import write_network
from tumor_cascade.params import TrainSegmenterParams
from tumor_cascade.settings import get_checkpoints_dir
from tumor_cascade.storage import atomic_dir
from tumor_cascade.training.checkpoints import is_main_process, lock_checkpoints
from tumor_cascade.training.engine import fit
from tumor_cascade.training.initialization import ENCODER_PREFIXES
from tumor_cascade.training.modules import TrainingModule
from tumor_cascade.training.sampling import derive_seed
from tumor_cascade.training.session import describe_patients, select_fold, select_patients

STAGE = "pretrain_encoder"
NUM_BOXES = 6
BOX_SHARE = 0.25  # of the image's side


class RestorationTraining(TrainingModule):
    """Mean absolute error of FLAIR restored from a slice of whose channels the same boxes are hidden."""

    params: TrainSegmenterParams

    def training_step(self, index: Tensor, batch_idx: int) -> Tensor:
        """Return the loss of a batch of slices."""
        images, _ = self.gather_augmented(index, batch_idx)
        loss = self._measure_loss(images)
        self.train_outputs.append(loss.detach())
        return loss

    def validation_step(self, index: Tensor, batch_idx: int) -> None:
        """Keep the loss of a batch, with boxes that are the same in every epoch."""
        images, _ = self.gather(index)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.params.seed, 0, batch_idx, 0))
            self.val_outputs.append((self._measure_loss(images).cpu() * len(index), len(index)))

    def _measure_loss(self, images: Tensor) -> Tensor:
        logits = self.network(hide_boxes(images).contiguous(memory_format=torch.channels_last)).float()
        loss: Tensor = (logits.sigmoid() - images[:, FLAIR : FLAIR + 1].clamp(0, 1)).abs().mean()
        return loss

    def summarize_training(self) -> dict[str, float]:
        """Return the mean loss over the epoch's augmented batches."""
        loss = float(torch.stack(self.train_outputs).mean())
        self.train_outputs.clear()
        return {"train_loss": loss}

    def summarize_validation(self) -> dict[str, float]:
        """Return the mean loss over the validation slices."""
        losses, sizes = zip(*self.val_outputs, strict=True)
        self.val_outputs.clear()
        return {"val_loss": float(torch.stack(losses).sum()) / sum(sizes)}


def hide_boxes(images: Tensor) -> Tensor:
    """Return images `(N, C, H, W)` with square boxes at random places set to 0, in all channels of an image alike."""
    height, width = images.shape[-2:]
    size = max(1, round(BOX_SHARE * min(height, width)))
    corners = torch.rand(len(images), NUM_BOXES, 2)  # on the CPU: the same on any device
    tops, lefts = ((corners[..., axis] * (side - size + 1)).long() for axis, side in enumerate((height, width)))
    rows, columns = torch.arange(height), torch.arange(width)
    in_rows = (rows >= tops[..., None]) & (rows < tops[..., None] + size)  # (N, B, H)
    in_columns = (columns >= lefts[..., None]) & (columns < lefts[..., None] + size)  # (N, B, W)
    is_hidden = (in_rows[..., :, None] & in_columns[..., None, :]).any(dim=1, keepdim=True)
    return images.masked_fill(is_hidden.to(images.device), 0.0)


def pretrain_encoder(
    params: TrainSegmenterParams, *, fold: int, slices: Path, manifest: Path, splits: Path, out_encoder: Path
) -> None:
    """Train an encoder without labels on all folds but one; write it as a folder that trainings can start from.

    Args:
        params: Of a segmenter with that encoder, to be trained alike; `monitor` is `loss`.
        fold: Validation fold: the best epoch on it wins.
        slices: Folder of packed volumes.
        manifest: `manifest.parquet` of `ingest_data`.
        splits: Output of `split_data`.
        out_encoder: Network folder to write, which holds the encoder alone. Carries on from its own checkpoint.

    Raises:
        DataError: The data do not fit each other.
        ValueError: `params` asks for other than volumes in [0, 1] and the loss as monitor.
    """
    if params.monitor != "loss" or params.normalization == "slice_zscore":
        raise ValueError("restoration is judged by its loss, on images in [0, 1]")
    recipe = {"train_segmenter": params.model_dump(), "fold": fold}
    content = describe_content(__name__, recipe, {"manifest": manifest, "splits": splits})
    rows = select_patients(read_rows(manifest, splits))
    preprocessing = Preprocessing.from_params(params)
    train_index, val_index = select_fold(rows, fold, "all")
    architecture: dict[str, Any] = {
        "in_channels": preprocessing.num_channels,
        "widths": params.widths,
        "encoder": params.encoder,
        "has_slice_head": False,
        "has_deep_supervision": False,
    }
    with lock_checkpoints(get_checkpoints_dir() / STAGE / content["content_id"][:16]) as checkpoint:
        cohort = read_cohort(slices, rows, preprocessing)
        torch.manual_seed(params.seed)
        module = RestorationTraining(ResUNet(**architecture), params, cohort, train_index, val_index)
        result = fit(module, checkpoint, {"stage": STAGE, "fold": fold, "content_id": content["content_id"]})
        if not is_main_process():
            return
        prefix = ENCODER_PREFIXES["segmenter"]
        config = {
            "role": "segmenter",
            "architecture": architecture,
            "preprocessing": asdict(preprocessing),
            "fold": fold,
            "best_epoch": result.best_epoch,
            **describe_patients(rows, train_index, val_index, splits, None),
        }
        encoder = {name: value for name, value in result.weights.items() if name.startswith(prefix)}
        with atomic_dir(out_encoder) as folder:
            write_network(folder, config, encoder, content)
