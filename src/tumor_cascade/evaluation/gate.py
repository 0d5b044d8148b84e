"""The cascade as a whole: what gate and decision cost and save, against none and one that never errs."""

import numpy as np
import pandas as pd

from tumor_cascade.evaluation.kept_masks import KeptMasks
from tumor_cascade.evaluation.scores import MODELS, ORACLE
from tumor_cascade.evaluation.statistics import Bootstrap, Summary, divide, mean_of, ratio_of

# Even steps of the log odds: calibrated probabilities crowd near 0 and 1. From 0.0001 to 0.9999, with 0 and 1.
LOG_ODDS = np.linspace(-9, 9, 73)
THRESHOLDS = np.concatenate([[0.0], 1 / (1 + np.exp(-LOG_ODDS)), [1.0]])


def summarize_gate(patients: pd.DataFrame, bootstrap: Bootstrap) -> Summary:
    """Return what gate and decision together cost and save, with intervals over patients.

    Args:
        patients: Table of `summarize_patients`.
        bootstrap: Resamples of the table's patients, in its order.

    Returns:
        `gate_volume_dice_gain` (cascade less segmenter alone, paired), `gate_volume_dice_short_of_oracle` (a decision
        that never errs less cascade, paired), `gate_lost_tumor_share` (of all tumor pixels, on slices called negative),
        `gate_lost_hit_px` (tumor pixels that the segmenter finds and the cascade does not), `gate_removed_false_px` and
        `gate_removed_false_share` (of the segmenter's false pixels), `gate_skipped_slice_share` (not
        segmented) and `gate_kept_tumor_slice_share` (of the tumor slices, segmented).
    """
    table = {str(name): patients[name].to_numpy(float) for name in patients.select_dtypes("number")}
    dice = {model: table[f"{model}_volume_dice"] for model in (*MODELS, ORACLE)}
    lost_hits = table["segmenter_hit_px"] - table["cascade_hit_px"]
    false_alone = table["segmenter_px"] - table["segmenter_hit_px"]
    removed = false_alone - (table["cascade_px"] - table["cascade_hit_px"])
    skipped = table["num_slices"] - table["num_segmented_slices"]
    return {
        "gate_volume_dice_gain": bootstrap.estimate(mean_of(dice["cascade"] - dice["segmenter"])),
        "gate_volume_dice_short_of_oracle": bootstrap.estimate(mean_of(dice[ORACLE] - dice["cascade"])),
        "gate_lost_tumor_share": bootstrap.estimate(ratio_of(table["missed_tumor_px"], table["tumor_px"])),
        "gate_lost_hit_px": int(lost_hits.sum()),
        "gate_removed_false_px": int(removed.sum()),
        "gate_removed_false_share": bootstrap.estimate(ratio_of(removed, false_alone)),
        "gate_skipped_slice_share": bootstrap.estimate(ratio_of(skipped, table["num_slices"])),
        "gate_kept_tumor_slice_share": bootstrap.estimate(
            ratio_of(table["num_segmented_tumor_slices"], table["num_tumor_slices"])
        ),
    }


def trace_thresholds(slices: pd.DataFrame) -> pd.DataFrame:
    """Return the cascade's mean volume Dice as its decision threshold moves, a row per threshold in rising order.

    A segmented slice keeps its mask where its probability reaches the threshold. Patients without tumor are left out.

    Returns:
        Columns `threshold`, `volume_dice`, `sensitivity`, `specificity`; NaN where undefined.
    """
    is_open, has_tumor = slices["gate_is_open"].to_numpy(bool), slices["has_tumor"].to_numpy(bool)
    passes = is_open & (slices["probability"].to_numpy(float)[None] >= THRESHOLDS[:, None])  # (T, S)
    masks = KeptMasks.from_table(slices)
    dice = np.stack([masks.measure_dice(is_kept) for is_kept in passes])  # (T, P)
    is_defined = ~np.isnan(dice)
    return pd.DataFrame(
        {
            "threshold": THRESHOLDS,
            "volume_dice": divide(np.where(is_defined, dice, 0).sum(axis=1), is_defined.sum(axis=1)),
            "sensitivity": divide((passes & has_tumor).sum(axis=1), has_tumor.sum()),
            "specificity": divide((~passes & ~has_tumor).sum(axis=1), (~has_tumor).sum()),
        }
    )
