"""Figures of the report: each function returns a matplotlib figure, `render_png` its bytes, equal for equal input."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tumor_cascade.evaluation.detection import CLASS_NAMES

# Okabe & Ito's palette: told apart with any colour vision, and by shade in print.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#6B7280"
DPI = 130
MAX_NAMED_PATIENTS = 40
THRESHOLD_TICKS = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)


def render_png(figure: Figure) -> bytes:
    """Return a figure as PNG without a note of the software that made it."""
    stream = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
    return stream.getvalue()


def plot_confusion_matrix(counts: Any) -> Figure:
    """Return the confusion matrix of the cascade's decisions.

    Args:
        counts: int `(2, 2)`, rows truth, columns decision, both in order no tumor, tumor.
    """
    counts = np.asarray(counts)
    figure, axes = start_figure((4.2, 3.8))
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        text = f"{count:,}\n{shares[row, column]:.1%}" if totals[row, 0] else f"{count:,}"
        color = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=12)
    axes.set(xticks=[0, 1], yticks=[0, 1], xticklabels=CLASS_NAMES, xlabel="Cascade says", ylabel="Truth")
    axes.set_yticklabels(CLASS_NAMES, rotation=90, va="center")
    axes.spines[:].set_visible(False)
    return figure


def plot_roc(roc: pd.DataFrame, operating_point: tuple[float | None, float | None]) -> Figure:
    """Return the ROC curve with the cascade's operating point (false and true positive rate)."""
    figure, axes = start_figure((4.6, 4.2))
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="chance")
    draw_curve(axes, roc, "false_positive_rate", "true_positive_rate", "needs slices of both classes")
    mark_point(axes, operating_point)
    axes.set(xlabel="False positive rate (1 - specificity)", ylabel="True positive rate (sensitivity)")
    return finish_unit_square(figure, axes)


def plot_precision_recall(
    curve: pd.DataFrame, operating_point: tuple[float | None, float | None], base: float
) -> Figure:
    """Return the precision-recall curve with the operating point and the share of tumor slices as base line."""
    figure, axes = start_figure((4.6, 4.2))
    axes.axhline(base, color=GREY, linestyle=":", label=f"share of tumor slices {base:.2f}")
    draw_curve(axes, curve, "recall", "precision", "needs tumor slices")
    mark_point(axes, operating_point)
    axes.set(xlabel="Recall (sensitivity)", ylabel="Precision")
    return finish_unit_square(figure, axes)


def plot_calibration(table: pd.DataFrame) -> Figure:
    """Return the reliability diagram: a dot per bin of equal mass."""
    figure, axes = start_figure((4.6, 4.2))
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="perfectly calibrated")
    axes.plot(table["mean_probability"], table["tumor_share"], color=BLUE, marker="o", label="cascade")
    axes.set(xlabel="Mean probability of a bin", ylabel="Share of tumor slices in the bin")
    return finish_unit_square(figure, axes)


def plot_dice_per_patient(patients: pd.DataFrame) -> Figure:
    """Return the cascade's volume Dice of each patient with tumor, sorted, beside the segmenter alone."""
    ranked = patients.dropna(subset=["cascade_volume_dice"]).sort_values("cascade_volume_dice", kind="stable")
    figure, axes = start_figure((8.5, 3.8))
    positions = np.arange(len(ranked))
    axes.bar(positions, ranked["cascade_volume_dice"], color=BLUE, width=0.8, label="cascade")
    axes.plot(positions, ranked["segmenter_volume_dice"], "o", color=ORANGE, markersize=4, label="segmenter alone")
    if len(ranked):
        mean = float(ranked["cascade_volume_dice"].mean())
        axes.axhline(mean, color="black", linestyle="--", linewidth=1, label=f"mean of the cascade {mean:.3f}")
    else:
        tell_undefined(axes, "needs patients with tumor")
    is_named = len(ranked) <= MAX_NAMED_PATIENTS
    axes.set(ylim=(0, 1), ylabel="Volume Dice", xlabel="" if is_named else "Patients, sorted", xticks=[])
    if is_named:
        axes.set_xticks(positions, [str(name) for name in ranked.index], rotation=60, ha="right", fontsize=7)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return figure


def plot_dice_by_threshold(
    curve: pd.DataFrame, decision_thresholds: Sequence[float], references: Mapping[str, float | None]
) -> Figure:
    """Return mean volume Dice, sensitivity and specificity against the decision threshold.

    Args:
        curve: Of `trace_thresholds`.
        decision_thresholds: Of the cascade; several where each fold has its own.
        references: Volume Dice of others, by name; drawn as level lines where defined.
    """
    inner = curve[(curve["threshold"] > 0) & (curve["threshold"] < 1)]
    figure = Figure(figsize=(6.5, 4.9), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    upper.plot(inner["threshold"], inner["volume_dice"], color=BLUE, label="cascade")
    for (name, dice), style in zip(references.items(), ((ORANGE, "--"), (GREEN, ":")), strict=True):
        if dice is not None:
            upper.axhline(dice, color=style[0], linestyle=style[1], label=name)
    for name, color in (("sensitivity", BLUE), ("specificity", ORANGE)):
        lower.plot(inner["threshold"], inner[name], color=color, label=name)
    shown = [value for value in decision_thresholds if 0 < value < 1]
    for axes in (upper, lower):
        for number, threshold in enumerate(shown):
            label = f"threshold {' to '.join(f'{value:.3g}' for value in sorted({min(shown), max(shown)}))}"
            axes.axvline(threshold, color="black", linewidth=1, label="" if number else label)
        axes.set_xscale("logit")
        axes.grid(alpha=0.3)
        axes.legend(loc="lower left", framealpha=0.95)
    upper.set(ylabel="Mean volume Dice", ylim=(0, 1))
    lower.set(ylabel="Share of slices", ylim=(0, 1.02), xlabel="Decision threshold on the slice's probability")
    lower.set_xticks(THRESHOLD_TICKS, [f"{tick:g}" for tick in THRESHOLD_TICKS])
    lower.minorticks_off()
    return figure


def start_figure(size_in: tuple[float, float]) -> tuple[Figure, Axes]:
    """Return a figure that belongs to no global state, and its one axes."""
    figure = Figure(figsize=size_in, layout="constrained")
    return figure, figure.subplots()


def draw_curve(axes: Axes, curve: pd.DataFrame, x: str, y: str, need: str) -> None:
    """Draw a curve, or what it would need to exist."""
    if len(curve):
        axes.plot(curve[x], curve[y], color=BLUE, label="cascade")
    else:
        tell_undefined(axes, need)


def tell_undefined(axes: Axes, need: str) -> None:
    """Write into empty axes why there is nothing in them."""
    axes.text(0.5, 0.5, f"undefined: {need}", transform=axes.transAxes, ha="center", color=GREY)


def mark_point(axes: Axes, point: tuple[float | None, float | None]) -> None:
    """Mark the operating point where it is defined."""
    x, y = point
    if x is not None and y is not None:
        axes.plot(x, y, "D", color=ORANGE, label="chosen threshold")


def finish_unit_square(figure: Figure, axes: Axes) -> Figure:
    """Give both axes the range 0 to 1 and return the figure."""
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", framealpha=0.95)
    return figure
