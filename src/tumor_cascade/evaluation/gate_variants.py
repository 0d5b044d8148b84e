"""The gate judged: every way to say which slices show tumor, on the same masks, out-of-fold, with what it costs.

All is computed from the table `slices.csv` of `assemble_cascade`; no network is asked again. A variant keeps the
segmenter's masks on the slices that it calls positive; its thresholds and weights come from the other folds.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from tumor_cascade.evaluation.calibration import choose_threshold, fit_score_weights
from tumor_cascade.evaluation.gate_costs import Costs
from tumor_cascade.evaluation.kept_masks import KeptMasks
from tumor_cascade.evaluation.statistics import Bootstrap, Estimate, Floats, Statistic, auroc_of, mean_of
from tumor_cascade.evaluation.tuning import refuse_losses
from tumor_cascade.evaluation.validation import smooth_volumes

MAX_DICE_LOSS = 0.05  # a volume that loses more counts as lost


@dataclass(frozen=True)
class Variant:
    """A way to say which slices show tumor.

    Attributes:
        title: In words.
        is_kept: bool `(S,)`, whether a slice keeps its mask.
        scores: `(S,)`, higher means tumor; None where there is only a decision.
        is_segmented: bool `(S,)`, whether the segmenter has to run.
        has_classifier: Whether the classifier has to run.
    """

    title: str
    is_kept: NDArray[np.bool_]
    scores: Floats | None
    is_segmented: NDArray[np.bool_]
    has_classifier: bool


def list_variants(slices: pd.DataFrame, target_sensitivity: float, smoothing_slices: float) -> dict[str, Variant]:
    """Return all variants by name.

    Args:
        slices: `slices.csv` of `assemble_cascade`.
        target_sensitivity: That thresholds must keep of the tumor slices of the other folds, at no cost in volume Dice.
        smoothing_slices: Width of the Gaussian along the volume, in slices.
    """
    everywhere, labels = np.ones(len(slices), dtype=bool), slices["has_tumor"].to_numpy(bool)
    logits = slices["classifier_logit"].to_numpy(float)
    is_open, is_positive = slices["gate_is_open"].to_numpy(bool), slices["is_positive"].to_numpy(bool)
    shipped = slices["probability"].to_numpy(float)
    variants = {
        "none": Variant("No gate", everywhere, None, everywhere, False),
        "argmax": Variant("Classifier's class (argmax)", logits > 0, logits, logits > 0, True),
    }
    for name, (title, scores, has_classifier) in list_scores(slices, smoothing_slices).items():
        is_kept = cut_by_fold(slices, scores, target_sensitivity)
        # The classifier alone can spare the segmenter its work; the segmenter's own score has to be computed first.
        is_segmented = is_kept if name in ("tuned", "smoothed") else everywhere
        variants[name] = Variant(title, is_kept, scores, is_segmented, has_classifier)
    variants["cascade"] = Variant("Cascade: gate, then both scores", is_positive, shipped, is_open, True)
    variants["oracle"] = Variant("Gate that never errs", labels, None, labels, False)
    return variants


def list_scores(slices: pd.DataFrame, smoothing_slices: float) -> dict[str, tuple[str, Floats, bool]]:
    """Return slice scores by name: title, scores `(S,)`, whether the classifier has to run for them."""

    def smooth(column: str) -> Floats:
        return smooth_volumes(slices, column, smoothing_slices)

    scores = {
        "tuned": ("Classifier, tuned threshold", slices["classifier_logit"].to_numpy(float), True),
        "smoothed": ("Classifier, smoothed along the volume", smooth("classifier_logit"), True),
        "segmenter": ("Segmenter's own slice score", slices["segmenter_score"].to_numpy(float), False),
        "segmenter_smoothed": ("Segmenter's own slice score, smoothed", smooth("segmenter_score"), False),
    }
    if "slice_head_logit" in slices:
        scores["slice_head"] = ("Slice head on the segmenter's encoder, smoothed", smooth("slice_head_logit"), False)
    both = np.column_stack([scores["smoothed"][1], scores["segmenter_smoothed"][1]])
    return {**scores, "combined": ("Both scores combined, smoothed", combine_by_fold(slices, both), True)}


def compare_gates(
    slices: pd.DataFrame,
    costs: Costs,
    bootstrap: Bootstrap,
    *,
    target_sensitivity: float,
    smoothing_slices: float,
) -> pd.DataFrame:
    """Return a row per variant: how well it detects, what it does to volume Dice, what it saves.

    Args:
        slices: `slices.csv` of `assemble_cascade`.
        costs: Of both networks.
        bootstrap: Resamples of the table's patients.
        target_sensitivity: See `list_variants`.
        smoothing_slices: See `list_variants`.

    Returns:
        Indexed by `variant`: `title`; with `_low` and `_high` beside them `auroc`, `volume_dice` and `volume_dice_gain`
        (to no gate, paired by patient); `kept_share` (of all slices, called positive), `sensitivity`, `specificity`,
        `accuracy`; `num_lost_volumes` (Dice 0, or more than 0.05 below that without a gate), `lost_tumor_px` and
        `removed_false_px` (against no gate), `skipped_share` (of all slices, not segmented), `relative_cost` (time over
        that of segmenting every slice). What is undefined is NaN.
    """
    masks, owners = KeptMasks.from_table(slices), pd.factorize(slices["patient_id"], sort=True)[0]
    labels = slices["has_tumor"].to_numpy(bool)
    hits, px = slices["segmenter_hit_px"].to_numpy(), slices["segmenter_px"].to_numpy()
    without = masks.measure_dice(np.ones_like(labels))
    rows = {}
    for name, variant in list_variants(slices, target_sensitivity, smoothing_slices).items():
        kept, dice = variant.is_kept, masks.measure_dice(variant.is_kept)
        auroc = None if variant.scores is None else auroc_of(variant.scores, labels, owners)
        segmented_share = float(variant.is_segmented.mean())
        rows[name] = {
            "title": variant.title,
            **describe("auroc", auroc, bootstrap),
            "kept_share": float(kept.mean()),
            "sensitivity": float(kept[labels].mean()),
            "specificity": float(1 - kept[~labels].mean()),
            "accuracy": float((kept == labels).mean()),
            **describe("volume_dice", mean_of(dice), bootstrap),
            **describe("volume_dice_gain", mean_of(dice - without), bootstrap),
            "num_lost_volumes": int(((dice < without - MAX_DICE_LOSS) | ((dice == 0) & (without > 0))).sum()),
            "lost_tumor_px": int(hits[~kept].sum()),
            "removed_false_px": int((px - hits)[~kept].sum()),
            "skipped_share": 1 - segmented_share,
            "relative_cost": variant.has_classifier * costs.classifier_ms / costs.segmenter_ms + segmented_share,
        }
    rows["oracle"]["relative_cost"] = np.nan  # nobody can build it
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("variant")


def trace_gates(slices: pd.DataFrame, smoothing_slices: float, num_points: int = 101) -> pd.DataFrame:
    """Return mean volume Dice and sensitivity as ever more slices keep their masks, by each score's own order.

    Returns:
        Columns `score`, `title`, `kept_share`, `volume_dice`, `sensitivity`.
    """
    masks, labels = KeptMasks.from_table(slices), slices["has_tumor"].to_numpy(bool)
    counts = np.unique(np.linspace(1, len(slices), num_points).astype(int))
    rows = []
    for name, (title, scores, _) in list_scores(slices, smoothing_slices).items():
        ranks = np.empty(len(slices), dtype=int)
        ranks[np.argsort(-scores, kind="stable")] = np.arange(len(slices))
        for count in counts:
            kept = ranks < count
            dice, found = float(np.nanmean(masks.measure_dice(kept))), float(kept[labels].mean())
            rows.append((name, title, count / len(slices), dice, found))
    return pd.DataFrame(rows, columns=["score", "title", "kept_share", "volume_dice", "sensitivity"])


def describe(name: str, statistic: Statistic | None, bootstrap: Bootstrap) -> dict[str, float | None]:
    """Return a statistic's value and bounds under their names."""
    estimate = Estimate(None, None, None) if statistic is None else bootstrap.estimate(statistic)
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def cut_by_fold(slices: pd.DataFrame, scores: Floats, target_sensitivity: float) -> NDArray[np.bool_]:
    """Return which slices `(S,)` reach the threshold that the other folds give, by the rule of the cascade's own."""
    labels, probabilities = slices["has_tumor"].to_numpy(bool), expit(scores)
    is_kept = np.zeros(len(slices), dtype=bool)
    for known, asked in split_folds(slices):
        threshold = choose_threshold(
            probabilities[known], labels[known], target_sensitivity, refuse_losses(slices[known])
        )
        is_kept[asked] = probabilities[asked] >= threshold
    return is_kept


def combine_by_fold(slices: pd.DataFrame, scores: Floats) -> Floats:
    """Return the logit `(S,)` of the logistic regression of scores `(S, F)` that the other folds give."""
    labels, combined = slices["has_tumor"].to_numpy(bool), np.empty(len(slices))
    for known, asked in split_folds(slices):
        weights, bias = fit_score_weights(scores[known], labels[known])
        combined[asked] = scores[asked] @ weights + bias
    return combined


def split_folds(slices: pd.DataFrame) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Yield which slices `(S,)` numbers are fitted on, and which they judge; a single fold judges itself."""
    folds = slices["fold"].to_numpy()
    for fold in np.unique(folds):
        asked = folds == fold
        yield (asked if asked.all() else ~asked), asked
