"""Settings chosen on made-up validation patients."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tumor_cascade.evaluation.kept_masks import KeptMasks
from tumor_cascade.evaluation.tuning import choose_out_of_fold, choose_settings
from tumor_cascade.evaluation.validation import ValidationScores, decide_table
from tumor_cascade.models.decision import CascadeSettings
from validations import make_params, make_scores

SCORES = make_scores()


def measure(settings: CascadeSettings, scores: ValidationScores = SCORES) -> dict[str, float]:
    table = decide_table(scores.count_masks(1), settings)
    labels, masks = table["has_tumor"], KeptMasks.from_table(table)
    return {
        "gate_sensitivity": table.loc[labels, "gate_is_open"].mean(),
        "segmented_share": table["gate_is_open"].mean(),
        "sensitivity": table.loc[labels, "is_positive"].mean(),
        "specificity": 1 - table.loc[~labels, "is_positive"].mean(),
        "auroc": roc_auc_score(labels, table["probability"]),
        "dice": float(np.mean(masks.measure_dice(table["is_positive"].to_numpy()))),
        "dice_without_gate": float(np.mean(masks.measure_dice(np.ones(len(table), bool)))),
    }


def test_choose_settings__both_thresholds_keep_their_promise() -> None:
    settings = choose_settings(make_params(mask_thresholds=[0.3, 0.5]), SCORES)
    found = measure(settings)
    assert settings.mask_threshold == 0.5  # 0.3 costs false pixels
    assert found["gate_sensitivity"] >= 0.98 and found["sensitivity"] >= 0.9
    assert 0 < settings.gate_threshold < settings.decision_threshold
    assert found["segmented_share"] < 1


def test_choose_settings__the_cascade_costs_no_dice() -> None:
    # At 0.5 every mask is right: whatever tumor slice is dropped costs Dice, whatever the target sensitivities.
    modest = make_params(gate_target_sensitivity=0.5, target_sensitivity=0.5)
    found = measure(choose_settings(modest, SCORES))
    assert found["dice"] == found["dice_without_gate"] == pytest.approx(2 * 80 / (100 + 80))
    assert found["sensitivity"] == found["gate_sensitivity"] == 1
    # Where each mask costs more than it gives, nothing stands against the targets.
    useless = replace(SCORES, hit_px=np.zeros_like(SCORES.hit_px))
    found = measure(choose_settings(modest, useless))
    assert 0.5 <= found["sensitivity"] <= found["gate_sensitivity"] < 0.6


def test_choose_settings__both_scores_are_better_than_one() -> None:
    auroc = {
        name: measure(choose_settings(make_params(slice_score=name, gate="none"), SCORES))["auroc"]
        for name in ("classifier", "segmenter", "combined")
    }
    assert auroc["classifier"] < auroc["segmenter"] < auroc["combined"]


def test_choose_settings__smoothing_tells_runs_of_slices_apart() -> None:
    plain, smoothed = (
        measure(choose_settings(make_params(gate_smoothing_slices=width, slice_score="classifier"), SCORES))
        for width in (0.0, 1.0)
    )
    assert smoothed["auroc"] > plain["auroc"]
    assert smoothed["segmented_share"] < plain["segmented_share"]


def test_choose_settings__segmenter_alone_leaves_the_classifier_out() -> None:
    settings = choose_settings(make_params(slice_score="segmenter"), SCORES)
    assert settings.classifier_weight == 0 and settings.segmenter_weight > 0


def test_choose_settings__classifier_alone_is_calibrated() -> None:
    settings = choose_settings(make_params(slice_score="classifier"), SCORES)
    assert settings.segmenter_weight == settings.bias == 0
    assert settings.classifier_weight == 1 / settings.temperature


def test_choose_settings__no_gate() -> None:
    settings = choose_settings(make_params(gate="none"), SCORES)
    assert settings.gate_threshold == 0
    assert measure(settings)["segmented_share"] == 1


def test_choose_settings__argmax_is_the_class_of_the_classifier() -> None:
    params = make_params(gate="argmax", slice_score="classifier")
    table = decide_table(SCORES.slices, choose_settings(params, SCORES))
    expected = SCORES.slices["classifier_logit"] > 0
    assert (table["gate_is_open"] == expected).all() and (table["is_positive"] == expected).all()


def test_choose_settings__slices_that_do_not_count_have_no_say() -> None:
    # Behind every slice its like, far off and not scored: a split by slice.
    rows = SCORES.slices.index.repeat(2)
    is_scored = np.arange(len(rows)) % 2 == 0
    doubled = SCORES.slices.loc[rows].reset_index(drop=True).assign(is_scored=is_scored)
    doubled.loc[~is_scored, ["classifier_logit", "segmenter_score"]] = -50
    scores = ValidationScores(doubled, SCORES.px.repeat(2, axis=0), SCORES.hit_px.repeat(2, axis=0))
    assert choose_settings(make_params(), scores) == choose_settings(make_params(), SCORES)


def test_choose_settings__a_gate_without_a_mistake_leaves_nothing_to_learn() -> None:
    sure = SCORES.slices.assign(classifier_logit=np.where(SCORES.slices["has_tumor"], 9.0, -9.0))
    settings = choose_settings(make_params(), ValidationScores(sure, SCORES.px, SCORES.hit_px))
    found = measure(settings, ValidationScores(sure, SCORES.px, SCORES.hit_px))
    assert (found["sensitivity"], found["specificity"], settings.segmenter_weight) == (1, 1, 0)


def test_choose_out_of_fold__a_fold_has_no_say_in_its_own_settings() -> None:
    chosen = choose_out_of_fold(make_params(), SCORES)
    folds = SCORES.slices["fold"].to_numpy()
    assert chosen == {fold: choose_settings(make_params(), SCORES.select(folds != fold)) for fold in (0, 1)}
    moved = SCORES.slices.assign(classifier_logit=SCORES.slices["classifier_logit"] + 5.0 * (folds == 0))
    again = choose_out_of_fold(make_params(), ValidationScores(moved, SCORES.px, SCORES.hit_px))
    assert again[0] == chosen[0] and again[1] != chosen[1]


def test_choose_out_of_fold__a_single_fold_judges_itself() -> None:
    scores = make_scores(num_folds=1)
    assert choose_out_of_fold(make_params(), scores) == {0: choose_settings(make_params(), scores)}
