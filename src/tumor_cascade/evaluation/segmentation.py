"""Segmentation metrics of one model's masks, averaged over patients or pooled, with intervals over patients.

Empty masks: a Dice with empty truth is undefined and stays out of every mean (never 1); what a model marks there is
counted as false pixels and as specificity. A tumor slice without any mask scores Dice 0.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tumor_cascade.evaluation.scores import list_slice_scores
from tumor_cascade.evaluation.statistics import (
    Bootstrap,
    Floats,
    Statistic,
    Summary,
    mean_of,
    quantile_of,
    ratio_of,
    share_of,
)
from tumor_cascade.evaluation.strata import assign_strata, name_strata


def summarize_segmentation(
    model: str, patients: pd.DataFrame, slices: pd.DataFrame, area_edges_px: Sequence[int], bootstrap: Bootstrap
) -> Summary:
    """Return the metrics of one model.

    Args:
        model: One of `scores.MODELS`.
        patients: Table of `summarize_patients`, with lesion counts.
        slices: Per-slice table.
        area_edges_px: Edges between tumor-area strata.
        bootstrap: Resamples of the table's patients, in its order.
    """
    columns = {
        str(name).removeprefix(f"{model}_"): patients[name].to_numpy(float)
        for name in patients
        if str(name).startswith(f"{model}_")
    }
    statistics = {
        **describe_volumes(columns["volume_dice"], columns["volume_error"]),
        **{name: mean_of(columns[name]) for name in list_slice_scores(slices)},
        **describe_pooled(columns, patients),
        **describe_tumor_free(columns, patients),
        **describe_lesions(columns, patients["num_lesions"].to_numpy(float)),
    }
    dice_by_stratum = average_by_stratum(slices, f"{model}_slice_dice", area_edges_px)
    for name in dice_by_stratum:
        statistics[f"slice_dice_{name}"] = mean_of(dice_by_stratum[name])
    summary: Summary = {name: bootstrap.estimate(statistic) for name, statistic in statistics.items()}
    summary["num_unmarked_tumor_slices"] = int(columns["unmarked_tumor_slices"].sum())
    return summary


def describe_volumes(dice: Floats, error: Floats) -> dict[str, Statistic]:
    """Return statistics of the volume Dice and the relative volume error `(P,)`."""
    return {
        "volume_dice": mean_of(dice),
        "volume_dice_median": quantile_of(dice, 0.5),
        "volume_dice_q1": quantile_of(dice, 0.25),
        "volume_dice_q3": quantile_of(dice, 0.75),
        "volume_dice_below_half_share": share_of(dice < 0.5, ~np.isnan(dice)),
        "volume_error": mean_of(error),
        "volume_error_absolute": mean_of(np.abs(error)),
    }


def describe_pooled(columns: dict[str, Floats], patients: pd.DataFrame) -> dict[str, Statistic]:
    """Return statistics of pixels counted over all slices of all patients: one Dice D and IoU J, D = 2 J / (1 + J)."""
    hit, predicted, tumor = columns["hit_px"], columns["px"], patients["tumor_px"].to_numpy(float)
    return {
        "pooled_dice": ratio_of(2 * hit, tumor + predicted),
        "pooled_iou": ratio_of(hit, tumor + predicted - hit),
        "pooled_precision": ratio_of(hit, predicted),
        "pooled_recall": ratio_of(hit, tumor),
    }


def describe_tumor_free(columns: dict[str, Floats], patients: pd.DataFrame) -> dict[str, Statistic]:
    """Return statistics of slices with empty truth, where every marked pixel is false."""
    num_free = (patients["num_slices"] - patients["num_tumor_slices"]).to_numpy(float)
    free_px = patients["tumor_free_px"].to_numpy(float)
    return {
        "clean_slice_share": ratio_of(columns["clean_slices"], num_free),
        "false_px_per_tumor_free_slice": ratio_of(columns["tumor_free_slice_px"], num_free),
        "pixel_specificity": ratio_of(free_px - columns["tumor_free_slice_px"], free_px),
    }


def describe_lesions(columns: dict[str, Floats], num_lesions: Floats) -> dict[str, Statistic]:
    """Return lesion-wise statistics; undefined where any patient's volume is scored in part only."""
    found, false = columns["lesions_found"], columns["false_lesions"]
    return {
        "lesion_sensitivity": ratio_of(found, num_lesions),
        "lesion_f1": ratio_of(2 * found, num_lesions + found + false),
        "false_lesions_per_volume": ratio_of(false, np.ones_like(false)),
    }


def average_by_stratum(slices: pd.DataFrame, score: str, area_edges_px: Sequence[int]) -> pd.DataFrame:
    """Return a score's mean over each patient's tumor slices of a stratum, NaN where there are none.

    Returns:
        A row per patient in sorted order, a column per stratum.
    """
    names = name_strata(area_edges_px)
    tumor_slices = slices[slices["has_tumor"]]
    strata = np.array(names)[assign_strata(tumor_slices["tumor_px"], area_edges_px)]
    means = tumor_slices.assign(stratum=strata).pivot_table(score, "patient_id", "stratum", aggfunc="mean")
    return means.reindex(index=sorted(slices["patient_id"].unique()), columns=names)
