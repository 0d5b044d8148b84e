"""Contour scores against distances counted on paper and MONAI."""

import numpy as np
import pytest
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from numpy.testing import assert_allclose
from scipy import ndimage

from predictions import draw_square
from tumor_cascade.evaluation.surfaces import score_contour

# MONAI warns of its own use of an argument.
IGNORE_MONAI = pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")


def test_score_contour__square_shifted_by_8_pixels() -> None:
    """A 32 x 32 square has a contour of 4 * 32 - 4 = 124 pixels.

    Of the shifted one, 25 pixels of the upper row lie within 1 px of the other contour (24 on it, 1 beside its corner),
    25 of the lower row, and the 2 pixels of its left side next to them; the other contour mirrors it: 52 / 124 each.
    48 pixels are 8 px away (32 of the far side; the 16 in the middle of the near side): more than 5 % of 124, so the
    95th percentile is 8.
    """
    surface_dice, hd95 = score_contour(draw_square(32, left=8), draw_square(32, left=16), [1.0])
    assert surface_dice == [pytest.approx(52 / 124)]
    assert hd95 == 8


def test_score_contour__perfect() -> None:
    assert score_contour(draw_square(5), draw_square(5), [1.0, 2.0]) == ([1.0, 1.0], 0.0)


def test_score_contour__single_pixels() -> None:
    # One pixel against another 3 px away: nothing within 2, all within 3.
    assert score_contour(draw_square(1), draw_square(1, left=11), [2.0, 3.0]) == ([0.0, 1.0], 3.0)


def test_score_contour__missing_prediction_scores_worst() -> None:
    surface_dice, hd95 = score_contour(draw_square(5), draw_square(0), [1.0, 2.0])
    assert surface_dice == [0.0, 0.0]
    assert hd95 == pytest.approx(64 * 2**0.5)


@pytest.mark.parametrize("side", [0, 5])
def test_score_contour__empty_truth_is_undefined(side: int) -> None:
    surface_dice, hd95 = score_contour(draw_square(0), draw_square(side), [1.0])
    assert np.isnan([*surface_dice, hd95]).all()


@IGNORE_MONAI
def test_score_contour__equals_monai_on_random_blobs() -> None:
    rng = np.random.default_rng(5)
    smooth = ndimage.gaussian_filter(rng.normal(size=(2, 12, 48, 48)), (0, 0, 3, 3))
    truths, predictions = smooth > np.quantile(smooth, 0.8)
    mine = [score_contour(*pair, [1.0, 2.0]) for pair in zip(truths, predictions, strict=True)]
    truth, prediction = (torch.from_numpy(masks)[:, None].float() for masks in (truths, predictions))
    hd95 = compute_hausdorff_distance(prediction, truth, include_background=True, percentile=95)[:, 0]
    # The same mask as two classes: one tolerance each.
    pair = (prediction.expand(-1, 2, -1, -1), truth.expand(-1, 2, -1, -1))
    surface_dice = compute_surface_dice(*pair, [1.0, 2.0], include_background=True)
    assert_allclose([scores[0] for scores in mine], surface_dice, rtol=1e-5)
    assert_allclose([scores[1] for scores in mine], hd95, rtol=1e-5)


@IGNORE_MONAI
def test_score_contour__mask_on_the_border_equals_monai() -> None:
    truth, prediction = draw_square(10, top=0, left=0), draw_square(12, top=0, left=3)
    hd95 = compute_hausdorff_distance(
        torch.from_numpy(prediction)[None, None], torch.from_numpy(truth)[None, None], True, percentile=95
    )
    assert score_contour(truth, prediction, [1.0])[1] == pytest.approx(float(hd95))
