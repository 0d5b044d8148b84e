import json
import warnings
from dataclasses import replace

import numpy as np
import pytest

from tumor_cascade.models.decision import (
    CascadeSettings,
    calibrate_logits,
    decide_slices,
    measure_entropy,
    open_gate,
    smooth_scores,
)

SETTINGS = CascadeSettings(
    smoothing_slices=0.0,
    temperature=2.0,
    gate_threshold=0.25,
    classifier_weight=1.0,
    segmenter_weight=2.0,
    bias=-1.0,
    decision_threshold=0.5,
    mask_threshold=0.5,
    has_flip_averaging=False,
    min_component_voxels=0,
    has_only_largest_component=False,
)


def test_settings__survive_json() -> None:
    settings = replace(SETTINGS, temperature=1.2345678901234567, gate_threshold=float(np.float32(0.1)))
    assert CascadeSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings
    with pytest.raises(TypeError, match="unexpected keyword"):
        CascadeSettings.from_json({**settings.to_json(), "threshold": 0.5})


def test_open_gate__reaches_the_threshold() -> None:
    # sigmoid(logit / 2) >= 1/4 from logit -2 ln 3 = -2.197 on.
    assert open_gate(np.array([-2.3, -2.1, 5.0]), SETTINGS).tolist() == [False, True, True]


def test_decide_slices__literals() -> None:
    # Open: sigmoid(1 + 2 * 0.5 - 1) = sigmoid(1), sigmoid(1 + 2 * -1 - 1) = sigmoid(-2); closed: sigmoid(-4 / 2).
    decision = decide_slices(np.array([1.0, 1.0, -4.0]), np.array([0.5, -1.0, 9.0]), SETTINGS)
    assert decision.gate_is_open.tolist() == [True, True, False]
    np.testing.assert_allclose(decision.probabilities, [0.731059, 0.119203, 0.119203], atol=1e-6)
    assert decision.is_positive.tolist() == [True, False, False]
    assert decision.probabilities.dtype == np.float32


def test_decide_slices__a_closed_gate_cannot_be_positive() -> None:
    settings = replace(SETTINGS, gate_threshold=0.9, decision_threshold=0.0)
    decision = decide_slices(np.array([1.0]), np.array([9.0]), settings)
    assert not decision.is_positive.any() and decision.probabilities[0] > 0.6


def test_decide_slices__scores_behind_the_gate_have_no_say() -> None:
    # Not even in the smoothing of their neighbors: otherwise the answer would depend on what else was asked.
    settings, logits = replace(SETTINGS, smoothing_slices=1.0), np.array([6.0, 4.0, -40.0, 4.0])
    known, unknown = (decide_slices(logits, np.array([1.0, 2.0, score, 3.0]), settings) for score in (-50, np.nan))
    assert not known.gate_is_open.all()
    np.testing.assert_array_equal(known.probabilities, unknown.probabilities)


def test_smooth_scores__literals() -> None:
    # Weights at sigma 1: 1, exp(-1/2) = 0.606531, exp(-2) = 0.135335; those outside the volume do not count.
    smoothed = smooth_scores(np.array([1.0, 0.0, 0.0]), 1.0)
    np.testing.assert_allclose(smoothed, [1 / 1.741866, 0.606531 / 2.213061, 0.135335 / 1.741866], rtol=1e-5)


def test_smooth_scores__a_constant_stays_and_zero_width_is_off() -> None:
    np.testing.assert_allclose(smooth_scores(np.full(5, -3.0), 2.0), -3.0)
    values = np.random.default_rng(0).normal(size=9)
    np.testing.assert_array_equal(smooth_scores(values, 0.0), values)
    np.testing.assert_allclose(smooth_scores(values[:1], 2.0), values[:1])
    assert smooth_scores(np.zeros(0), 1.0).shape == (0,)


def test_smooth_scores__what_is_unknown_stays_unknown() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        smoothed = smooth_scores(np.array([2.0, np.nan, 2.0, *[np.nan] * 20]), 1.0)
        assert np.isnan(smooth_scores(np.full(3, np.nan), 1.0)).all()
    np.testing.assert_allclose(smoothed[[0, 2]], 2.0)
    assert np.isnan(smoothed).sum() == 21


def test_calibrate_logits__literals() -> None:
    logits = np.array([-1000, -2, 0, 2, 1000], dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probabilities = calibrate_logits(logits, 2.0)
    # sigmoid(1) = 0.731059
    np.testing.assert_allclose(probabilities, [0, 0.268941, 0.5, 0.731059, 1], atol=1e-6)
    assert probabilities.dtype == np.float32


def test_measure_entropy__literals() -> None:
    # -0.25 log2 0.25 - 0.75 log2 0.75 = 0.5 + 0.311278
    entropy = measure_entropy(np.array([0, 0.25, 0.5, 0.75, 1], dtype=np.float32))
    np.testing.assert_allclose(entropy, [0, 0.811278, 1, 0.811278, 0], atol=3e-5)
    assert ((entropy >= 0) & (entropy <= 1)).all()
