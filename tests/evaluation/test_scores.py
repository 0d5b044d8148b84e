"""Scores of slices and volumes against counts on paper."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from predictions import PARAMS, draw_squares, make_evaluation, make_prediction
from tumor_cascade.evaluation.scores import score_slices, score_volume

NAN = float("nan")


def test_score_slices__square_shifted_by_8_pixels() -> None:
    # 32 x 32 = 1,024 px; 32 * 24 = 768 of them stay: Dice 2 * 768 / 2048 = 0.75, IoU 768 / 1280 = 0.6.
    scores = score_slices(draw_squares([32]), draw_squares([32], left=16), [1.0])
    assert scores.loc[0, ["px", "hit_px", "slice_dice", "slice_iou"]].tolist() == [1024, 768, 0.75, 0.6]


def test_score_slices__empty_truth_is_undefined_whatever_is_marked() -> None:
    scores = score_slices(draw_squares([0, 0]), draw_squares([0, 3]), [1.0])
    assert scores["px"].tolist() == [0, 9]
    assert scores[["slice_dice", "slice_iou", "surface_dice_1px", "hd95_px"]].isna().all(axis=None)


def test_score_slices__no_mask_on_tumor_scores_0() -> None:
    scores = score_slices(draw_squares([5]), draw_squares([0]), [1.0])
    assert scores.loc[0, ["slice_dice", "slice_iou", "surface_dice_1px"]].tolist() == [0, 0, 0]


def test_score_volume__slices_that_do_not_count() -> None:
    truth = draw_squares([0, 10, 10, 0])
    is_scored = np.array([True, False, True, False])
    slices, lesions = score_volume(truth, make_prediction([0.9] * 4, truth), is_scored, PARAMS)
    assert slices.index.tolist() == [0, 2]
    assert slices["tumor_px"].tolist() == [0, 100]
    # Scattered slices have no 3D components.
    assert np.isnan(list(lesions.values())).all()


def test_score_volume__sums_of_probabilities() -> None:
    truth = draw_squares([4, 0])  # 16 px of tumor in the first slice
    prediction = make_prediction([0.9, 0.9], truth)
    assert prediction.mask_probabilities is not None
    prediction.mask_probabilities[:] = 0.25
    slices, _ = score_volume(truth, prediction, np.ones(2, bool), PARAMS)
    assert slices["segmenter_soft_px"].tolist() == [truth[0].size / 4] * 2
    assert slices["segmenter_soft_hit_px"].tolist() == [4.0, 0.0]  # a quarter of the 16 tumor px


def test_score_volume__needs_every_slice_segmented() -> None:
    truth = draw_squares([5])
    cut = replace(make_prediction([1.0], truth), segmenter_masks=None)
    with pytest.raises(ValueError, match="every slice segmented"):
        score_volume(truth, cut, np.ones(1, bool), PARAMS)


def test_summarize_patients__counts_and_volume_scores() -> None:
    """By hand, from `make_evaluation`.

    p0: tumor 100 + 400; a square of side n moved by 2 px keeps n (n - 2): 80 + 360 = 440 hits. The cascade marks 500:
    Dice 880 / 1000. The segmenter marks 25 more: 880 / 1025; with a perfect gate 880 / 1000.
    p1: the gate misses one of two equal slices: 200 / 300; the segmenter has all.
    """
    patients = make_evaluation().patients
    assert patients.index.tolist() == ["p0", "p1", "p2"]
    assert patients["num_tumor_slices"].tolist() == [2, 2, 0]
    assert patients["num_missed_slices"].tolist() == [0, 1, 0]
    assert patients["num_false_alarms"].tolist() == [0, 0, 1]
    # Gate: slices below 0.25 are not segmented; no tumor slice is among them.
    assert patients["num_segmented_slices"].tolist() == [2, 3, 1]
    assert patients["num_segmented_tumor_slices"].tolist() == [2, 2, 0]
    assert patients["missed_tumor_px"].tolist() == [0, 100, 0]
    assert patients["cascade_tumor_free_slice_px"].tolist() == [0, 0, 16]
    assert patients["segmenter_tumor_free_slice_px"].tolist() == [25, 0, 16]
    assert patients["cascade_clean_slices"].tolist() == [2, 1, 1]
    assert patients["cascade_unmarked_tumor_slices"].tolist() == [0, 1, 0]
    assert patients["tumor_free_px"].tolist() == [2 * 4096, 4096, 2 * 4096]
    assert_allclose(patients["cascade_volume_dice"], [0.88, 2 / 3, NAN])
    assert_allclose(patients["segmenter_volume_dice"], [880 / 1025, 1, NAN])
    assert_allclose(patients["oracle_volume_dice"], [0.88, 1, NAN])
    assert_allclose(patients["cascade_volume_error"], [0, -0.5, NAN])
    # Slice Dice 0.8 and 0.9 in p0; 0 and 1 in p1.
    assert_allclose(patients["cascade_slice_dice"], [0.85, 0.5, NAN])
    # The third of p1's slices is one voxel layer of 100; p2's false square has 16: above the limit of 10.
    assert patients["cascade_false_lesions"].tolist() == [0, 0, 1]
    assert patients["cascade_lesions_found"].tolist() == [1, 1, 0]
