"""Slice detection: does the cascade know which slices show tumor?"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import classification_report, precision_recall_curve, roc_curve

from tumor_cascade.evaluation.statistics import (
    Bootstrap,
    Floats,
    Summary,
    auroc_of,
    average_precision_of,
    divide,
    formula_of,
    mean_of,
    ratio_of,
)
from tumor_cascade.evaluation.strata import assign_strata, name_strata

NUM_CALIBRATION_BINS = 15
CLASS_NAMES = ("no tumor", "tumor")


def summarize_detection(slices: pd.DataFrame, area_edges_px: Sequence[int], bootstrap: Bootstrap) -> Summary:
    """Return the detection metrics of scored slices, with intervals over patients.

    Degenerate cases: what has no slice to be measured on (sensitivity without tumor slices, AUROC with one class,
    precision without a positive decision, MCC with an empty margin) is None, never 0 or 1.

    Args:
        slices: Per-slice table with `patient_id`, `has_tumor`, `is_positive`, `probability`, `tumor_px`.
        area_edges_px: Edges between tumor-area strata.
        bootstrap: Resamples of the table's patients, in sorted order.
    """
    labels, decisions = slices["has_tumor"].to_numpy(bool), slices["is_positive"].to_numpy(bool)
    probabilities = slices["probability"].to_numpy(float)
    patients = pd.factorize(slices["patient_id"], sort=True)[0]

    def add_up(values: Any) -> Floats:
        return np.bincount(patients, weights=np.asarray(values, dtype=float)).astype(float)

    tp, fp = add_up(labels & decisions), add_up(~labels & decisions)
    fn, tn = add_up(labels & ~decisions), add_up(~labels & ~decisions)
    total = tp + fp + fn + tn
    statistics = {
        "auroc": auroc_of(probabilities, labels, patients),
        "average_precision": average_precision_of(probabilities, labels, patients),
        "sensitivity": ratio_of(tp, tp + fn),
        "specificity": ratio_of(tn, tn + fp),
        "precision": ratio_of(tp, tp + fp),
        "f1": ratio_of(2 * tp, 2 * tp + fp + fn),
        "accuracy": ratio_of(tp + tn, total),
        "mcc": formula_of(correlate, tp, fp, fn, tn),
        "brier": ratio_of(add_up((probabilities - labels) ** 2), total),
        "missed_slices_per_patient": mean_of(fn),
    }
    summary: Summary = {name: bootstrap.estimate(statistic) for name, statistic in statistics.items()}
    summary["ece"] = measure_calibration_error(probabilities, labels)
    summary["positive_share"] = float(labels.mean())
    summary["majority_accuracy"] = float(max(labels.mean(), 1 - labels.mean()))
    counts = {"true_positives": tp, "false_positives": fp, "false_negatives": fn, "true_negatives": tn}
    summary |= {f"num_{name}": int(count.sum()) for name, count in counts.items()}
    strata = assign_strata(slices["tumor_px"].to_numpy(), area_edges_px)
    for number, name in enumerate(name_strata(area_edges_px)):
        is_inside = labels & (strata == number)
        summary[f"num_tumor_slices_{name}"] = int(is_inside.sum())
        summary[f"sensitivity_{name}"] = bootstrap.estimate(ratio_of(add_up(is_inside & decisions), add_up(is_inside)))
    return summary


def correlate(tp: Floats, fp: Floats, fn: Floats, tn: Floats) -> Floats:
    """Return Matthews' correlation coefficient; NaN where any margin of the table is empty."""
    return divide(tp * tn - fp * fn, np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)))


def tabulate_classes(labels: NDArray[np.bool_], decisions: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Return the rows of a classification report: per class, accuracy, macro and weighted mean.

    Returns:
        Rows with `name`, `precision`, `recall`, `f1`, `support`; None where undefined. The row "accuracy" holds it as
        its `f1`, as scikit-learn prints it.
    """
    report = classification_report(
        labels, decisions, labels=[False, True], target_names=CLASS_NAMES, output_dict=True, zero_division=np.nan
    )
    # With labels given, scikit-learn speaks of a micro average only if one is missing; both are here: accuracy.
    rows = []
    for name, row in report.items():
        if name == "accuracy":
            row = {"precision": np.nan, "recall": np.nan, "f1-score": row, "support": len(labels)}
        scores = {"precision": row["precision"], "recall": row["recall"], "f1": row["f1-score"]}
        defined = {key: None if np.isnan(value) else float(value) for key, value in scores.items()}
        rows.append({"name": name, **defined, "support": int(row["support"])})
    return rows


def trace_roc(labels: NDArray[np.bool_], probabilities: Floats) -> pd.DataFrame:
    """Return the ROC curve as `false_positive_rate`, `true_positive_rate`, `threshold`; no rows with one class only.

    The first row's threshold is NaN: nothing is called positive there.
    """
    columns = ["false_positive_rate", "true_positive_rate", "threshold"]
    if labels.all() or not labels.any():
        return pd.DataFrame(columns=columns, dtype=float)
    curve = pd.DataFrame(dict(zip(columns, roc_curve(labels, probabilities), strict=True)))
    return curve.replace(np.inf, np.nan)


def trace_precision_recall(labels: NDArray[np.bool_], probabilities: Floats) -> pd.DataFrame:
    """Return the precision-recall curve as `recall`, `precision`, `threshold`; no rows without tumor slices.

    The last row's threshold is NaN: the conventional end at recall 0 and precision 1.
    """
    if not labels.any():
        return pd.DataFrame(columns=["recall", "precision", "threshold"], dtype=float)
    precision, recall, thresholds = precision_recall_curve(labels, probabilities)
    return pd.DataFrame({"recall": recall, "precision": precision, "threshold": np.append(thresholds, np.nan)})


def bin_probabilities(probabilities: Floats, labels: NDArray[np.bool_]) -> pd.DataFrame:
    """Return the reliability table: 15 bins of equal mass, equal probabilities always in one bin, empty bins left out.

    Returns:
        Columns `mean_probability`, `tumor_share`, `num_slices`.
    """
    edges = np.quantile(probabilities, np.linspace(0, 1, NUM_CALIBRATION_BINS + 1))
    frame = pd.DataFrame({"bin": np.searchsorted(edges[1:-1], probabilities), "p": probabilities, "y": labels})
    groups = frame.groupby("bin")
    table = groups.agg(mean_probability=("p", "mean"), tumor_share=("y", "mean"), num_slices=("y", "size"))
    return table.reset_index(drop=True)


def measure_calibration_error(probabilities: Floats, labels: NDArray[np.bool_]) -> float:
    """Return the expected calibration error: mean distance of probability and tumor share over the bins' slices."""
    table = bin_probabilities(probabilities, labels)
    gaps = (table["mean_probability"] - table["tumor_share"]).abs()
    return float(np.average(gaps, weights=table["num_slices"]))
