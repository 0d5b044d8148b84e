"""All metrics under their names, as JSON."""

import json

from predictions import PARAMS, draw_squares, evaluate_patients, make_evaluation, make_prediction
from tumor_cascade.evaluation.metrics import flatten_summary, list_estimates, summarize_evaluation
from tumor_cascade.evaluation.statistics import Estimate


def test_flatten_summary__headlines_carry_their_bounds() -> None:
    summary = summarize_evaluation(make_evaluation(), PARAMS)
    metrics = flatten_summary(summary, "test")
    assert metrics["cascade/test_volume_dice"] == 0.773333  # (0.88 + 2 / 3) / 2, 6 digits
    assert metrics["cascade/test_num_patients"] == 3
    for model in ("cascade", "segmenter", "oracle"):
        value, low, high = (metrics[f"{model}/test_volume_dice{end}"] for end in ("", "_low", "_high"))
        assert low is not None and value is not None and high is not None
        assert low <= value <= high
    assert metrics.keys() < {
        *list_estimates(summary, "test"),
        *(f"{key}_{end}" for key in metrics for end in ("low", "high")),
    }


def test_flatten_summary__undefined_is_null_not_nan() -> None:
    empty = draw_squares([0, 0])
    summary = summarize_evaluation(evaluate_patients([empty], [make_prediction([0.1, 0.2], empty)]), PARAMS)
    text = json.dumps([flatten_summary(summary, "test"), list_estimates(summary, "test")], allow_nan=False)
    assert json.loads(text)[0]["cascade/test_volume_dice"] is None


def test_summarize_evaluation__names_do_not_depend_on_the_data() -> None:
    empty = draw_squares([0, 0])
    nothing = summarize_evaluation(evaluate_patients([empty], [make_prediction([0.1, 0.2], empty)]), PARAMS)
    something = summarize_evaluation(make_evaluation(), PARAMS)
    assert flatten_summary(nothing, "test").keys() == flatten_summary(something, "test").keys()


def test_summarize_evaluation__each_network_has_its_own_auroc() -> None:
    # The segmenter's scores are its mask areas here: tumor slices 100, 400, 100, 100; free ones 25, 0, 0, 0, 16.
    summary = summarize_evaluation(make_evaluation(), PARAMS)
    values = [summary[f"{model}/auroc"] for model in ("segmenter", "classifier", "cascade")]
    # Probabilities 0.9, 0.8, 0.4, 0.7 against 0.1, 0.2, 0.3, 0.2, 0.6: one of 20 pairs is out of order.
    assert [value.value for value in values if isinstance(value, Estimate)] == [1, 0.95, 0.95]


def test_list_estimates__all_intervals() -> None:
    estimates = list_estimates(summarize_evaluation(make_evaluation(), PARAMS), "oof")
    assert estimates["cascade/oof_pixel_specificity"].keys() == {"value", "low", "high"}
    assert estimates["cascade/oof_num_slices"] == {"value": 9}


def test_summarize_evaluation__by_patient() -> None:
    # One patient with tumor, found; four without, of whom one is called positive.
    empty, tumor = draw_squares([0, 0]), draw_squares([0, 10])
    predictions = [make_prediction(scores, masks) for scores, masks in [([0.1, 0.9], tumor), ([0.1, 0.2], empty)]]
    alarm = make_prediction([0.1, 0.9], empty)
    evaluation = evaluate_patients([tumor, *[empty] * 4], [predictions[0], *[predictions[1]] * 3, alarm])
    summary = summarize_evaluation(evaluation, PARAMS)
    values = [summary[f"cascade/patient_{name}"] for name in ("sensitivity", "specificity")]
    assert [value.value for value in values if isinstance(value, Estimate)] == [1.0, 0.75]
