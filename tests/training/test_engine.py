import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor

from trainings import KilledClassifier, KilledSegmenter, choose_kill_steps, hash_result, make_module, run_training
from tumor_cascade.errors import ParamsError
from tumor_cascade.training.checkpoints import read_checkpoint
from tumor_cascade.training.engine import EpochRecorder, FitResult, build_trainer, fit
from tumor_cascade.training.modules import TrainingModule
from tumor_cascade.training.progress import PROGRESS_NAME, ProgressLog

NUM_STEPS_PER_EPOCH = 7  # 48 slices, 18 with tumor drawn 1.5 times: 57 draws in batches of 8, the last one dropped
CHECKPOINT = "last.ckpt"
# An encoder that drops blocks at random, and every head.
LITE0 = {
    "encoder": "efficientnet_lite0",
    "widths": [4, 4, 8, 8, 16],
    "slice_head_weight": 0.5,
    "deep_supervision_weight": 0.5,
}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUMOR_CASCADE_NUM_THREADS", "1")
    monkeypatch.setenv("TUMOR_CASCADE_DEVICE", "cpu")


def fit_in(folder: Path, role: str = "segmenter", **changes: Any) -> FitResult:
    return fit(make_module(role, changes), folder / CHECKPOINT, {})


@pytest.mark.parametrize(
    ("role", "changes", "num_kill_points"),
    [
        ("segmenter", {"ema_decay": 0.9, "lr_schedule": "cosine"}, 3 * NUM_STEPS_PER_EPOCH),
        ("segmenter", {"ema_decay": 0.9, "precision": "bf16-mixed", **LITE0}, 3 * NUM_STEPS_PER_EPOCH),
        ("classifier", {"ema_decay": 0.9, "lr_schedule": "cosine"}, 3 * 2),  # two validation batches an epoch
    ],
)
def test_fit__killed_and_started_again_ends_in_the_same_weights(
    tmp_path: Path, role: str, changes: dict[str, Any], num_kill_points: int
) -> None:
    undisturbed = run_training(role, changes, tmp_path / "undisturbed")
    assert undisturbed is not None
    first, *others = choose_kill_steps(2, 1, num_kill_points)
    assert run_training(role, changes, tmp_path / "killed", first) is None
    outcomes = [run_training(role, changes, tmp_path / "killed", step) for step in others]
    final = run_training(role, changes, tmp_path / "killed")
    assert final == undisturbed
    assert set(map(repr, outcomes)) <= {"None", repr(undisturbed)}
    # Started once more, it finds its finished checkpoint.
    assert run_training(role, changes, tmp_path / "killed", kill_step=1) == undisturbed


def test_fit__follows_the_seed(tmp_path: Path) -> None:
    digests = [hash_result(fit_in(tmp_path / name, seed=seed)) for name, seed in (("a", 5), ("b", 5), ("c", 6))]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(("role", "metrics"), [("segmenter", ("loss", "dice")), ("classifier", ("loss", "accuracy"))])
def test_fit__history_is_complete(tmp_path: Path, role: str, metrics: tuple[str, str]) -> None:
    result = fit_in(tmp_path, role)
    assert [row["epoch"] for row in result.history] == [0, 1, 2]
    names = {"epoch", *(f"{split}_{metric}" for split in ("train", "val") for metric in metrics)}
    extra = {"val_auroc"} if role == "classifier" else set()
    assert all(set(row) == names | extra for row in result.history)
    assert all(math.isfinite(value) for row in result.history for value in row.values())


@pytest.mark.parametrize(("monitor", "choose"), [("dice", max), ("loss", min)])
def test_fit__keeps_the_best_epoch(tmp_path: Path, monitor: str, choose: Any) -> None:
    result = fit_in(tmp_path, monitor=monitor, max_epochs=6, early_stopping_patience=6, learning_rate=0.1)
    values = [row[f"val_{monitor}"] for row in result.history]
    assert result.best_epoch == values.index(choose(values))


