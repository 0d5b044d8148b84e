"""Expanded percentile bootstrap over patients: the patient is the unit that is drawn, never the slice.

A resample of P patients is a row of P weights: how often each patient was drawn. A statistic maps weights `(B, P)` to
values `(B,)`, NaN where it is undefined; all-ones weights give the value on the data as they are. So each statistic is
vectorised over resamples, and the difference of two under the same weights is paired by patient.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm
from scipy.stats import t as student_t

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]

ROUNDING = 1e-12  # values that differ by less do so by the order of additions
CHUNK_VALUES = 4_000_000  # of a temporary (resamples, slices) array: 32 MB


@dataclass(frozen=True)
class Estimate:
    """A value with its bootstrap interval; None where undefined, so that it can go into JSON."""

    value: float | None
    low: float | None
    high: float | None


# Metric name -> value; a plain number has no interval, None is an undefined one.
Summary = dict[str, Estimate | float | int | None]


class Bootstrap:
    """Resamples of patients, drawn once and shared by every statistic.

    Args:
        num_patients: At least 1.
        num_resamples: At least 1.
        confidence: Of the interval, in (0, 1).
        seed: Equal seeds draw equal resamples.

    Percentiles lie farther out than the confidence says, by what a t interval of as few patients is wider than a normal
    one of the resamples' spread: plain ones of a dozen patients are too short. Source: Hesterberg 2015
    (https://doi.org/10.1080/00031305.2015.1089789), section 5.3.
    """

    def __init__(self, num_patients: int, *, num_resamples: int, confidence: float, seed: int) -> None:
        shares = np.full(num_patients, 1 / num_patients)
        self.weights: Floats = (
            np.random.default_rng(seed).multinomial(num_patients, shares, num_resamples).astype(float)
        )
        self.confidence = confidence
        self.tails = expand_tails(num_patients, confidence)

    def estimate(self, statistic: Statistic, *, is_zero_width_kept: bool = False) -> Estimate:
        """Return a statistic on the data with the percentile interval over resamples.

        Resamples in which it is undefined are left out. With fewer than two patients, or where the value itself is
        undefined, there is no interval: one patient says nothing about the next. Neither is there one where all
        resamples agree, be it that one patient alone defines the value or that all patients have the same.

        Args:
            statistic: Of the patients.
            is_zero_width_kept: Whether agreeing resamples do make an interval, for who knows what it means.
        """
        num_patients = self.weights.shape[1]
        value = float(statistic(np.ones((1, num_patients)))[0])
        if np.isnan(value):
            return Estimate(None, None, None)
        resampled = statistic(self.weights) if num_patients > 1 else np.empty(0)
        resampled = resampled[~np.isnan(resampled)]
        if not resampled.size or (not is_zero_width_kept and np.ptp(resampled) < ROUNDING):
            return Estimate(value, None, None)
        low, high = np.quantile(resampled, self.tails)
        return Estimate(value, float(low), float(high))


def expand_tails(num_patients: int, confidence: float) -> tuple[float, float]:
    """Return the two quantiles of resamples between which an interval of as many patients lies."""
    tail = (1 - confidence) / 2
    if num_patients > 1:
        factor = np.sqrt(num_patients / (num_patients - 1))
        tail = float(norm.cdf(factor * student_t.ppf(tail, num_patients - 1)))
    return tail, 1 - tail


def divide(numerators: ArrayLike, denominators: ArrayLike) -> Floats:
    """Return elementwise quotients, NaN wherever the denominator is 0."""
    top, bottom = np.broadcast_arrays(np.asarray(numerators, dtype=float), np.asarray(denominators, dtype=float))
    quotients = np.full(top.shape, np.nan)
    np.divide(top, bottom, out=quotients, where=bottom != 0)
    return quotients


def mean_of(values: ArrayLike) -> Statistic:
    """Return the mean of per-patient values `(P,)`; patients with NaN are left out.

    Paired differences of two models are `mean_of(a - b)`: a patient counts where both are defined.
    """
    filled, is_defined = _split_nan(values)
    return lambda weights: divide(weights @ filled, weights @ is_defined)


def share_of(is_true: ArrayLike, is_defined: ArrayLike) -> Statistic:
    """Return the share of patients with a property `(P,)` among those for whom it is defined `(P,)`."""
    defined = np.asarray(is_defined, dtype=float)
    return ratio_of(np.asarray(is_true, dtype=float) * defined, defined)


def quantile_of(values: ArrayLike, quantile: float) -> Statistic:
    """Return a quantile of per-patient values `(P,)`, linear between order statistics as numpy's; NaN left out."""
    order = np.argsort(np.asarray(values, dtype=float), kind="stable")
    ordered, is_defined = _split_nan(np.asarray(values, dtype=float)[order])

    def statistic(weights: Floats) -> Floats:
        reached = np.cumsum(weights[:, order] * is_defined, axis=1)  # (B, P)
        position = np.maximum(reached[:, -1] - 1, 0) * quantile

        def pick(rank: Floats) -> Floats:
            index = (reached <= rank[:, None]).sum(axis=1)
            picked: Floats = ordered[np.minimum(index, len(ordered) - 1)]
            return picked

        below, above = pick(np.floor(position)), pick(np.ceil(position))
        blended = below + (above - below) * (position - np.floor(position))
        return np.where(reached[:, -1] > 0, blended, np.nan)

    return statistic


def formula_of(formula: Callable[..., Floats], *sums: ArrayLike) -> Statistic:
    """Return a formula of totals: each of `sums` `(P,)` is added up over the drawn patients, then goes into it."""
    columns = [np.asarray(column, dtype=float) for column in sums]
    return lambda weights: formula(*(weights @ column for column in columns))


def ratio_of(numerators: ArrayLike, denominators: ArrayLike) -> Statistic:
    """Return a ratio of totals over patients, e.g. a pooled sensitivity; undefined where the denominator is 0."""
    return formula_of(divide, numerators, denominators)


def difference_of(first: Statistic, second: Statistic) -> Statistic:
    """Return the difference of two statistics under the same resamples: paired by patient."""
    return lambda weights: first(weights) - second(weights)


def auroc_of(scores: ArrayLike, labels: ArrayLike, patients: ArrayLike) -> Statistic:
    """Return the area under the ROC curve of slices, ties counted half; undefined with one class only.

    The number of concordant pairs is bilinear in the patients' weights, `w M w`, with `M[p, q]` counting the pairs of a
    positive slice of p and a negative slice of q. M is counted once, so a resample costs P x P, however many slices.

    Args:
        scores: float `(S,)`, higher means tumor.
        labels: bool `(S,)`.
        patients: int `(S,)`, number of each slice's patient, from 0.

    Source:
        Mann-Whitney form of the AUROC: Hanley & McNeil 1982 (https://doi.org/10.1148/radiology.143.1.7063747).
    """
    scores, labels, patients = np.asarray(scores, dtype=float), np.asarray(labels, dtype=bool), np.asarray(patients)
    num_patients = int(patients.max()) + 1
    positives = np.bincount(patients[labels], minlength=num_patients).astype(float)
    negatives = np.bincount(patients[~labels], minlength=num_patients).astype(float)
    concordant = np.zeros((num_patients, num_patients))
    for patient in np.flatnonzero(negatives):
        against = np.sort(scores[~labels & (patients == patient)])
        wins = sum(np.searchsorted(against, scores[labels], side=side) for side in ("left", "right")) / 2
        concordant[:, patient] = np.bincount(patients[labels], weights=wins, minlength=num_patients)
    return lambda w: divide(((w @ concordant) * w).sum(axis=1), (w @ positives) * (w @ negatives))


def average_precision_of(scores: ArrayLike, labels: ArrayLike, patients: ArrayLike) -> Statistic:
    """Return the average precision of slices, sum of (R_k - R_k-1) P_k over thresholds; undefined without positives.

    Args:
        scores: float `(S,)`, higher means tumor; equal scores are one threshold.
        labels: bool `(S,)`.
        patients: int `(S,)`, number of each slice's patient, from 0.
    """
    order = np.argsort(-np.asarray(scores, dtype=float), kind="stable")
    ordered, hits = np.asarray(scores, dtype=float)[order], np.asarray(labels, dtype=bool)[order].astype(float)
    owners = np.asarray(patients)[order]
    ends = np.flatnonzero(np.append(np.diff(ordered) != 0, True))  # last slice of each run of equal scores

    def evaluate(weights: Floats) -> Floats:
        drawn = weights[:, owners]  # (b, S)
        found = np.cumsum(drawn * hits, axis=1)[:, ends]
        precision = np.nan_to_num(divide(found, np.cumsum(drawn, axis=1)[:, ends]))
        gains = np.diff(found, axis=1, prepend=0)
        return divide((gains * precision).sum(axis=1), found[:, -1])

    chunk = max(1, CHUNK_VALUES // len(ordered))
    return lambda w: np.concatenate([evaluate(w[start : start + chunk]) for start in range(0, len(w), chunk)])


def _split_nan(values: ArrayLike) -> tuple[Floats, Floats]:
    array = np.asarray(values, dtype=float)
    is_defined = ~np.isnan(array)
    return np.where(is_defined, array, 0.0), is_defined.astype(float)
