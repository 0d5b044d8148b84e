import numpy as np
import pytest

from promotions import build_scores
from tumor_cascade.evaluation.statistics import Bootstrap, Estimate
from tumor_cascade.registry.comparison import Difference, compare, estimate_metric, share_error
from tumor_cascade.registry.judged_metrics import METRICS, Scores
from tumor_cascade.registry.policy import MetricName

BOOTSTRAP = Bootstrap(20, num_resamples=2000, confidence=0.95, seed=1)


def make_difference(resampled: list[float], num_lost: int | None = None) -> Difference:
    return Difference(0.9, 0.8, Estimate(0.1, 0.0, 0.2), np.array(resampled), 20, num_lost)


def test_difference__p_is_the_share_of_resamples_that_do_not_exceed_the_null() -> None:
    difference = make_difference([-0.2, -0.1, 0.0, 0.1])  # one added on either side
    assert (difference.test(0.0), difference.test(-0.1), difference.test_loss()) == (4 / 5, 3 / 5, 3 / 5)


@pytest.mark.parametrize(("num_lost", "expected"), [(0, 0.8**20), (1, 0.8**20 + 20 * 0.2 * 0.8**19)])
def test_difference__a_share_is_also_held_to_the_binomial(num_lost: int, expected: float) -> None:
    # P(at most so many of 20 lost, each with 0.2) for the margin 0.2.
    assert make_difference([0.0] * 4999, num_lost).test(-0.2) == pytest.approx(expected)


def test_difference__detectable_effect() -> None:
    # Standard error 0.1, error 0.05, power 0.8: (1.6449 + 0.8416) x 0.1.
    assert make_difference([-0.1, 0.1]).detect(0.05, 0.8) == pytest.approx(0.24865, abs=1e-5)
    # A faultless candidate on 20 patients: 1 - 0.05^(1/20) = 0.1391, whatever the resamples say.
    assert make_difference([0.0], num_lost=0).detect(0.05, 0.8) == pytest.approx(0.13911, abs=1e-5)


def test_share_error__is_holm_s() -> None:
    # Sorted 0.01, 0.02, 0.03: levels 0.05/3, 0.05/2, 0.05; adjusted 0.03, 0.04, max(0.04, 0.03) = 0.04.
    shared = share_error({"b": 0.02, "a": 0.01, "c": 0.03}, 0.05)
    levels, adjusted = zip(*(shared[name] for name in "abc"), strict=True)
    assert levels == pytest.approx((0.05 / 3, 0.025, 0.05))
    assert adjusted == pytest.approx((0.03, 0.04, 0.04))


def test_compare__a_gain_is_positive_where_fewer_is_better() -> None:
    first, second = build_scores([0.8] * 20), build_scores([0.8] * 20)
    worse = Scores(second.slices, second.patients.assign(cascade_false_lesions=2))
    difference = compare("false_lesions_per_volume", first, worse, BOOTSTRAP)
    assert (difference.candidate, difference.champion, difference.gain) == (0.0, 2.0, Estimate(2.0, 2.0, 2.0))


@pytest.mark.parametrize("name", ["patient_recall", "lesion_recall"])
def test_estimate_metric__patients_without_tumor_show_nothing_of_a_share_found(name: MetricName) -> None:
    # Clopper and Pearson, 6 of 6: 0.025^(1/6) = 0.5407; of 36 they would say 0.9026.
    scores = build_scores([0.8] * 6, num_tumor_free=30)
    estimate = estimate_metric(name, scores, Bootstrap(36, num_resamples=2000, confidence=0.95, seed=1))
    assert estimate == Estimate(1.0, pytest.approx(0.5407, abs=1e-4), 1.0)


@pytest.mark.parametrize("name", ["patient_recall", "lesion_recall"])
def test_compare__patients_without_tumor_show_nothing_of_a_share_found(name: MetricName) -> None:
    # Of 6 with tumor none is lost: p = 0.8^6 = 0.2621 for the margin 0.2, detectable from 1 - 0.05^(1/6) = 0.3930 on.
    scores = build_scores([0.8] * 6, num_tumor_free=30)
    difference = compare(name, scores, scores, Bootstrap(36, num_resamples=2000, confidence=0.95, seed=1))
    assert difference.num_patients == 6
    assert difference.test(-0.2) == pytest.approx(0.2621, abs=1e-4)
    assert difference.detect(0.05, 0.8) == pytest.approx(0.3930, abs=1e-4)


def test_metrics__on_scores_known_on_paper() -> None:
    # 20 patients of 4 tumor slices; half of them lose one: 70 of 80 found. Nobody loses all: patients 1.
    scores = build_scores([0.8] * 20, missed=[1, 0] * 10)
    values = {name: estimate_metric(name, scores, BOOTSTRAP) for name in METRICS}
    assert {name: estimate.value for name, estimate in values.items()} == {
        "volume_dice": pytest.approx(0.8),
        "slice_auroc": 1.0,
        "slice_sensitivity": 0.875,
        "slice_specificity": 1.0,
        "patient_recall": 1.0,
        "lesion_recall": 1.0,
        "false_lesions_per_volume": 0.0,
    }
    assert values["patient_recall"].low == pytest.approx(0.025 ** (1 / 20))  # Clopper and Pearson, 20 of 20
    assert values["slice_sensitivity"].low == pytest.approx(0.875 - 2.093 * 0.125 / 19**0.5, abs=0.01)
