"""The segmenter's training: the Tversky loss on masks, and what may help it: slice labels, coarser masks."""

import torch
from torch import Tensor
from torch.nn import functional

from tumor_cascade.data.cohort import CohortTensors
from tumor_cascade.models.resunet import ResUNet
from tumor_cascade.params import TrainSegmenterParams
from tumor_cascade.training.losses import TverskyLoss
from tumor_cascade.training.modules import TrainingModule, measure_auroc


class SegmenterTraining(TrainingModule):
    """The Tversky loss on masks, plus weighted losses of the slice head and of coarser decoder levels."""

    network: ResUNet
    params: TrainSegmenterParams

    def __init__(
        self,
        network: ResUNet,
        params: TrainSegmenterParams,
        cohort: CohortTensors,
        train_index: Tensor,
        val_index: Tensor,
    ) -> None:
        super().__init__(network, params, cohort, train_index, val_index)
        self.val_slices: list[Tensor] = []
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
        outputs = self.network.forward_training(images)
        loss = self._measure_loss(outputs.masks, outputs.slices, index, masks)
        if outputs.coarse_masks:
            coarse_losses = [self.loss(logits, masks) for logits in outputs.coarse_masks]
            loss = loss + self.params.deep_supervision_weight * torch.stack(coarse_losses).mean()
        self.train_outputs.append(torch.cat([loss.detach()[None], count_overlap(outputs.masks, masks).sum(0)]))
        return loss

    def validation_step(self, index: Tensor, batch_idx: int) -> None:
        """Keep loss and overlap counts of a batch, with the patients that its slices belong to."""
        images, masks = self.gather(index)
        images = images.contiguous(memory_format=torch.channels_last)
        if self.network.has_slice_head:
            logits, slice_logits = self.network.forward_slices(images)
            self.val_slices.append(torch.stack([slice_logits.float(), self.get_labels(index)]).cpu())
        else:
            logits, slice_logits = self.network(images), None
        patients = self.cohort.patient[index.to(self.cohort.patient.device)].cpu()
        is_judged = self._select_judged(index)
        num = int(is_judged.sum())
        loss = torch.zeros(())
        if num:
            judged_slices = None if slice_logits is None else slice_logits[is_judged]
            loss = self._measure_loss(logits[is_judged], judged_slices, index[is_judged.cpu()], masks[is_judged]).cpu()
        self.val_outputs.append((loss * num, num, patients, count_overlap(logits, masks).cpu()))

    def _select_judged(self, index: Tensor) -> Tensor:
        """Return which slices `(N,)` the validation loss counts: the kind that training sees, as in the study."""
        labels = self.get_labels(index)
        return labels > 0 if self.params.training_slices == "positive" else torch.ones_like(labels, dtype=torch.bool)

    def _measure_loss(self, logits: Tensor, slice_logits: Tensor | None, index: Tensor, masks: Tensor) -> Tensor:
        loss: Tensor = self.loss(logits, masks)
        if slice_logits is None:
            return loss
        slice_loss = functional.binary_cross_entropy_with_logits(slice_logits.float(), self.get_labels(index))
        return loss + self.params.slice_head_weight * slice_loss

    def summarize_training(self) -> dict[str, float]:
        """Return mean loss and pooled Dice over the epoch's augmented batches."""
        outputs = torch.stack(self.train_outputs)
        self.train_outputs.clear()
        both, predicted, truth = outputs[:, 1:].sum(0).tolist()
        return {"train_loss": float(outputs[:, 0].mean()), "train_dice": 2 * both / max(predicted + truth, 1.0)}

    def summarize_validation(self) -> dict[str, float]:
        """Return loss, volume Dice at the network's own size, mean over validation patients with tumor; slice AUROC."""
        losses, sizes, patients, counts = zip(*self.val_outputs, strict=True)
        self.val_outputs.clear()
        num_patients = int(self.cohort.patient.max()) + 1
        totals = torch.zeros(num_patients, 3).index_add_(0, torch.cat(patients), torch.cat(counts))
        both, predicted, truth = totals[totals[:, 2] > 0].unbind(1)
        metrics = {
            "val_loss": float(torch.stack(losses).sum()) / sum(sizes),
            "val_dice": float((2 * both / (predicted + truth)).mean()),
        }
        if self.val_slices:
            metrics["val_slice_auroc"] = measure_auroc(*torch.cat(self.val_slices, dim=1))
            self.val_slices.clear()
        return metrics


def count_overlap(logits: Tensor, masks: Tensor) -> Tensor:
    """Return float `(N, 3)`: pixels in both, predicted, true, of logits and masks `(N, 1, H, W)`."""
    predicted = (logits.detach() > 0).float()
    return torch.stack([(predicted * masks).sum((1, 2, 3)), predicted.sum((1, 2, 3)), masks.sum((1, 2, 3))], dim=1)
