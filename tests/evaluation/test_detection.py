"""Detection metrics against scikit-learn and literals, and what is undefined."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics
from sklearn.calibration import calibration_curve

from tumor_cascade.evaluation.detection import (
    bin_probabilities,
    measure_calibration_error,
    summarize_detection,
    tabulate_classes,
    trace_precision_recall,
    trace_roc,
)
from tumor_cascade.evaluation.statistics import Bootstrap, Estimate


def make_slices(labels: list[bool], probabilities: list[float], patients: list[str] | None = None) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "patient_id": patients or ["p0", "p1"] * (len(labels) // 2),
            "has_tumor": labels,
            "probability": np.array(probabilities, dtype=np.float32),
            "is_positive": np.array(probabilities) >= 0.5,
            "tumor_px": [200 if label else 0 for label in labels],
        }
    )


def summarize(slices: pd.DataFrame) -> dict[str, float | None]:
    bootstrap = Bootstrap(slices["patient_id"].nunique(), num_resamples=100, confidence=0.95, seed=1)
    summary = summarize_detection(slices, [100, 500], bootstrap)
    return {name: value.value if isinstance(value, Estimate) else value for name, value in summary.items()}


def test_summarize_detection__equals_scikit_learn() -> None:
    rng = np.random.default_rng(2)
    labels = rng.random(120) < 0.4
    probabilities = np.clip(rng.normal(0.3 + 0.4 * labels, 0.2), 0, 1).astype(np.float32).astype(float)
    slices = make_slices(labels.tolist(), probabilities.tolist())
    summary, decisions = summarize(slices), slices["is_positive"]
    expected = {
        "auroc": metrics.roc_auc_score(labels, probabilities),
        "average_precision": metrics.average_precision_score(labels, probabilities),
        "sensitivity": metrics.recall_score(labels, decisions),
        "specificity": metrics.recall_score(~labels, ~decisions),
        "precision": metrics.precision_score(labels, decisions),
        "f1": metrics.f1_score(labels, decisions),
        "accuracy": metrics.accuracy_score(labels, decisions),
        "mcc": metrics.matthews_corrcoef(labels, decisions),
        "brier": metrics.brier_score_loss(labels, probabilities),
    }
    assert {name: summary[name] for name in expected} == pytest.approx(expected)


def test_summarize_detection__strata_and_misses() -> None:
    # Tumors of 50, 50 and 300 px; one of the small ones is missed, in patient p0.
    slices = make_slices([True, True, True, False], [0.2, 0.9, 0.9, 0.1], ["p0", "p0", "p1", "p1"])
    slices["tumor_px"] = [50, 50, 300, 0]
    summary = summarize(slices)
    assert summary["sensitivity_lt_100px"] == 0.5
    assert summary["sensitivity_100_to_499px"] == 1
    assert summary["sensitivity_ge_500px"] is None
    assert [summary[f"num_tumor_slices_{name}"] for name in ("lt_100px", "100_to_499px", "ge_500px")] == [2, 1, 0]
    assert summary["missed_slices_per_patient"] == 0.5
    assert summary["majority_accuracy"] == 0.75


def test_summarize_detection__no_tumor_slices() -> None:
    summary = summarize(make_slices([False] * 4, [0.1, 0.2, 0.6, 0.3]))
    undefined = {"auroc", "average_precision", "sensitivity", "mcc"}
    assert all(summary[name] is None for name in undefined)
    assert (summary["specificity"], summary["precision"], summary["accuracy"]) == (0.75, 0, 0.75)


def test_summarize_detection__no_tumor_free_slices_and_no_alarm() -> None:
    summary = summarize(make_slices([True] * 4, [0.1] * 4))
    assert summary["auroc"] is summary["specificity"] is summary["precision"] is summary["mcc"] is None
    assert summary["sensitivity"] == 0


def test_tabulate_classes__counts_of_the_studys_table() -> None:
    # 361 + 215 images with (TN, FP, FN, TP) = (357, 4, 10, 205): 205 / 209, 205 / 215, 410 / 424; 562 / 576.
    labels = np.repeat([False, False, True, True], [357, 4, 10, 205])
    decisions = np.repeat([False, True, False, True], [357, 4, 10, 205])
    rows = {row["name"]: row for row in tabulate_classes(labels, decisions)}
    assert list(rows) == ["no tumor", "tumor", "accuracy", "macro avg", "weighted avg"]
    expected = {"name": "tumor", "precision": 205 / 209, "recall": 205 / 215, "f1": 410 / 424, "support": 215}
    assert rows["tumor"] == pytest.approx(expected)
    assert rows["accuracy"] == {"name": "accuracy", "precision": None, "recall": None, "f1": 562 / 576, "support": 576}
    assert rows["no tumor"]["recall"] == pytest.approx(357 / 361)


def test_tabulate_classes__one_class_only() -> None:
    rows = {row["name"]: row for row in tabulate_classes(np.zeros(3, bool), np.zeros(3, bool))}
    assert rows["tumor"] == {"name": "tumor", "precision": None, "recall": None, "f1": None, "support": 0}
    assert rows["no tumor"]["recall"] == 1


def test_trace_roc__perfect_gate() -> None:
    curve = trace_roc(np.array([False, True]), np.array([0.2, 0.8]))
    assert curve[["false_positive_rate", "true_positive_rate"]].to_numpy().tolist() == [[0, 0], [0, 1], [1, 1]]
    assert np.isnan(curve["threshold"][0])


def test_trace_curves__nothing_to_draw() -> None:
    assert trace_roc(np.ones(3, bool), np.array([0.1, 0.2, 0.3])).empty
    assert trace_precision_recall(np.zeros(3, bool), np.array([0.1, 0.2, 0.3])).empty


def test_bin_probabilities__equals_scikit_learn() -> None:
    rng = np.random.default_rng(4)
    probabilities = rng.random(300)
    labels = rng.random(300) < probabilities
    table = bin_probabilities(probabilities, labels)
    shares, means = calibration_curve(labels, probabilities, n_bins=15, strategy="quantile")
    assert table["tumor_share"].tolist() == pytest.approx(shares.tolist())
    assert table["mean_probability"].tolist() == pytest.approx(means.tolist())
    assert table["num_slices"].tolist() == [20] * 15


def test_measure_calibration_error__equal_probabilities_share_a_bin() -> None:
    # Everybody gets 0.5 and half have tumor: perfectly calibrated, in whatever order the slices come.
    assert measure_calibration_error(np.full(40, 0.5), np.repeat([False, True], 20)) == 0


def test_measure_calibration_error__by_hand() -> None:
    # Four slices, four bins: |0.1 - 0|, |0.2 - 1|, |0.8 - 1|, |0.9 - 1| -> (0.1 + 0.8 + 0.2 + 0.1) / 4 = 0.3.
    error = measure_calibration_error(np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, True, True, True]))
    assert error == pytest.approx(0.3)
