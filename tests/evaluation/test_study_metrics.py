"""The study's metrics."""

import numpy as np
import pandas as pd
import pytest

from tumor_cascade.evaluation.study_metrics import (
    bound_f1,
    count_batched,
    dice_of_iou,
    find_matrices,
    overlap_scores,
    pool_batches,
    summarize_study,
)

# Four slices of 1,000 px: found by half, missed by the gate, tumor-free and left empty, tumor-free with a false mask.
SLICES = pd.DataFrame(
    {
        "num_px": 1000,
        "has_tumor": [True, True, False, False],
        "is_positive": [True, False, False, True],
        "tumor_px": [100, 40, 0, 0],
        "segmenter_px": [100, 40, 0, 20],
        "segmenter_hit_px": [50, 30, 0, 0],
        "cascade_px": [100, 0, 0, 20],
        "cascade_hit_px": [50, 0, 0, 0],
        "segmenter_soft_px": [90.0, 50.0, 3.0, 30.0],
        "segmenter_soft_hit_px": [60.0, 30.0, 0.0, 0.0],
    }
)


def test_summarize_study__known() -> None:
    scores = summarize_study(SLICES, seed=1)
    assert scores["S1"] == scores["S1_all"]  # fewer than 16 slices: all of them
    half = dict.fromkeys(("accuracy", "tumor_precision", "tumor_recall", "tumor_f1"), 0.5)
    assert scores["S1"] | half == scores["S1"]
    assert [scores["S1"][name] for name in ("num_images", "tn", "fp", "fn", "tp")] == [4, 1, 1, 1, 1]
    # TP 90, FN 140 - 90 = 50, FP 140 - 90 = 50: 90 / (90 + 0.7 x 50 + 0.3 x 50)
    assert scores["S2"] == {"tversky": pytest.approx(90 / 140, abs=1e-6)}
    # 80 of 140 and 140 px
    assert scores["S3"] == {"dice": pytest.approx(160 / 280, abs=1e-6), "iou": pytest.approx(80 / 200, abs=1e-6)}
    # 2 x 50 / 200 and 2 x 30 / 80
    assert scores["S4"]["dice"] == pytest.approx((0.5 + 0.75) / 2)
    # 0.5, missed 0, empty 1, false mask 0
    assert scores["S5"]["dice"] == pytest.approx(1.5 / 4)
    # 0.5, 0.75, and both tumor-free slices empty
    assert scores["S5o"]["dice"] == pytest.approx(3.25 / 4)
    # Tumor: 2 x 50 / (140 + 120). Background: 3,860 and 3,880 px, shared 4,000 - 140 - 120 + 50 = 3,790.
    assert scores["S6"]["dice"] == pytest.approx((100 / 260 + 7580 / 7740) / 2, abs=1e-6)
    # wrong: 50 + 50, 40, 0, 20
    assert scores["S7"] == {"pixel_accuracy": 1 - 160 / 4000}


def test_summarize_study__without_soft_sums() -> None:
    assert summarize_study(SLICES.drop(columns=["segmenter_soft_px", "segmenter_soft_hit_px"]), seed=1)["S2"] == {}


def test_summarize_study__no_tumor_slice() -> None:
    scores = summarize_study(SLICES[~SLICES["has_tumor"]], seed=1)
    undefined = [scores["S2"]["tversky"], scores["S3"]["dice"], scores["S4"]["iou"], scores["S1"]["tumor_recall"]]
    assert undefined == [None] * 4
    assert scores["S5"]["dice"] == 0.5


def test_summarize_study__only_full_batches_count_for_s1() -> None:
    slices = pd.concat([SLICES] * 10, ignore_index=True)  # 40 = 2 x 16 + 8
    scores = summarize_study(slices, seed=1)
    assert (scores["S1"]["num_images"], scores["S1_all"]["num_images"]) == (32, 40)
    assert scores == summarize_study(slices, seed=1)
    assert scores["S1"] != summarize_study(slices, seed=2)["S1"]  # which slices are cut depends on the order


@pytest.mark.parametrize(("num_images", "num_batched"), [(590, 576), (433, 432), (16, 16), (15, 15)])
def test_count_batched__as_the_study_counts(num_images: int, num_batched: int) -> None:
    assert count_batched(num_images) == num_batched


def test_pool_batches__mean_over_batches_of_pooled_pixels() -> None:
    # A batch of 16 that is right, one of 16 that finds half of its pixels, and 8 slices that are dropped.
    soft = np.repeat([100.0, 50.0, 0.0], [16, 16, 8])
    tumor = pd.DataFrame({"tumor_px": 100, "segmenter_soft_px": soft, "segmenter_soft_hit_px": soft})
    # 50 / (50 + 0.7 x 50) = 0.588
    assert pool_batches(tumor) == pytest.approx((1 + 50 / 85) / 2)


def test_overlap_scores__empty_masks() -> None:
    scores = overlap_scores([0, 0, 5, 4], [0, 3, 0, 4], [0, 0, 0, 4])
    assert scores["dice"].tolist() == scores["iou"].tolist() == [1, 0, 0, 1]


def test_dice_of_iou__the_printed_pair() -> None:
    assert dice_of_iou(0.95) == pytest.approx(0.97436, abs=1e-5)
    assert dice_of_iou([0, 1]).tolist() == [0, 1]


def test_find_matrices__the_six_that_fit() -> None:
    assert find_matrices()[["tn", "fp", "fn", "tp"]].to_numpy().tolist() == [
        [357, 4, 10, 205],
        [358, 3, 11, 204],
        [358, 3, 10, 205],
        [359, 2, 12, 203],
        [359, 2, 11, 204],
        [359, 2, 10, 205],
    ]
    assert find_matrices()["tumor_recall"].between(0.94, 0.955).all()


def test_bound_f1__precision_and_recall_of_99_cannot_give_94() -> None:
    assert bound_f1(99, 99) == pytest.approx((0.985, 0.995))
