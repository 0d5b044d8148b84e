"""Metrics of masks over patients against numbers by hand."""

import numpy as np
import pytest
from monai.metrics import compute_dice, compute_iou
from torch import from_numpy

from predictions import PARAMS, draw_squares, evaluate_patients, make_evaluation, make_prediction
from tumor_cascade.evaluation.cohort import Evaluation
from tumor_cascade.evaluation.segmentation import average_by_stratum, summarize_segmentation
from tumor_cascade.evaluation.statistics import Bootstrap, Estimate


def summarize(evaluation: Evaluation, model: str) -> dict[str, float | None]:
    bootstrap = Bootstrap(len(evaluation.patients), num_resamples=100, confidence=0.95, seed=1)
    summary = summarize_segmentation(model, evaluation.patients, evaluation.slices, PARAMS.area_strata_px, bootstrap)
    return {name: value.value if isinstance(value, Estimate) else value for name, value in summary.items()}


def test_summarize_segmentation__cascade_by_hand() -> None:
    """The numbers of `make_evaluation`; p2 has no tumor and enters no Dice.

    Marked: 500 (p0), 100 (p1), 16 (p2) = 616; tumor 500 + 200 = 700; hits 440 + 100 = 540. Tumor-free slices: 2, 1, 2.
    """
    summary = summarize(make_evaluation(), "cascade")
    expected = {
        "volume_dice": (0.88 + 2 / 3) / 2,
        "volume_dice_median": (0.88 + 2 / 3) / 2,
        "volume_dice_below_half_share": 0,
        "volume_error": -0.25,
        "volume_error_absolute": 0.25,
        "slice_dice": (0.85 + 0.5) / 2,
        "pooled_dice": 1080 / 1316,
        "pooled_iou": 540 / 776,
        "pooled_precision": 540 / 616,
        "pooled_recall": 540 / 700,
        "clean_slice_share": 4 / 5,
        "false_px_per_tumor_free_slice": 16 / 5,
        "pixel_specificity": 1 - 16 / (5 * 4096),
        "lesion_sensitivity": 1,
        "false_lesions_per_volume": 1 / 3,
        "lesion_f1": 4 / 5,
        "num_unmarked_tumor_slices": 1,
        "slice_dice_lt_100px": None,
        "slice_dice_100_to_499px": (0.85 + 0.5) / 2,
        "slice_dice_ge_500px": None,
    }
    assert {name: summary[name] for name in expected} == pytest.approx(expected)


def test_summarize_segmentation__pooled_dice_and_iou_are_one_number() -> None:
    for model in ("cascade", "segmenter"):
        summary = summarize(make_evaluation(), model)
        iou = summary["pooled_iou"]
        assert iou is not None
        assert summary["pooled_dice"] == pytest.approx(2 * iou / (1 + iou))


def test_summarize_segmentation__equals_monai() -> None:
    rng = np.random.default_rng(7)
    truths = [rng.random((3, 64, 64)) < 0.4 for _ in range(3)]
    masks = [truth ^ (rng.random(truth.shape) < 0.2) for truth in truths]
    evaluation = evaluate_patients(truths, [make_prediction([0.9] * 3, mask) for mask in masks])
    summary = summarize(evaluation, "cascade")
    pairs = [(from_numpy(mask), from_numpy(truth)) for mask, truth in zip(masks, truths, strict=True)]
    by_volume = [float(compute_dice(mask[None, None], truth[None, None])) for mask, truth in pairs]
    by_slice = [float(compute_dice(mask[:, None], truth[:, None]).mean()) for mask, truth in pairs]
    iou_by_slice = [float(compute_iou(mask[:, None], truth[:, None]).mean()) for mask, truth in pairs]
    assert summary["volume_dice"] == pytest.approx(np.mean(by_volume))
    assert summary["slice_dice"] == pytest.approx(np.mean(by_slice))
    assert summary["slice_iou"] == pytest.approx(np.mean(iou_by_slice))


def test_summarize_segmentation__empty_everywhere_is_no_success() -> None:
    # A volume without tumor, left clean: no Dice of 1, but a specificity of 1.
    empty = draw_squares([0, 0])
    summary = summarize(evaluate_patients([empty], [make_prediction([0.1, 0.1], empty)]), "cascade")
    undefined = ("volume_dice", "slice_dice", "pooled_dice", "pooled_precision", "hd95_px", "lesion_sensitivity")
    assert all(summary[name] is None for name in undefined)
    assert summary["clean_slice_share"] == summary["pixel_specificity"] == 1


def test_summarize_segmentation__scattered_slices_have_no_lesions() -> None:
    truth = draw_squares([10, 10])
    evaluation = evaluate_patients([truth], [make_prediction([0.9, 0.9], truth)], is_scored=[True, False])
    summary = summarize(evaluation, "cascade")
    assert summary["lesion_sensitivity"] is summary["false_lesions_per_volume"] is summary["lesion_f1"] is None
    assert summary["volume_dice"] == 1


def test_summarize_segmentation__shift_of_every_mask_shows() -> None:
    # 32 x 32 squares moved by 8 px: 0.75 exactly, in every patient.
    truths = [draw_squares([0, 32, 32])] * 2
    moved = draw_squares([0, 32, 32], left=16)
    summary = summarize(evaluate_patients(truths, [make_prediction([0.9] * 3, moved)] * 2), "cascade")
    assert summary["volume_dice"] == summary["slice_dice"] == summary["pooled_dice"] == 0.75


def test_average_by_stratum__patient_means() -> None:
    # p0: 64 px found in full, 100 px moved by 2 (0.8), 400 px by 2 (0.9); p1: 64 px missed.
    truths = [draw_squares([8, 10, 20]), draw_squares([8])]
    masks = np.concatenate([draw_squares([8]), draw_squares([10, 20], top=10)])
    predictions = [make_prediction([0.9] * 3, masks), make_prediction([0.1], truths[1])]
    slices = evaluate_patients(truths, predictions).slices
    table = average_by_stratum(slices, "cascade_slice_dice", [100, 500])
    assert table.columns.tolist() == ["lt_100px", "100_to_499px", "ge_500px"]
    assert table.loc["p0"].tolist()[:2] == pytest.approx([1, 0.85])
    assert table.loc["p1", "lt_100px"] == 0
    assert table["ge_500px"].isna().all()
