"""Variants of the gate, compared on made-up patients."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from tumor_cascade.evaluation.figures import render_png
from tumor_cascade.evaluation.gate_costs import Costs
from tumor_cascade.evaluation.gate_figure import plot_gates
from tumor_cascade.evaluation.gate_variants import compare_gates, cut_by_fold, trace_gates
from tumor_cascade.evaluation.statistics import Bootstrap
from tumor_cascade.evaluation.tuning import choose_settings
from tumor_cascade.evaluation.validation import decide_table
from validations import make_params, make_scores

COSTS = Costs(classifier_ms=20.0, segmenter_ms=40.0)
SCORES = make_scores(num_patients=10)
SLICES = decide_table(SCORES.count_masks(0), choose_settings(make_params(mask_thresholds=[0.3, 0.5]), SCORES))
BOOTSTRAP = Bootstrap(10, num_resamples=100, confidence=0.95, seed=1)


def compare(slices: pd.DataFrame = SLICES) -> pd.DataFrame:
    return compare_gates(slices, COSTS, BOOTSTRAP, target_sensitivity=0.9, smoothing_slices=1.0)


def test_compare_gates__no_gate_and_oracle_by_hand() -> None:
    # Each of 10 patients: 4 tumor slices of 100 px, 80 of them found, and 40 false px on each of 12 slices.
    table = compare()
    without, oracle = table.loc["none"], table.loc["oracle"]
    assert without["volume_dice"] == pytest.approx(2 * 320 / (400 + 320 + 480))
    assert oracle["volume_dice"] == pytest.approx(2 * 320 / (400 + 320 + 160))
    assert oracle["volume_dice_gain"] == pytest.approx(oracle["volume_dice"] - without["volume_dice"])
    assert oracle["removed_false_px"] == 10 * 8 * 40 and oracle["lost_tumor_px"] == 0
    assert without["volume_dice_gain"] == without["lost_tumor_px"] == without["skipped_share"] == 0
    assert (without["sensitivity"], without["specificity"], without["relative_cost"]) == (1, 0, 1)
    assert np.isnan(without["auroc"]) and np.isnan(oracle["relative_cost"])


def test_compare_gates__argmax_by_hand() -> None:
    row, kept = compare().loc["argmax"], SLICES["classifier_logit"] > 0
    labels = SLICES["has_tumor"]
    assert row["sensitivity"] == kept[labels].mean()
    assert row["lost_tumor_px"] == 80 * (labels & ~kept).sum()
    assert row["auroc"] == pytest.approx(roc_auc_score(labels, SLICES["classifier_logit"]))
    # Classifier everywhere, 20 of 40 ms, and the segmenter where the gate is open.
    assert row["relative_cost"] == pytest.approx(0.5 + kept.mean())
    assert row["skipped_share"] == pytest.approx(1 - kept.mean())


def test_compare_gates__what_the_segmenter_must_see_is_not_spared() -> None:
    table = compare()
    assert table.loc["segmenter", "relative_cost"] == 1
    assert table.loc["combined", "relative_cost"] == 1.5
    assert table.loc["cascade", "skipped_share"] == pytest.approx(1 - SLICES["gate_is_open"].mean())
    assert table.loc["cascade", "sensitivity"] == SLICES.loc[SLICES["has_tumor"], "is_positive"].mean()


def test_compare_gates__better_scores_rank_better() -> None:
    auroc = compare()["auroc"]
    assert auroc["tuned"] < auroc["segmenter"] < auroc["segmenter_smoothed"]
    assert auroc["tuned"] < auroc["smoothed"]


def test_compare_gates__volumes_lost() -> None:
    # A gate that closes all slices of a patient loses its volume; Dice of the others does not move.
    blind = SLICES.assign(is_positive=SLICES["patient_id"] != "AA_0003")
    row = compare(blind).loc["cascade"]
    assert row["num_lost_volumes"] == 1
    assert row["lost_tumor_px"] == 4 * 80


def test_compare_gates__slice_head_where_there_is_one() -> None:
    assert "slice_head" not in compare().index
    table = compare(SLICES.assign(slice_head_logit=np.where(SLICES["has_tumor"], 5.0, -5.0)))
    assert table.loc["slice_head", "auroc"] > 0.99
    assert table.loc["slice_head", "relative_cost"] == 1


def test_cut_by_fold__a_fold_has_no_say_in_its_own_threshold() -> None:
    folds = SLICES["fold"].to_numpy()
    scores = np.where(SLICES["has_tumor"], 1.0, 0.0) + 10 * (folds == 1)
    kept = cut_by_fold(SLICES, scores, 1.0)
    # Fold 0 is cut at fold 1's 11: nothing is left; fold 1 at fold 0's 1: everything is.
    assert not kept[folds == 0].any() and kept[folds == 1].all()


def test_cut_by_fold__a_single_fold_judges_itself() -> None:
    kept = cut_by_fold(SLICES.assign(fold=0), np.where(SLICES["has_tumor"], 1.0, 0.0), 1.0)
    np.testing.assert_array_equal(kept, SLICES["has_tumor"])


def test_trace_gates__ends_with_every_slice_kept() -> None:
    curves = trace_gates(SLICES, smoothing_slices=1.0, num_points=13)
    for _, rows in curves.groupby("score"):
        assert rows["kept_share"].is_monotonic_increasing and rows["sensitivity"].is_monotonic_increasing
        assert rows.iloc[-1][["kept_share", "sensitivity"]].tolist() == [1, 1]
        assert rows.iloc[-1]["volume_dice"] == pytest.approx(2 * 320 / (400 + 320 + 480))


def test_plot_gates__same_bytes() -> None:
    curves, table = trace_gates(SLICES, smoothing_slices=1.0, num_points=13), compare()
    first, second = (render_png(plot_gates(curves, table)) for _ in range(2))
    assert first == second and first.startswith(b"\x89PNG")
