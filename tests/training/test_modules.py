import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trainings import KilledSegmenter, make_module
from tumor_cascade.training.engine import fit

FIXED = torch.arange(4)


class RecordingSegmenter(KilledSegmenter):
    """Notes, at each step, the learning rate and how the same four slices would be augmented."""

    def training_step(self, index: Tensor, batch_idx: int) -> Tensor:
        images, masks = self.gather_augmented(FIXED, batch_idx)
        assert images.is_contiguous(memory_format=torch.channels_last) and masks.shape == (4, 1, 32, 32)
        self.augmented.append((self.current_epoch, batch_idx, images.sum().item()))
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return super().training_step(index, batch_idx)


def record(folder: Path, **changes: Any) -> RecordingSegmenter:
    module: Any = make_module("segmenter", changes)
    module.__class__ = RecordingSegmenter
    module.augmented, module.rates = [], []
    fit(module, folder / "last.ckpt", {})
    return module


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUMOR_CASCADE_DEVICE", "cpu")
    monkeypatch.setenv("TUMOR_CASCADE_NUM_THREADS", "1")


def test_gather_augmented__every_step_of_every_epoch_has_its_own_changes(tmp_path: Path) -> None:
    first, again, other = (record(tmp_path / str(i), max_epochs=2, seed=seed) for i, seed in enumerate((1, 1, 2)))
    assert len(first.augmented) == 14  # 7 steps, twice
    assert len({total for _, _, total in first.augmented}) == 14
    assert first.augmented == again.augmented
    assert not {total for _, _, total in first.augmented} & {total for _, _, total in other.augmented}


def test_gather__validation_is_not_augmented() -> None:
    module = make_module("segmenter", {})
    images, masks = module.gather(FIXED)
    assert torch.equal(images, module.cohort.images[:4]) and torch.equal(masks, module.cohort.masks[:4].float())


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_configure_optimizers__rate_over_the_training(tmp_path: Path, schedule: str) -> None:
    rates = record(tmp_path, lr_schedule=schedule, learning_rate=0.02).rates
    # 21 steps; the cosine falls from 0.02 to 0 over them, whatever the epochs.
    cosine = [0.01 * (1 + math.cos(math.pi * step / 21)) for step in range(21)]
    assert rates == pytest.approx(cosine if schedule == "cosine" else [0.02] * 21)


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_configure_optimizers__takes_its_params(name: str, kind: type) -> None:
    module = make_module("segmenter", {"optimizer": name, "adam_epsilon": 0.1, "weight_decay": 0.25})
    optimizer = module.configure_optimizers()
    assert type(optimizer) is kind
    group = optimizer.param_groups[0]
    assert (group["lr"], group["eps"], group["weight_decay"]) == (0.02, 0.1, 0.25)


@pytest.mark.parametrize(("batch_size", "num_batches"), [(8, 7), (57, 1), (100, 1), (56, 1), (1, 57)])
def test_train_dataloader__drops_a_last_batch_unless_it_is_the_only_one(
    tmp_path: Path, batch_size: int, num_batches: int
) -> None:
    # 57 draws an epoch.
    module = record(tmp_path, batch_size=batch_size, max_epochs=1)
    assert len(module.augmented) == num_batches
