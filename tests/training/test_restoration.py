from pathlib import Path

import pytest
import torch

from trainings import make_cohort, make_segmenter_params
from tumor_cascade.configuration import build_preset
from tumor_cascade.models.resunet import ResUNet
from tumor_cascade.params import TrainSegmenterParams, parse_params
from tumor_cascade.training.engine import fit
from tumor_cascade.training.restoration import BOX_SHARE, NUM_BOXES, RestorationTraining, hide_boxes, pretrain_encoder


def test_hide_boxes__the_same_boxes_in_all_channels_and_nothing_else() -> None:
    torch.manual_seed(0)
    images = torch.rand(5, 3, 32, 48) + 1
    hidden = hide_boxes(images)
    is_hidden = hidden == 0
    assert torch.equal(hidden[~is_hidden], images[~is_hidden])
    assert bool((is_hidden == is_hidden[:, :1]).all())
    side = round(BOX_SHARE * 32)
    for share in is_hidden[:, 0].float().sum((1, 2)).tolist():
        assert side**2 <= share <= NUM_BOXES * side**2
    assert not torch.equal(is_hidden[0], is_hidden[1])


def test_hide_boxes__reaches_every_pixel() -> None:
    torch.manual_seed(0)
    assert bool((hide_boxes(torch.ones(600, 1, 16, 16)) == 0).any(dim=0).all())


def make_params(*settings: str) -> TrainSegmenterParams:
    return parse_params(build_preset("smoke", settings), "smoke").train_segmenter


@pytest.mark.parametrize("monitor, normalization", [("dice", "unit_range"), ("loss", "slice_zscore")])
def test_pretrain_encoder__refuses_what_it_cannot_be_judged_by(
    monitor: str, normalization: str, tmp_path: Path
) -> None:
    params = make_params(
        f"train_segmenter.monitor={monitor}",
        f"train_segmenter.normalization={normalization}",
        "train_segmenter.augmentation.max_gamma_change=0.0",
    )
    nowhere = tmp_path / "nowhere"
    with pytest.raises(ValueError, match="judged by its loss"):
        pretrain_encoder(
            params, fold=0, slices=nowhere, manifest=nowhere, splits=nowhere, out_encoder=tmp_path / "encoder"
        )
    assert not (tmp_path / "encoder").exists()


def test_restoration__learns_what_is_hidden(tmp_path: Path) -> None:
    params = make_segmenter_params(monitor="loss", max_epochs=12, early_stopping_patience=12)
    cohort, train_index, val_index = make_cohort()
    torch.manual_seed(1)
    network = ResUNet(3, params.widths, params.encoder, has_slice_head=False, has_deep_supervision=False)
    result = fit(RestorationTraining(network, params, cohort, train_index, val_index), tmp_path / "last.ckpt", {})
    flair = cohort.images[val_index, 1]
    guess = float((flair - flair.median()).abs().mean())  # the best that knows no slice
    assert result.history[result.best_epoch]["val_loss"] < 0.6 * guess
