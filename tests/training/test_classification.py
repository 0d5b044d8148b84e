import math

import pytest
import torch

from trainings import make_module


def test_summarize_validation__literals() -> None:
    module = make_module("classifier", {})
    # Logits and labels of two batches.
    module.val_outputs.append(torch.tensor([[2.0, -1.0], [1.0, 0.0]]))
    module.val_outputs.append(torch.tensor([[0.5, -3.0], [0.0, 1.0]]))
    metrics = module.summarize_validation()
    # Right are the first two. Of four pairs (tumor, none) two are in order: 2 above -1 and above 0.5.
    assert metrics["val_accuracy"] == 0.5 and metrics["val_auroc"] == 0.5
    # ln(1 + e^-2), ln(1 + e^-1), ln(1 + e^0.5), ln(1 + e^3): 0.126928, 0.313262, 0.974077, 3.048587
    assert metrics["val_loss"] == pytest.approx(1.1157135, abs=1e-6)
    assert module.val_outputs == []


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_summarize_validation__diverged_network_has_no_auroc(value: float) -> None:
    module = make_module("classifier", {})
    module.val_outputs.append(torch.tensor([[value, -1.0], [1.0, 0.0]]))
    assert math.isnan(module.summarize_validation()["val_auroc"])


def test_summarize_training__mean_over_batches() -> None:
    module = make_module("classifier", {})
    module.train_outputs += [torch.tensor([0.5, 1.0]), torch.tensor([0.3, 0.5])]
    assert module.summarize_training() == pytest.approx({"train_loss": 0.4, "train_accuracy": 0.75})
    assert module.train_outputs == []
