import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit

from tumor_cascade.evaluation.calibration import (
    choose_mask_threshold,
    choose_threshold,
    fit_score_weights,
    fit_temperature,
)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5, 8.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fit_temperature__recovers_a_planted_one(temperature: float, dtype: type) -> None:
    rng = np.random.default_rng(0)
    true_logits = rng.normal(0, 2, 20_000)
    labels = rng.random(20_000) < expit(true_logits)
    # Confidence is off by the factor that the temperature has to take back.
    assert fit_temperature((true_logits * temperature).astype(dtype), labels) == pytest.approx(temperature, rel=0.05)


def test_fit_temperature__literal() -> None:
    # Four slices at logit 2, three of them with tumor, and mirrored: best where sigmoid(2 / T) = 3 / 4, T = 2 / ln 3.
    logits = np.array([2.0, 2, 2, 2, -2, -2, -2, -2])
    labels = np.array([1, 1, 1, 0, 0, 0, 0, 1], dtype=bool)
    assert fit_temperature(logits, labels) == pytest.approx(2 / math.log(3), rel=1e-4)


def test_fit_temperature__stays_within_its_bounds() -> None:
    labels = np.array([True, True, False, False])
    separable = np.array([1.0, 2, -1, -2])
    assert 1 / 20 <= fit_temperature(separable, labels) < 0.1  # the surer the better
    assert 10 < fit_temperature(-separable, labels) <= 20  # always wrong: as unsure as possible


def test_fit_temperature__changes_no_order() -> None:
    rng = np.random.default_rng(1)
    labels = rng.random(50) < 0.5
    temperature = fit_temperature(rng.normal(size=50), labels)
    assert temperature > 0 and math.isfinite(temperature)


@pytest.mark.parametrize("labels", [[True, True], [False, False]])
def test_fit_temperature__one_kind_has_no_answer(labels: list[bool]) -> None:
    with pytest.raises(ValueError, match="slices with and without tumor"):
        fit_temperature(np.array([0.5, 1.0]), np.array(labels))


def test_fit_score_weights__recovers_planted_ones() -> None:
    rng = np.random.default_rng(2)
    scores = rng.normal(size=(20_000, 2))
    labels = rng.random(20_000) < expit(scores @ [2.0, -0.5] + 1.0)
    weights, bias = fit_score_weights(scores, labels)
    assert [*weights, bias] == pytest.approx([2.0, -0.5, 1.0], abs=0.1)


def test_fit_score_weights__separable_slices_give_finite_weights() -> None:
    [weight], bias = fit_score_weights(np.array([[-100.0], [-90], [90], [100]]), np.array([False, False, True, True]))
    assert 0 < weight < 10 and abs(bias) < 1


# Tumor slices at 0.9, 0.8, 0.6, 0.6 and 0.2; tumor-free ones at 0.7 and 0.1 have no say.
PROBABILITIES = np.array([0.9, 0.7, 0.8, 0.6, 0.6, 0.2, 0.1], dtype=np.float32)
LABELS = np.array([1, 0, 1, 1, 1, 1, 0], dtype=bool)
HAIR = 3e-4  # a thousandth of a logit, at most a quarter of that in probability


def choose(target: float, probabilities: NDArray[np.float32] = PROBABILITIES) -> float:
    return choose_threshold(probabilities, LABELS, target, lambda _: True)


@pytest.mark.parametrize(
    ("target", "expected", "sensitivity"),
    [
        (1.0, 0.2, 1.0),
        (0.81, 0.2, 1.0),  # 4.05 of 5: all five
        (0.8, 0.6, 0.8),  # exactly four
        (0.6, 0.6, 0.8),  # the third is tied with the fourth
        (0.4, 0.8, 0.4),
        (0.2, 0.9, 0.2),
        (0.001, 0.9, 0.2),  # never fewer than one
    ],
)
def test_choose_threshold__literals(target: float, expected: float, sensitivity: float) -> None:
    threshold = choose(target)
    assert expected - HAIR < threshold < expected
    assert (PROBABILITIES[LABELS] >= threshold).mean() == pytest.approx(sensitivity)
    assert sensitivity >= target


def test_choose_threshold__a_slice_that_comes_out_a_bit_lower_is_kept() -> None:
    threshold = choose(0.8)
    assert np.float32(0.6) - np.float32(1e-5) > threshold


@pytest.mark.parametrize("num", [3, 7, 10, 50, 147])
def test_choose_threshold__rounding_errors_cost_no_slice(num: int) -> None:
    probabilities = np.linspace(0.1, 0.9, num)
    for kept in range(1, num + 1):  # a target that is a whole number of slices takes exactly these
        threshold = choose_threshold(probabilities, np.ones(num, bool), kept / num, lambda _: True)
        assert (probabilities >= threshold).sum() == kept


def test_choose_threshold__the_highest_that_will_do() -> None:
    # Good only with the slice at 0.6 and not without it, although 0.8 keeps enough.
    threshold = choose_threshold(PROBABILITIES, LABELS, 0.4, lambda is_kept: bool(is_kept[3]))
    assert 0.6 - HAIR < threshold < 0.6


def test_choose_threshold__where_nothing_is_good_all_tumor_slices_are_kept() -> None:
    threshold = choose_threshold(PROBABILITIES, LABELS, 0.4, lambda _: False)
    assert 0.2 - HAIR < threshold < 0.2


def test_choose_threshold__slices_that_cannot_be_kept() -> None:
    # Without the one at 0.2, four of five is all there is.
    assert 0.6 - HAIR < choose(1.0, np.where(PROBABILITIES < 0.3, -1, PROBABILITIES)) < 0.6


@pytest.mark.parametrize("probability", [0.0, 1e-12, 1.0])
def test_choose_threshold__saturated_probabilities_reach_it(probability: float) -> None:
    assert choose(0.5, np.full(7, probability, dtype=np.float32)) <= probability


CANDIDATES = [0.1, 0.3, 0.5, 0.7]


@pytest.mark.parametrize(
    ("dice", "expected"),
    [
        ([[0.1, 0.2, 0.3, 0.9]], 0.5),  # one patient tells nothing
        ([[0.1, 0.2, 0.3, 0.9], [0.2, 0.2, 0.4, 0.8]], 0.7),  # short by 0.6 and 0.4: mean 0.5, standard error 0.1
        ([[0.8, 0.8, 0.8, 0.9], [0.8, 0.8, 0.8, 0.8]], 0.5),  # short by 0.1 and 0: mean 0.05, standard error 0.05
        ([[0.8, 0.8, 0.8, 0.9], [0.8, 0.8, 0.8, 0.85]], 0.7),  # short by 0.1 and 0.05: mean 0.075, standard error 0.025
        ([[0.5, 0.5, 0.5, 0.5]] * 2, 0.5),  # equals: nearest to 0.5
        ([[0.6000001, 0.6, 0.5, 0.2]] * 2, 0.3),  # equal but for what no patient would feel
        ([[np.nan] * 4, [0.1, 0.2, 0.3, 0.9], [0.2, 0.2, 0.4, 0.8]], 0.7),  # a patient without tumor has no say
    ],
)
def test_choose_mask_threshold__literals(dice: list[list[float]], expected: float) -> None:
    assert choose_mask_threshold(CANDIDATES, np.array(dice)) == expected


def test_choose_mask_threshold__one_candidate() -> None:
    assert choose_mask_threshold([0.4], np.array([[0.0], [0.0]])) == 0.4
