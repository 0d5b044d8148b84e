"""Two cascades on the same patients: differences, their intervals and tests, and what the data could show at all.

A gain is positive where the candidate is better, whatever the metric's direction.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta, binom, norm

from tumor_cascade.evaluation.statistics import Bootstrap, Estimate, Floats, Statistic, difference_of
from tumor_cascade.registry.judged_metrics import METRICS, Scores
from tumor_cascade.registry.policy import MetricName


@dataclass(frozen=True)
class Difference:
    """A metric of both cascades.

    Attributes:
        candidate: Its value, None where undefined.
        champion: Its value.
        gain: With the bootstrap interval, paired by patient.
        resampled: Gains in the resamples in which both are defined, `(B,)`.
        num_patients: On both sides; for a share of things found those who have any.
        num_lost: Patients in whom the candidate finds less, for a share of things found; else None.
    """

    candidate: float | None
    champion: float | None
    gain: Estimate
    resampled: Floats
    num_patients: int
    num_lost: int | None

    def test(self, null: float) -> float:
        """Return the one-sided p-value of "the gain is at most `null`"; 1 where the gain is undefined.

        Share of resamples that do not exceed it, one added on either side. A share of things found is also held to the
        binomial probability of losing them in no more patients than seen, if losing them were `-null` likely.
        """
        if self.gain.value is None:
            return 1.0
        p = (1 + float((self.resampled <= null).sum())) / (1 + self.resampled.size)
        if self.num_lost is not None and null < 0:
            p = max(p, float(binom.cdf(self.num_lost, self.num_patients, min(1.0, -null))))
        return p

    def test_loss(self) -> float:
        """Return the one-sided p-value of "the candidate is not worse"."""
        return (1 + float((self.resampled >= 0).sum())) / (1 + self.resampled.size)

    def detect(self, level: float, power: float) -> float:
        """Return the minimal detectable effect of a one-sided test.

        (z(1 - level) + z(power)) standard errors, the latter from the resamples; for a share of things found at least
        the loss that not even a faultless candidate could be shown to stay under, 1 - level^(1/P).
        """
        effect = float((norm.ppf(1 - level) + norm.ppf(power)) * self.resampled.std())
        return effect if self.num_lost is None else max(effect, float(1 - level ** (1 / self.num_patients)))


def compare(metric: MetricName, candidate: Scores, champion: Scores, bootstrap: Bootstrap) -> Difference:
    """Compare a metric on the same patients.

    Args:
        metric: One of `METRICS`.
        candidate: Scores of the patients.
        champion: Scores of the same patients in the same order.
        bootstrap: Resamples of these patients.
    """
    rules = METRICS[metric]
    first, second = rules.describe(candidate), rules.describe(champion)
    better, worse = (first, second) if rules.is_higher_better else (second, first)
    gains = difference_of(better, worse)
    lost = None
    if rules.count_found is not None:
        lost = int((rules.count_found(candidate) < rules.count_found(champion)).sum())
    resampled = gains(bootstrap.weights)
    return Difference(
        candidate=evaluate(first, len(candidate.patients)),
        champion=evaluate(second, len(champion.patients)),
        gain=bootstrap.estimate(gains, is_zero_width_kept=True),  # equal answers differ by exactly nothing
        resampled=resampled[~np.isnan(resampled)],
        num_patients=rules.count_patients(candidate),
        num_lost=lost,
    )


def evaluate(statistic: Statistic, num_patients: int) -> float | None:
    """Return a statistic on the data as they are, None where it is undefined."""
    value = float(statistic(np.ones((1, num_patients)))[0])
    return None if np.isnan(value) else value


def estimate_metric(metric: MetricName, scores: Scores, bootstrap: Bootstrap) -> Estimate:
    """Return a metric of one cascade with its interval.

    The lower bound of a share of things found is never above Clopper and Pearson's for as many patients who have any.
    """
    rules = METRICS[metric]
    estimate = bootstrap.estimate(rules.describe(scores), is_zero_width_kept=True)
    if rules.count_found is None or estimate.value is None or estimate.low is None:
        return estimate
    num, tail = rules.count_patients(scores), (1 - bootstrap.confidence) / 2
    found = estimate.value * num
    exact = float(beta.ppf(tail, found, num - found + 1)) if found > 0 else 0.0
    return Estimate(estimate.value, min(estimate.low, exact), estimate.high)


def share_error(p_values: Mapping[str, float], error: float) -> dict[str, tuple[float, float]]:
    """Return Holm's level and adjusted p-value of each test: it is shown where the latter is at most `error`.

    Source:
        Holm 1979, A simple sequentially rejective multiple test procedure (https://www.jstor.org/stable/4615733).
    """
    shared, highest = {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        num_left = len(p_values) - rank
        highest = max(highest, min(1.0, num_left * p_values[name]))
        shared[name] = (error / num_left, highest)
    return shared
