import pytest
import torch

from trainings import make_module
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
