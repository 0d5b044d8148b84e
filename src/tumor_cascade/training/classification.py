"""The classifier's training: binary cross-entropy on tumor against no tumor."""

import torch
from torch import Tensor
from torch.nn import functional

from tumor_cascade.params import TrainClassifierParams
from tumor_cascade.training.modules import TrainingModule, measure_auroc


class ClassifierTraining(TrainingModule):
    """Binary cross-entropy on tumor against no tumor."""

    params: TrainClassifierParams

    def training_step(self, index: Tensor, batch_idx: int) -> Tensor:
        """Return the loss of a batch of slices."""
        images, _ = self.gather_augmented(index, batch_idx)
        labels = self.get_labels(index)
        logits = self.network(images).float()
        loss = functional.binary_cross_entropy_with_logits(logits, labels)
        is_correct = (logits > 0) == (labels > 0)
        self.train_outputs.append(torch.stack([loss.detach(), is_correct.float().mean()]))
        return loss

    def validation_step(self, index: Tensor, batch_idx: int) -> None:
        """Keep logits and labels of a batch."""
        images, _ = self.gather(index)
        logits = self.network(images.contiguous(memory_format=torch.channels_last)).float()
        self.val_outputs.append(torch.stack([logits, self.get_labels(index)]).cpu())

    def summarize_training(self) -> dict[str, float]:
        """Return mean loss and accuracy over the epoch's augmented batches."""
        loss, accuracy = torch.stack(self.train_outputs).mean(0).tolist()
        self.train_outputs.clear()
        return {"train_loss": loss, "train_accuracy": accuracy}

    def summarize_validation(self) -> dict[str, float]:
        """Return loss, accuracy and AUROC over the validation slices."""
        logits, labels = torch.cat(self.val_outputs, dim=1)
        self.val_outputs.clear()
        return {
            "val_loss": float(functional.binary_cross_entropy_with_logits(logits, labels)),
            "val_accuracy": float(((logits > 0) == (labels > 0)).float().mean()),
            "val_auroc": measure_auroc(logits, labels),
        }
