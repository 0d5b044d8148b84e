"""The figure of the gate's variants: what is lost as fewer slices keep their masks."""

import pandas as pd
from matplotlib.figure import Figure

from tumor_cascade.evaluation.figures import BLUE, GREEN, GREY, ORANGE

MIN_SENSITIVITY = 0.8  # with fewer slices kept no score is worth a look
# By score, so that a figure without the slice head keeps the colours of the others.
STYLES = {
    "tuned": (BLUE, ":"),
    "smoothed": (BLUE, "-"),
    "segmenter": (ORANGE, ":"),
    "segmenter_smoothed": (ORANGE, "-"),
    "slice_head": ("#CC79A7", "-"),
    "combined": (GREEN, "-"),
}


def plot_gates(curves: pd.DataFrame, variants: pd.DataFrame) -> Figure:
    """Return mean volume Dice and sensitivity against the share of slices that keep their masks, where it is not small.

    Args:
        curves: Of `trace_gates`.
        variants: Of `compare_gates`: the level of no gate, and a mark for the cascade.
    """
    figure = Figure(figsize=(9.5, 4.6), layout="constrained")
    pair = figure.subplots(1, 2)
    shown = curves[curves["sensitivity"] >= MIN_SENSITIVITY]
    for axes, column, label in zip(
        pair, ("volume_dice", "sensitivity"), ("Mean volume Dice", "Share of tumor slices kept"), strict=True
    ):
        for score, rows in shown.groupby("score", sort=False):
            color, line = STYLES[str(score)]
            axes.plot(rows["kept_share"], rows[column], color=color, linestyle=line, label=rows["title"].iloc[0])
        axes.axhline(variants.loc["none", column], color=GREY, linestyle="--", linewidth=1, label="No gate")
        axes.plot(*variants.loc["cascade", ["kept_share", column]], "D", color="black", label="Cascade as it is")
        axes.set(xlabel="Share of slices that keep their mask", ylabel=label)
        axes.grid(alpha=0.3)
    figure.legend(*pair[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure
