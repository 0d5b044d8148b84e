"""Block S: the metrics of the study that this cascade follows, as its code counts them. For comparison only.

Everything is a function of the per-slice table that `evaluate_cascade` writes (`per_slice.csv`). S2 needs two more
columns there, sums over the pixels of a slice of the segmenter's probability p and of p on tumor:

    segmenter_soft_px = sum(p)    segmenter_soft_hit_px = sum(p x truth)

Without them S2 is left out. The study predicted its test images in full batches of 16 and dropped the rest; which
images these are depends on their order, so slices are shuffled first, as its generator had them.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import classification_report, confusion_matrix

from tumor_cascade.evaluation.statistics import divide

BATCH_SIZE = 16
FN_WEIGHT, FP_WEIGHT, SMOOTHING = 0.7, 0.3, 1e-6  # of the study's Tversky index
SOFT_COLUMNS = ("segmenter_soft_px", "segmenter_soft_hit_px")
CLASSES = ("tumor_free", "tumor")
NUM_DIGITS = 6

# What the study prints: Dice and IoU of its ResUNet, and of its classifier the accuracy and the row of tumor-free
# images in Table I, in percent, over so many test images.
PRINTED_DICE, PRINTED_IOU = 0.98, 0.95
PRINTED_PERCENT = {"precision": 97, "recall": 99, "f1": 98, "accuracy": 98}
NUM_TUMOR_FREE, NUM_TUMOR = 361, 215

Floats = NDArray[np.float64]
Scores = dict[str, float | int | None]


def summarize_study(slices: pd.DataFrame, seed: int) -> dict[str, Scores]:
    """Return S1 to S7 of an evaluation.

    Args:
        slices: The per-slice table of `evaluate_cascade`.
        seed: Of the order in which slices are put into batches.

    Returns:
        Metric -> its values by name; None where undefined (no tumor slices).
    """
    shuffled = slices.iloc[np.random.default_rng(seed).permutation(len(slices))]
    tumor = shuffled[shuffled["has_tumor"].astype(bool)]
    oracle = slices[["tumor_px", "segmenter_px", "segmenter_hit_px"]].where(slices["tumor_px"] > 0, 0)
    on_tumor = tumor[["tumor_px", "segmenter_px", "segmenter_hit_px"]].to_numpy(float).T
    cascade = slices[["tumor_px", "cascade_px", "cascade_hit_px"]].to_numpy(float).T
    size = slices["num_px"].to_numpy(float)
    found: dict[str, dict[str, Any]] = {
        "S1": report_classes(shuffled[: count_batched(len(shuffled))]),
        "S1_all": report_classes(shuffled),
        "S2": {"tversky": pool_batches(tumor)} if set(SOFT_COLUMNS) <= set(slices) else {},
        "S3": overlap_scores(*on_tumor.sum(axis=1)) if len(tumor) else {"dice": np.nan, "iou": np.nan},
        "S4": {name: average(scores) for name, scores in overlap_scores(*on_tumor).items()},
        "S5": {name: average(scores) for name, scores in overlap_scores(*cascade).items()},
        "S5o": {name: average(scores) for name, scores in overlap_scores(*oracle.to_numpy(float).T).items()},
        "S6": score_both_classes(*cascade.sum(axis=1), num_px=size.sum()),
        "S7": {"pixel_accuracy": 1 - count_errors(*cascade.sum(axis=1)) / size.sum()},
    }
    return {name: {key: round_score(value) for key, value in scores.items()} for name, scores in found.items()}


def count_batched(num_images: int) -> int:
    """Return how many images stand in full batches; all, where there is no full one."""
    return num_images // BATCH_SIZE * BATCH_SIZE or num_images


def report_classes(slices: pd.DataFrame) -> dict[str, Any]:
    """Return S1: precision, recall and F1 of both classes, accuracy, and the confusion matrix behind them."""
    truth, decision = slices["has_tumor"].astype(int), slices["is_positive"].astype(int)
    report = classification_report(
        truth, decision, labels=[0, 1], target_names=CLASSES, output_dict=True, zero_division=np.nan
    )
    names = {"precision": "precision", "recall": "recall", "f1": "f1-score"}
    counts = confusion_matrix(truth, decision, labels=[0, 1])
    return {
        "num_images": len(slices),
        "accuracy": float((truth == decision).mean()),
        **{f"{of}_{name}": report[of][key] for of in CLASSES for name, key in names.items()},
        **dict(zip(("tn", "fp", "fn", "tp"), map(int, counts.ravel()), strict=True)),
    }


def pool_batches(tumor: pd.DataFrame) -> float:
    """Return S2: the soft Tversky index of each batch of 16 tumor slices, pooled over its pixels, mean over batches.

    Source: TI = (TP + s) / (TP + 0.7 FN + 0.3 FP + s), s = 1e-6, as in the study. Only full batches, if there is one.
    """
    batched = tumor[: count_batched(len(tumor))]
    sums = batched[["tumor_px", *SOFT_COLUMNS]].groupby(np.arange(len(batched)) // BATCH_SIZE).sum()
    truth, soft, hits = sums.to_numpy(float).T
    missed, wrong = truth - hits, soft - hits
    return average((hits + SMOOTHING) / (hits + FN_WEIGHT * missed + FP_WEIGHT * wrong + SMOOTHING))


def overlap_scores(truth_px: ArrayLike, px: ArrayLike, hit_px: ArrayLike) -> dict[str, Floats]:
    """Return Dice and IoU of counts of any shape: two empty masks agree (1), one empty mask of two does not (0)."""
    truth, found, hits = (np.asarray(count, dtype=float) for count in (truth_px, px, hit_px))
    dice = np.where(truth + found > 0, divide(2 * hits, truth + found), 1.0)
    iou = np.where(truth + found > 0, divide(hits, truth + found - hits), 1.0)
    assert np.allclose(dice, dice_of_iou(iou)), "Dice = 2 IoU / (1 + IoU) holds for any one pair of counts"
    return {"dice": dice, "iou": iou}


def dice_of_iou(iou: ArrayLike) -> Floats:
    """Return the Dice coefficient that goes with an IoU of the same counts: 2J / (1 + J)."""
    values: Floats = np.asarray(iou, dtype=float)
    dice: Floats = 2 * values / (1 + values)
    return dice


def score_both_classes(truth_px: float, px: float, hit_px: float, *, num_px: float) -> dict[str, Any]:
    """Return S6: the mean of the scores of tumor and background, pooled over all slices."""
    background_hits = num_px - truth_px - px + hit_px
    tumor = overlap_scores(truth_px, px, hit_px)
    background = overlap_scores(num_px - truth_px, num_px - px, background_hits)
    return {name: (tumor[name] + background[name]) / 2 for name in tumor}


def count_errors(truth_px: float, px: float, hit_px: float) -> float:
    """Return the pixels on which truth and prediction differ."""
    return truth_px + px - 2 * hit_px


def find_matrices() -> pd.DataFrame:
    """Return every confusion matrix of 361 + 215 images whose rounded figures are those that the study prints.

    The rule: precision, recall and F1 of the tumor-free images and the accuracy, each rounded to a whole percent, equal
    97, 99, 98 and 98. All 362 x 216 matrices are tried.

    Returns:
        Columns `tn`, `fp`, `fn`, `tp` and `tumor_recall`.
    """
    tn, tp = (axis.ravel() for axis in np.mgrid[: NUM_TUMOR_FREE + 1, : NUM_TUMOR + 1])
    fp, fn = NUM_TUMOR_FREE - tn, NUM_TUMOR - tp
    figures = {
        "precision": divide(tn, tn + fn),
        "recall": tn / NUM_TUMOR_FREE,
        "f1": divide(2 * tn, 2 * tn + fn + fp),
        "accuracy": (tn + tp) / (NUM_TUMOR_FREE + NUM_TUMOR),
    }
    fits = np.all([np.round(100 * figures[name]) == percent for name, percent in PRINTED_PERCENT.items()], axis=0)
    matrices = pd.DataFrame({"tn": tn, "fp": fp, "fn": fn, "tp": tp, "tumor_recall": tp / NUM_TUMOR})
    return matrices[fits].reset_index(drop=True)


def bound_f1(p: int, r: int) -> tuple[float, float]:
    """Return the smallest and largest F1 of a precision and a recall that round to `p` and `r` percent."""
    low, high = (
        2 * precision * recall / (precision + recall)
        for precision, recall in (((p + half) / 100, (r + half) / 100) for half in (-0.5, 0.5))
    )
    return low, high


def average(scores: Floats) -> float:
    """Return the mean, NaN of nothing."""
    return float(np.mean(scores)) if len(scores) else np.nan


def round_score(value: Any) -> float | int | None:
    """Return a plain number for JSON, None where it is undefined."""
    if isinstance(value, int):
        return value
    return None if np.isnan(value) else round(float(value), NUM_DIGITS)
