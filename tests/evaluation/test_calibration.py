import math

import numpy as np
import pytest
from scipy.special import expit

from tumor_cascade.evaluation.calibration import choose_gate_threshold, choose_mask_threshold, fit_temperature


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


# Tumor slices at 0.9, 0.8, 0.6, 0.6 and 0.2; tumor-free ones at 0.7 and 0.1 have no say.
PROBABILITIES = np.array([0.9, 0.7, 0.8, 0.6, 0.6, 0.2, 0.1], dtype=np.float32)
LABELS = np.array([1, 0, 1, 1, 1, 1, 0], dtype=bool)


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
def test_choose_gate_threshold__literals(target: float, expected: float, sensitivity: float) -> None:
    threshold = choose_gate_threshold(PROBABILITIES, LABELS, target)
    assert threshold == np.float32(expected)
    assert (PROBABILITIES[LABELS] >= threshold).mean() == pytest.approx(sensitivity)
    assert sensitivity >= target


@pytest.mark.parametrize("num", [3, 7, 10, 50, 147])
def test_choose_gate_threshold__rounding_errors_cost_no_slice(num: int) -> None:
    probabilities = np.linspace(0, 1, num)
    for kept in range(1, num + 1):  # a target that is a whole number of slices takes exactly these
        threshold = choose_gate_threshold(probabilities, np.ones(num, bool), kept / num)
        assert (probabilities >= threshold).sum() == kept


def test_choose_gate_threshold__equal_probabilities() -> None:
    assert choose_gate_threshold(np.full(4, 0.5), np.ones(4, bool), 0.5) == 0.5


CANDIDATES = [0.1, 0.3, 0.5, 0.7]


@pytest.mark.parametrize(
    ("dice", "expected"),
    [
        ([[0.1, 0.2, 0.3, 0.9]], 0.7),
        ([[0.9, 0.2, 0.3, 0.1], [0.1, 0.8, 0.3, 0.1]], 0.3),  # means 0.5, 0.5, 0.3, 0.1: the nearer of the best
        ([[0.5, 0.5, 0.5, 0.5]], 0.5),  # equals: nearest to 0.5
        ([[0.6000001, 0.6, 0.5, 0.2]], 0.3),  # equal but for what no patient would feel
        ([[np.nan] * 4, [0.1, 0.2, 0.3, 0.9]], 0.7),  # a patient without tumor has no say
    ],
)
def test_choose_mask_threshold__literals(dice: list[list[float]], expected: float) -> None:
    assert choose_mask_threshold(CANDIDATES, np.array(dice)) == expected


def test_choose_mask_threshold__one_candidate() -> None:
    assert choose_mask_threshold([0.4], np.array([[0.0], [0.0]])) == 0.4
