"""Curves of a training, as data and as a picture."""

from pathlib import Path

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

CURVES_NAME = "curves"


def write_curves(history: list[dict[str, float]], best_epoch: int, title: str, out_dir: Path) -> None:
    """Write curves.csv, a row per epoch, and curves.png: a panel per metric, training against validation.

    Args:
        history: One row per epoch: `epoch`, `train_<metric>`, `val_<metric>`.
        best_epoch: Marked by a line.
        title: Above the picture.
        out_dir: Existing folder.
    """
    table = pd.DataFrame(history)
    table = table[["epoch", *sorted(column for column in table.columns if column != "epoch")]]
    table.to_csv(out_dir / f"{CURVES_NAME}.csv", index=False, float_format="%.6g")
    metrics = sorted({column.split("_", 1)[1] for column in table.columns if column != "epoch"})
    figure = Figure(figsize=(4 * len(metrics), 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        for split, color in (("train", "tab:blue"), ("val", "tab:orange")):
            if f"{split}_{metric}" in table:
                axes.plot(table["epoch"], table[f"{split}_{metric}"], color=color, marker=".", label=split)
        axes.axvline(best_epoch, color="0.6", linestyle="--", linewidth=1, label="best")
        axes.set(xlabel="epoch", title=metric)
        axes.legend()
    figure.suptitle(title)
    figure.savefig(out_dir / f"{CURVES_NAME}.png", dpi=100, metadata={"Software": None})
