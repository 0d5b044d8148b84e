"""What the gate costs and saves, by hand."""

import pytest
from numpy.testing import assert_allclose

from predictions import draw_squares, evaluate_patients, make_evaluation, make_prediction
from tumor_cascade.evaluation.gate import summarize_gate, trace_thresholds
from tumor_cascade.evaluation.statistics import Bootstrap, Estimate


def test_summarize_gate__costs_and_savings_by_hand() -> None:
    """The numbers of `make_evaluation`.

    Segmenter Dice 880 / 1025 and 1, cascade 0.88 and 2 / 3, oracle 0.88 and 1. The decision misses a slice with 100 of
    700 tumor pixels, all found; it takes away 25 of the segmenter's 60 + 25 + 16 = 101 false pixels; 6 of 9 slices, all
    4 with tumor among them, are segmented.
    """
    evaluation = make_evaluation()
    bootstrap = Bootstrap(3, num_resamples=100, confidence=0.95, seed=1)
    summary = summarize_gate(evaluation.patients, bootstrap)
    values = {name: value.value if isinstance(value, Estimate) else value for name, value in summary.items()}
    assert values == pytest.approx(
        {
            "gate_volume_dice_gain": (0.88 - 880 / 1025 + 2 / 3 - 1) / 2,
            "gate_volume_dice_short_of_oracle": (0 + 1 / 3) / 2,
            "gate_lost_tumor_share": 100 / 700,
            "gate_lost_hit_px": 100,
            "gate_removed_false_px": 25,
            "gate_removed_false_share": 25 / 101,
            "gate_skipped_slice_share": 3 / 9,
            "gate_kept_tumor_slice_share": 1,
        }
    )


def test_summarize_gate__an_open_gate_changes_nothing() -> None:
    truth = draw_squares([0, 10])
    patients = evaluate_patients([truth], [make_prediction([1.0, 1.0], draw_squares([3, 10]))]).patients
    summary = summarize_gate(patients, Bootstrap(1, num_resamples=100, confidence=0.95, seed=1))
    assert summary["gate_volume_dice_gain"] == Estimate(0.0, None, None)
    assert summary["gate_skipped_slice_share"] == Estimate(0.0, None, None)


def test_trace_thresholds__from_all_that_the_gate_lets_pass_to_nothing() -> None:
    curve = trace_thresholds(make_evaluation().slices)
    assert curve["threshold"].is_monotonic_increasing
    # The gate spares p0 the false square on slice 0; it lets pass 2 of 5 tumor-free slices.
    assert curve.iloc[0].tolist() == pytest.approx([0, (0.88 + 1) / 2, 1, 3 / 5])
    assert curve.iloc[-1].tolist() == pytest.approx([1, 0, 0, 1])
    # At one half the curve is the cascade itself.
    half = curve[curve["threshold"].round(6) == 0.5].iloc[0]
    assert half["volume_dice"] == pytest.approx((0.88 + 2 / 3) / 2)
    assert (half["sensitivity"], half["specificity"]) == pytest.approx((3 / 4, 4 / 5))


def test_trace_thresholds__no_tumor_anywhere() -> None:
    empty = draw_squares([0, 0])
    curve = trace_thresholds(evaluate_patients([empty], [make_prediction([0.2, 0.7], empty)]).slices)
    assert curve["volume_dice"].isna().all()
    assert curve["sensitivity"].isna().all()
    assert_allclose(curve["specificity"].iloc[[0, -1]], [0.5, 1])  # 0.2 is behind the gate
