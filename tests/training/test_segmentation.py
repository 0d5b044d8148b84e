import pytest
import torch
from pytorch_lightning import Trainer
from sklearn.metrics import roc_auc_score
from torch.nn import functional

from trainings import AUGMENTATION, make_module
from tumor_cascade.models.resunet import TrainingOutputs
from tumor_cascade.training.segmentation import count_overlap


def test_count_overlap__literal() -> None:
    # Found are logits above 0, not at it.
    logits = torch.tensor([[[[3.0, 0.1], [0.0, -2.0]]], [[[-1.0, -1.0], [-1.0, -1.0]]]])
    masks = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]], [[[0.0, 0.0], [0.0, 1.0]]]])
    assert count_overlap(logits, masks).tolist() == [[1, 2, 2], [0, 0, 1]]


def test_summarize_validation__dice_is_the_mean_over_patients_with_tumor() -> None:
    module = make_module("segmenter", {})
    # Slices of patients 0, 0 and 1, then one of patient 2, who has no tumor: pixels in both, found, true.
    counts = torch.tensor([[10.0, 20, 10], [30, 40, 30], [0, 0, 10]])
    module.val_outputs.append((torch.tensor(3 * 0.5), 3, torch.tensor([0, 0, 1]), counts))
    module.val_outputs.append((torch.tensor(1 * 0.9), 1, torch.tensor([2]), torch.tensor([[0.0, 7, 0]])))
    # Patient 0: 2 * 40 / (60 + 40) = 0.8; patient 1: 0; patient 2 does not count. Pooled it would be 0.66.
    metrics = module.summarize_validation()
    assert metrics["val_dice"] == pytest.approx(0.4)
    assert metrics["val_loss"] == pytest.approx((3 * 0.5 + 0.9) / 4)  # mean over slices
    assert module.val_outputs == []


def test_summarize_training__dice_is_pooled() -> None:
    module = make_module("segmenter", {})
    module.train_outputs += [torch.tensor([0.5, 10.0, 20, 10]), torch.tensor([0.7, 0.0, 0, 10])]
    assert module.summarize_training() == pytest.approx({"train_loss": 0.6, "train_dice": 0.5})
    module.train_outputs.append(torch.zeros(4))  # nothing true, nothing found
    assert module.summarize_training()["train_dice"] == 0


def test_training__focal_exponent_belongs_to_the_focal_loss() -> None:
    plain, focal = (make_module("segmenter", {"loss": kind}).loss for kind in ("tversky", "focal_tversky"))
    assert (plain.focal_exponent, focal.focal_exponent) == (1.0, 0.75)
    weights = make_module("segmenter", {"fp_weight": 0.3, "fn_weight": 0.7}).loss
    assert (weights.fp_weight, weights.fn_weight) == (0.3, 0.7)


def compute_step_loss(**changes: float) -> tuple[float, TrainingOutputs, torch.Tensor]:
    """Return the loss of the made-up cohort's first batch with what it is made of: outputs and masks."""
    module = make_module("segmenter", {"augmentation": dict.fromkeys(AUGMENTATION, 0.0), **changes})
    module.trainer = Trainer(logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu")
    index = torch.arange(8)  # one patient: slices 3 to 5 show tumor
    loss = module.training_step(index, 0)
    images, masks = module.gather(index)
    return loss.item(), make_module("segmenter", changes).network.forward_training(images), masks


def test_training_step__adds_weighted_losses_of_slices_and_coarser_masks() -> None:
    loss, outputs, masks = compute_step_loss(slice_head_weight=0.5, deep_supervision_weight=0.25)
    measure = make_module("segmenter", {}).loss
    labels = torch.tensor([0.0, 0, 0, 1, 1, 1, 0, 0])
    assert outputs.slices is not None and len(outputs.coarse_masks) == 1  # three widths: one coarser level
    slice_loss = functional.binary_cross_entropy_with_logits(outputs.slices, labels)
    expected = measure(outputs.masks, masks) + 0.5 * slice_loss + 0.25 * measure(outputs.coarse_masks[0], masks)
    assert loss == pytest.approx(float(expected), rel=1e-5)


def test_training_step__without_further_losses_it_is_that_of_the_masks() -> None:
    loss, outputs, masks = compute_step_loss()
    assert loss == pytest.approx(float(make_module("segmenter", {}).loss(outputs.masks, masks)), rel=1e-5)


def test_validation_step__loss_holds_the_slice_head_but_no_coarser_masks() -> None:
    module = make_module("segmenter", {"slice_head_weight": 0.5, "deep_supervision_weight": 0.25}).eval()
    index = torch.arange(16)  # two patients
    with torch.inference_mode():
        for batch in index.split(10):
            module.validation_step(batch, 0)
        images, masks = module.gather(index)
        logits, slice_logits = module.network.forward_slices(images)
        labels = module.get_labels(index)
        slice_loss = functional.binary_cross_entropy_with_logits(slice_logits, labels)
        expected = module.loss(logits, masks) + 0.5 * slice_loss
    metrics = module.summarize_validation()
    assert metrics["val_loss"] == pytest.approx(float(expected), rel=1e-5)
    assert metrics["val_slice_auroc"] == pytest.approx(roc_auc_score(labels, slice_logits))
    assert set(metrics) == {"val_loss", "val_dice", "val_slice_auroc"} and module.val_slices == []
