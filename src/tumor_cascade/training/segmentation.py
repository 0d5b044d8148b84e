"""The segmenter's training: the Tversky loss on masks."""

import torch
from torch import Tensor, nn

from tumor_cascade.data.cohort import CohortTensors
from tumor_cascade.params import TrainSegmenterParams
from tumor_cascade.training.losses import TverskyLoss
from tumor_cascade.training.modules import TrainingModule


class SegmenterTraining(TrainingModule):
    """The Tversky loss on masks."""

    params: TrainSegmenterParams

    def __init__(
        self,
        network: nn.Module,
        params: TrainSegmenterParams,
        cohort: CohortTensors,
        train_index: Tensor,
        val_index: Tensor,
    ) -> None:
        super().__init__(network, params, cohort, train_index, val_index)
        self.loss = TverskyLoss(
            fp_weight=params.fp_weight,
            fn_weight=params.fn_weight,
            focal_exponent=params.focal_exponent if params.loss == "focal_tversky" else 1.0,
            smoothing=params.smoothing,
            reduction=params.reduction,
            cross_entropy_weight=params.cross_entropy_weight,
        )

    def training_step(self, index: Tensor, batch_idx: int) -> Tensor:
        """Return the loss of a batch of slices."""
        images, masks = self.gather_augmented(index, batch_idx)
        logits = self.network(images)
        loss: Tensor = self.loss(logits, masks)
        self.train_outputs.append(torch.cat([loss.detach()[None], count_overlap(logits, masks).sum(0)]))
        return loss

    def validation_step(self, index: Tensor, batch_idx: int) -> None:
        """Keep loss and overlap counts of a batch, with the patients that its slices belong to."""
        images, masks = self.gather(index)
        logits = self.network(images.contiguous(memory_format=torch.channels_last))
        patients = self.cohort.patient[index.to(self.cohort.patient.device)].cpu()
        loss = self.loss(logits, masks).cpu() * len(index)
        self.val_outputs.append((loss, len(index), patients, count_overlap(logits, masks).cpu()))

    def summarize_training(self) -> dict[str, float]:
        """Return mean loss and pooled Dice over the epoch's augmented batches."""
        outputs = torch.stack(self.train_outputs)
        self.train_outputs.clear()
        both, predicted, truth = outputs[:, 1:].sum(0).tolist()
        return {"train_loss": float(outputs[:, 0].mean()), "train_dice": 2 * both / max(predicted + truth, 1.0)}

    def summarize_validation(self) -> dict[str, float]:
        """Return loss, and volume Dice at the network's own size, mean over validation patients with tumor."""
        losses, sizes, patients, counts = zip(*self.val_outputs, strict=True)
        self.val_outputs.clear()
        num_patients = int(self.cohort.patient.max()) + 1
        totals = torch.zeros(num_patients, 3).index_add_(0, torch.cat(patients), torch.cat(counts))
        both, predicted, truth = totals[totals[:, 2] > 0].unbind(1)
        return {
            "val_loss": float(torch.stack(losses).sum()) / sum(sizes),
            "val_dice": float((2 * both / (predicted + truth)).mean()),
        }


def count_overlap(logits: Tensor, masks: Tensor) -> Tensor:
    """Return float `(N, 3)`: pixels in both, predicted, true, of logits and masks `(N, 1, H, W)`."""
    predicted = (logits.detach() > 0).float()
    return torch.stack([(predicted * masks).sum((1, 2, 3)), predicted.sum((1, 2, 3)), masks.sum((1, 2, 3))], dim=1)
