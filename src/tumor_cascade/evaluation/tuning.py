"""From what the networks say of validation patients to the cascade's settings: a gate and a decision that cost nothing.

Both thresholds are the highest that keep their share of tumor slices and leave the mean volume Dice of the validation
patients where it is without any gate, or above.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tumor_cascade.evaluation.calibration import (
    choose_mask_threshold,
    choose_threshold,
    fit_score_weights,
    fit_temperature,
)
from tumor_cascade.evaluation.kept_masks import KeptMasks
from tumor_cascade.evaluation.validation import ValidationScores, decide_table, smooth_volumes
from tumor_cascade.models.decision import CascadeSettings, calibrate_logits
from tumor_cascade.params import AssembleCascadeParams

MIN_DIFFERENCE = 1e-9  # of Dice: less is the order of additions


def choose_settings(params: AssembleCascadeParams, scores: ValidationScores) -> CascadeSettings:
    """Choose all numbers of a cascade on validation slices; both kinds of slices must occur among them."""
    mask_threshold = choose_mask_threshold(params.mask_thresholds, scores.measure_dice())
    slices = scores.count_masks(params.mask_thresholds.index(mask_threshold))
    settings = replace(start_settings(params), mask_threshold=mask_threshold)
    if params.gate == "argmax":  # the classifier's class, as it comes
        return replace(settings, gate_threshold=0.5)
    settings = calibrate_gate(params, settings, slices)
    if params.slice_score != "classifier":
        settings = weigh_scores(settings, slices, has_classifier=params.slice_score == "combined")
    return choose_decision(params, settings, slices)


def start_settings(params: AssembleCascadeParams) -> CascadeSettings:
    """Return the settings before anything is chosen: no gate, the classifier's class decides, masks cut at one half."""
    return CascadeSettings(
        smoothing_slices=params.gate_smoothing_slices,
        temperature=1.0,
        gate_threshold=0.0,
        classifier_weight=1.0,
        segmenter_weight=0.0,
        bias=0.0,
        decision_threshold=0.5,
        mask_threshold=0.5,
        has_flip_averaging=params.has_flip_averaging,
        min_component_voxels=params.postprocessing.min_component_voxels,
        has_only_largest_component=params.postprocessing.has_only_largest_component,
    )


def calibrate_gate(params: AssembleCascadeParams, settings: CascadeSettings, slices: pd.DataFrame) -> CascadeSettings:
    """Return settings with temperature and gate threshold; the calibrated classifier decides."""
    is_scored, labels = (slices[name].to_numpy(bool) for name in ("is_scored", "has_tumor"))
    smoothed = smooth_volumes(slices, "classifier_logit", settings.smoothing_slices)[is_scored]
    temperature = fit_temperature(smoothed, labels[is_scored])
    settings = replace(settings, temperature=temperature, classifier_weight=1 / temperature)
    if params.gate == "none":
        return settings
    probabilities = calibrate_logits(smoothed, temperature)
    is_good = refuse_losses(slices[is_scored])
    threshold = choose_threshold(probabilities, labels[is_scored], params.gate_target_sensitivity, is_good)
    return replace(settings, gate_threshold=threshold)


def weigh_scores(settings: CascadeSettings, slices: pd.DataFrame, *, has_classifier: bool) -> CascadeSettings:
    """Return settings with the weights of both scores on segmented slices; the classifier's is 0 without it."""
    is_open = decide_table(slices, settings)["gate_is_open"].to_numpy()
    smoothed = smooth_volumes(slices, "classifier_logit", settings.smoothing_slices)
    behind_gate = slices.assign(segmenter_score=slices["segmenter_score"].where(is_open))
    seen = smooth_volumes(behind_gate, "segmenter_score", settings.smoothing_slices)
    is_used = is_open & slices["is_scored"].to_numpy(bool)
    labels = slices["has_tumor"].to_numpy(bool)[is_used]
    if labels.all():  # the gate makes no mistake here: nothing to learn from
        return settings
    features = np.column_stack([smoothed, seen] if has_classifier else [seen])[is_used]
    weights, bias = fit_score_weights(features, labels)
    first, second = weights if has_classifier else (0.0, weights[0])
    return replace(settings, classifier_weight=first, segmenter_weight=second, bias=bias)


def choose_decision(params: AssembleCascadeParams, settings: CascadeSettings, slices: pd.DataFrame) -> CascadeSettings:
    """Return settings with the decision threshold on segmented slices."""
    is_scored = slices["is_scored"].to_numpy(bool)
    decided = decide_table(slices, settings)[is_scored]
    within_reach = np.where(decided["gate_is_open"], decided["probability"], -1.0)
    labels = decided["has_tumor"].to_numpy(bool)
    threshold = choose_threshold(within_reach, labels, params.target_sensitivity, refuse_losses(slices[is_scored]))
    return replace(settings, decision_threshold=threshold)


def refuse_losses(slices: pd.DataFrame) -> Callable[[NDArray[np.bool_]], bool]:
    """Return what says of kept slices `(S,)` whether their masks alone give the mean volume Dice of all, or more."""
    masks = KeptMasks.from_table(slices)
    floor = np.nanmean(masks.measure_dice(np.ones(len(slices), dtype=bool)))
    return lambda is_kept: bool(np.nanmean(masks.measure_dice(is_kept)) >= floor - MIN_DIFFERENCE)


def choose_out_of_fold(params: AssembleCascadeParams, scores: ValidationScores) -> dict[int, CascadeSettings]:
    """Return for each fold the settings chosen on the other folds; a single fold gets its own."""
    folds = scores.slices["fold"].to_numpy()
    names = [int(fold) for fold in np.unique(folds)]
    if len(names) == 1:
        return {names[0]: choose_settings(params, scores)}
    return {fold: choose_settings(params, scores.select(folds != fold)) for fold in names}
