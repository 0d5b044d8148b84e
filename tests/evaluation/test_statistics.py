"""The bootstrap against numpy and scikit-learn on resamples written out slice by slice."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import norm, sem, t
from sklearn.metrics import average_precision_score, roc_auc_score

from tumor_cascade.evaluation.statistics import (
    Bootstrap,
    Estimate,
    auroc_of,
    average_precision_of,
    difference_of,
    divide,
    formula_of,
    mean_of,
    quantile_of,
    ratio_of,
    share_of,
)

NAN = float("nan")


def draw(num_patients: int, num_resamples: int = 200, seed: int = 3) -> Bootstrap:
    return Bootstrap(num_patients, num_resamples=num_resamples, confidence=0.95, seed=seed)


def make_slices(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    patients = np.sort(np.concatenate([np.arange(12), rng.integers(0, 12, 188)]))
    labels = rng.random(200) < 0.35
    scores = np.round(rng.random(200) + 0.4 * labels, 1)  # one decimal: many ties
    return scores, labels, patients


def test_bootstrap__draws_as_many_patients_as_there_are() -> None:
    weights = draw(7).weights
    assert weights.shape == (200, 7)
    assert (weights.sum(axis=1) == 7).all()
    assert (weights == draw(7).weights).all()
    assert (weights != draw(7, seed=4).weights).any()


def test_estimate__mean_and_interval() -> None:
    # Percentiles of the very resamples, written out.
    values = np.array([0.1, 0.5, 0.9, 0.7])
    bootstrap = draw(4)
    means = [np.repeat(values, row.astype(int)).mean() for row in bootstrap.weights]
    estimate = bootstrap.estimate(mean_of(values))
    assert estimate.value == pytest.approx(0.55)  # 2.2 / 4
    tail = norm.cdf(np.sqrt(4 / 3) * t.ppf(0.025, 3))
    assert estimate.low == pytest.approx(np.quantile(means, tail))
    assert estimate.high == pytest.approx(np.quantile(means, 1 - tail))


@pytest.mark.parametrize("num_patients", [8, 12, 30])
def test_estimate__of_few_patients_is_as_wide_as_a_t_interval(num_patients: int) -> None:
    values = np.random.default_rng(num_patients).normal(0.8, 0.1, num_patients)
    low, high = t.interval(0.95, num_patients - 1, values.mean(), sem(values))
    estimate = draw(num_patients, num_resamples=20_000).estimate(mean_of(values))
    assert estimate.low is not None and estimate.high is not None
    assert estimate.high - estimate.low == pytest.approx(high - low, rel=0.06)


def test_estimate__covers_the_true_mean_as_often_as_it_says() -> None:
    # 400 cohorts of 40 patients around 0.8: a 95 % percentile interval covers 0.8 in about 93 to 95 % of them.
    bootstrap, rng = draw(40, num_resamples=1000), np.random.default_rng(8)
    estimates = [bootstrap.estimate(mean_of(rng.normal(0.8, 0.1, 40))) for _ in range(400)]
    covered = np.mean([e.low <= 0.8 <= e.high for e in estimates])  # type: ignore[operator]
    assert 0.90 <= covered <= 0.98


def test_estimate__undefined_value() -> None:
    assert draw(3).estimate(mean_of([NAN, NAN, NAN])) == Estimate(None, None, None)
    assert draw(3).estimate(ratio_of([1, 2, 3], [0, 0, 0])) == Estimate(None, None, None)


def test_estimate__one_patient_has_no_interval() -> None:
    assert draw(1).estimate(mean_of([0.7])) == Estimate(0.7, None, None)


def test_estimate__resamples_without_a_value_are_left_out() -> None:
    # Patient 2 alone has a value: where it is not drawn there is none, else it is 0.5.
    estimate = draw(3).estimate(mean_of([NAN, NAN, 0.5]), is_zero_width_kept=True)
    assert estimate == Estimate(0.5, 0.5, 0.5)


@pytest.mark.parametrize("values", [[NAN, NAN, 0.5], [1.0, 1.0, 1.0]])
def test_estimate__no_interval_where_all_resamples_agree(values: list[float]) -> None:
    assert draw(3).estimate(mean_of(values)) == Estimate(values[2], None, None)


def test_divide__by_zero() -> None:
    assert_allclose(divide([1, 0, 4], [2, 0, 0]), [0.5, NAN, NAN])


@pytest.mark.parametrize("quantile", [0.0, 0.25, 0.5, 0.8, 1.0])
def test_quantile_of__equals_numpy_on_written_out_resamples(quantile: float) -> None:
    values, bootstrap = np.array([0.3, NAN, 0.9, 0.3, 0.1, 0.6]), draw(6)
    expected = [np.nanquantile(np.repeat(values, row.astype(int)), quantile) for row in bootstrap.weights]
    assert_allclose(quantile_of(values, quantile)(bootstrap.weights), expected, atol=1e-12)


def test_quantile_of__nothing_drawn_that_is_defined() -> None:
    assert np.isnan(quantile_of([NAN, 0.5], 0.5)(np.array([[2.0, 0.0]])))[0]


def test_share_of__only_where_defined() -> None:
    # Patients 0 and 2 count; one of them has the property.
    assert draw(3).estimate(share_of([True, True, False], [True, False, True])).value == 0.5


def test_formula_of__totals_of_the_drawn_patients() -> None:
    # Patient 0 twice, patient 1 not at all: (2 * 3) / (2 * 4).
    assert formula_of(divide, [3, 5], [4, 6])(np.array([[2.0, 0.0]]))[0] == 0.75


def test_difference_of__is_paired() -> None:
    # Model a is better by 0.1 in every patient, so the difference has no spread at all, however patients vary.
    better, worse = np.array([0.2, 0.5, 0.9]), np.array([0.1, 0.4, 0.8])
    difference = difference_of(mean_of(better), mean_of(worse))
    estimate = draw(3).estimate(difference, is_zero_width_kept=True)
    assert_allclose([estimate.value, estimate.low, estimate.high], 0.1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("statistic", "oracle"), [(auroc_of, roc_auc_score), (average_precision_of, average_precision_score)]
)
def test_ranking_statistics__equal_scikit_learn_on_written_out_resamples(statistic, oracle) -> None:  # type: ignore[no-untyped-def]
    scores, labels, patients = make_slices()
    weights = draw(12, num_resamples=60).weights
    times = weights.astype(int)[:, patients]
    expected = [oracle(np.repeat(labels, row), np.repeat(scores, row)) for row in times]
    assert_allclose(statistic(scores, labels, patients)(weights), expected, atol=1e-12)
    assert_allclose(statistic(scores, labels, patients)(np.ones((1, 12)))[0], oracle(labels, scores), atol=1e-12)


def test_average_precision_of__same_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, labels, patients = make_slices()
    weights = draw(12, num_resamples=60).weights
    whole = average_precision_of(scores, labels, patients)(weights)
    monkeypatch.setattr("tumor_cascade.evaluation.statistics.CHUNK_VALUES", 7 * 200)
    assert (average_precision_of(scores, labels, patients)(weights) == whole).all()


@pytest.mark.parametrize("label", [True, False])
def test_auroc_of__one_class(label: bool) -> None:
    assert np.isnan(auroc_of([0.2, 0.8], [label, label], [0, 1])(np.ones((1, 2))))[0]


def test_average_precision_of__no_positives() -> None:
    assert np.isnan(average_precision_of([0.2, 0.8], [False, False], [0, 1])(np.ones((1, 2))))[0]
