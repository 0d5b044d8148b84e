"""All figures of the report, rendered."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from tumor_cascade.data.volumes import Volume
from tumor_cascade.evaluation import figures as plots
from tumor_cascade.evaluation.cohort import Evaluation
from tumor_cascade.evaluation.pictures import (
    Choice,
    Picture,
    choose_examples,
    choose_patients,
    plot_examples,
    plot_outcomes,
    read_pictures,
)
from tumor_cascade.evaluation.scores import ORACLE
from tumor_cascade.evaluation.statistics import Estimate, Summary


def render_figures(
    evaluation: Evaluation,
    tables: Mapping[str, pd.DataFrame],
    summary: Summary,
    decision_thresholds: Sequence[float],
    num_examples: int,
    load_volume: Callable[[str], Volume],
) -> dict[str, bytes]:
    """Return all figures of the report as PNG, by name.

    Args:
        evaluation: Raw scores.
        tables: Curves `roc`, `precision_recall`, `calibration`, `dice_by_threshold`.
        summary: Of `summarize_evaluation`.
        decision_thresholds: Of the cascade; several where each fold has its own.
        num_examples: Example slices to show.
        load_volume: Reads a patient's volume.
    """

    def get(name: str) -> float | None:
        value = summary[name]
        return value.value if isinstance(value, Estimate) else value

    names = ("true_negatives", "false_positives", "false_negatives", "true_positives")
    counts = [get(f"cascade/num_{name}") for name in names]
    sensitivity, specificity, precision, base = (
        get(f"cascade/{name}") for name in ("sensitivity", "specificity", "precision", "positive_share")
    )
    false_positive_rate = None if specificity is None else 1 - specificity

    def picture(choices: list[Choice]) -> list[Picture]:
        return read_pictures(choices, evaluation.packed_masks, load_volume)

    figures = {
        "confusion_matrix": plots.plot_confusion_matrix(np.array(counts, dtype=int).reshape(2, 2)),
        "roc": plots.plot_roc(tables["roc"], (false_positive_rate, sensitivity)),
        "precision_recall": plots.plot_precision_recall(
            tables["precision_recall"], (sensitivity, precision), base or 0
        ),
        "calibration": plots.plot_calibration(tables["calibration"]),
        "dice_per_patient": plots.plot_dice_per_patient(evaluation.patients),
        "dice_by_threshold": plots.plot_dice_by_threshold(
            tables["dice_by_threshold"],
            decision_thresholds,
            {"segmenter alone": get("segmenter/volume_dice"), "perfect decision": get(f"{ORACLE}/volume_dice")},
        ),
        "outcomes": plot_outcomes(picture(choose_patients(evaluation.patients, evaluation.slices))),
        "examples": plot_examples(picture(choose_examples(evaluation.slices, num_examples))),
    }
    return {name: plots.render_png(figure) for name, figure in figures.items()}