def validate(module: TrainingModule, weights: dict[str, Tensor]) -> dict[str, float]:
    module.network.load_state_dict(weights)
    module.eval()
    with torch.inference_mode():
        for start in range(0, len(module.val_index), 8):
            module.validation_step(module.val_index[start : start + 8], start // 8)
    return module.summarize_validation()


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_fit__weights_are_those_that_were_measured(tmp_path: Path, ema_decay: float) -> None:
    # With averaging on, the measured weights are the averaged ones.
    changes = {"ema_decay": ema_decay, "max_epochs": 4, "early_stopping_patience": 4}
    result = fit_in(tmp_path, **changes)
    measured = validate(make_module("segmenter", changes), result.weights)
    best = result.history[result.best_epoch]
    assert measured["val_dice"] == pytest.approx(best["val_dice"], abs=1e-6)
    assert measured["val_loss"] == pytest.approx(best["val_loss"], abs=1e-6)


def test_fit__averaging_changes_what_is_measured(tmp_path: Path) -> None:
    plain, averaged = (fit_in(tmp_path / str(decay), ema_decay=decay) for decay in (0.0, 0.9))
    assert [row["train_loss"] for row in plain.history] == [row["train_loss"] for row in averaged.history]
    assert [row["val_loss"] for row in plain.history] != [row["val_loss"] for row in averaged.history]


def build(folder: Path, **changes: Any) -> Trainer:
    return build_trainer(make_module("segmenter", changes), EpochRecorder("dice", 1, 1, ProgressLog(folder)), folder)


def test_build_trainer__averages_weights_on_the_device_of_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_device() -> torch.device:
        (averaging,) = [one for one in build(tmp_path, ema_decay=0.9).callbacks if isinstance(one, WeightAveraging)]
        return averaging._device

    assert find_device() == torch.device("cpu")  # where the network is, too: on a CPU nothing has changed
    monkeypatch.setattr("tumor_cascade.training.engine.choose_device", lambda: "meta")
    assert find_device() == torch.device("meta")


def test_build_trainer__a_loss_of_the_whole_batch_is_not_shared_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(tmp_path, reduction="per_batch")
    monkeypatch.setenv("TUMOR_CASCADE_NUM_PROCESSES", "2")
    build(tmp_path)
    with pytest.raises(ParamsError, match="reduction is per_batch; must be per_image where processes share a batch"):
        build(tmp_path, reduction="per_batch")


def test_fit__stops_early_and_stays_stopped(tmp_path: Path) -> None:
    # A learning rate that moves no weight: epoch 0 stays the best, two more may try.
    changes = {"learning_rate": 1e-30, "early_stopping_patience": 2, "max_epochs": 20, "weight_decay": 0.0}
    result = fit_in(tmp_path, **changes, ema_decay=0.0)
    # Batch norm's statistics still move, so only the monitored value decides.
    waited = len(result.history) - 1 - result.best_epoch
    assert waited == 2 and len(result.history) < 20
    modified = (tmp_path / CHECKPOINT).stat().st_mtime_ns
    assert hash_result(fit_in(tmp_path, **changes)) == hash_result(result)
    assert (tmp_path / CHECKPOINT).stat().st_mtime_ns == modified


class DivergingSegmenter(KilledSegmenter):
    """Goes to NaN in the third epoch."""

    def training_step(self, index: Tensor, batch_idx: int) -> Tensor:
        loss = super().training_step(index, batch_idx)
        return loss * math.nan if self.current_epoch == 2 else loss


def make_diverging(**changes: Any) -> TrainingModule:
    module = make_module("segmenter", {"max_epochs": 6, "early_stopping_patience": 6, **changes})
    module.__class__ = DivergingSegmenter
    return module


@pytest.mark.parametrize("monitor", ["loss", "dice"])
def test_fit__divergence_ends_the_training_with_its_best_weights(tmp_path: Path, monitor: str) -> None:
    result = fit(make_diverging(monitor=monitor), tmp_path / CHECKPOINT, {})
    assert len(result.history) == 3 and result.best_epoch < 2
    assert math.isnan(result.history[2]["val_loss"])
    assert all(value.isfinite().all() for value in result.weights.values())
    again = fit(make_diverging(monitor=monitor), tmp_path / CHECKPOINT, {})
    assert hash_result(again) == hash_result(result)


@pytest.mark.parametrize("role", ["segmenter", "classifier"])
def test_fit__divergence_at_once_is_an_error(tmp_path: Path, role: str) -> None:
    for _ in range(2):  # the second time from its checkpoint
        module = make_module(role, {})
        module.cohort.images.fill_(math.nan)
        with pytest.raises(ParamsError, match=r"diverged at once \(.*val_loss nan.*Lower learning_rate"):
            fit(module, tmp_path / CHECKPOINT, {})


class InterruptedClassifier(KilledClassifier):
    """Ctrl-C in the second epoch."""

    def training_step(self, index: Tensor, batch_idx: int) -> Tensor:
        if self.current_epoch == 1:
            raise KeyboardInterrupt
        return super().training_step(index, batch_idx)


def test_fit__interrupt_returns_no_half_trained_network(tmp_path: Path) -> None:
    module = make_module("classifier", {})
    module.__class__ = InterruptedClassifier
    with pytest.raises((SystemExit, KeyboardInterrupt)):
        fit(module, tmp_path / CHECKPOINT, {})
    assert hash_result(fit_in(tmp_path, "classifier")) == hash_result(fit_in(tmp_path / "undisturbed", "classifier"))


def test_fit__checkpoint_is_one_file_without_code_beside_the_log(tmp_path: Path) -> None:
    fit_in(tmp_path, ema_decay=0.9)
    assert {path.name for path in tmp_path.iterdir()} == {CHECKPOINT, PROGRESS_NAME}
    content = read_checkpoint(tmp_path / CHECKPOINT)
    assert content is not None and content["epoch"] == 2


def test_fit__classifier_learns_what_can_be_learned_and_nothing_else(tmp_path: Path) -> None:
    changes = {"max_epochs": 8, "early_stopping_patience": 8, "learning_rate": 0.01}
    learned = fit_in(tmp_path / "true", "classifier", **changes)
    assert learned.history[-1]["val_auroc"] > 0.95
    # The same with labels dealt at random: what is still found on validation patients would be a leak.
    finals = []
    for seed in range(3):
        module = make_module("classifier", changes)
        order = torch.randperm(len(module.cohort.has_tumor), generator=torch.Generator().manual_seed(seed))
        module.cohort.has_tumor.copy_(module.cohort.has_tumor[order])
        finals.append(fit(module, tmp_path / str(seed) / CHECKPOINT, {}).history[-1]["val_auroc"])
    # 16 slices: standard deviation of one AUROC about 0.15, of the mean of three 0.09.
    assert 0.25 < sum(finals) / 3 < 0.75


def test_fit__segmenter_learns_and_shifted_masks_are_noticed(tmp_path: Path) -> None:
    changes = {"max_epochs": 6, "early_stopping_patience": 6}
    learned = fit_in(tmp_path / "true", **changes)
    assert learned.history[learned.best_epoch]["val_dice"] > 0.7
    module = make_module("segmenter", changes)
    shifted = module.cohort.masks.clone()
    shifted[module.train_index] = shifted[module.train_index].roll(8, dims=-1)
    module.cohort.masks.copy_(shifted)
    result = fit(module, tmp_path / "shifted" / CHECKPOINT, {})
    assert result.history[-1]["val_dice"] < 0.5
