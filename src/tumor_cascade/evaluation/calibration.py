"""Fits and choices on validation slices: temperature, weights of slice scores, thresholds."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from scipy.stats import sem
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

MAX_LOG_TEMPERATURE = math.log(20)
# Weak, so that weights are the data's; but there, so that slices that a score separates without error give finite ones.
INVERSE_REGULARIZATION = 1.0
# A batch of another size changes a network's last digits; the slice that set a threshold must reach it again.
LEEWAY = 1e-3  # of a logit
MAX_THRESHOLD = 1 - 1e-6  # where float32 probabilities saturate


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.bool_]) -> float:
    """Return the temperature that makes sigmoid(logit / T) most likely, within [1/20, 20].

    Source: Guo et al. 2017 (https://arxiv.org/abs/1706.04599), section 4.2.

    Args:
        logits: `(N,)`, of validation slices.
        labels: `(N,)`, whether each shows tumor; both kinds must occur.

    Raises:
        ValueError: Only one kind occurs, so that no temperature is better than another.
    """
    if labels.all() or not labels.any():
        raise ValueError("temperature needs slices with and without tumor")

    def negative_log_likelihood(log_temperature: float) -> float:
        return float(log_loss(labels, expit(logits / math.exp(log_temperature))))

    bounds = (-MAX_LOG_TEMPERATURE, MAX_LOG_TEMPERATURE)
    return math.exp(minimize_scalar(negative_log_likelihood, bounds=bounds, method="bounded").x)


def fit_score_weights(scores: NDArray[np.floating], labels: NDArray[np.bool_]) -> tuple[list[float], float]:
    """Return weights and bias of the logistic regression that joins slice scores.

    Args:
        scores: `(N, F)`, of validation slices.
        labels: `(N,)`, whether each shows tumor; both kinds must occur.
    """
    model = LogisticRegression(C=INVERSE_REGULARIZATION).fit(scores, labels)
    return [float(weight) for weight in model.coef_[0]], float(model.intercept_[0])


def choose_threshold(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.bool_],
    target_sensitivity: float,
    is_good: Callable[[NDArray[np.bool_]], bool],
) -> float:
    """Return the highest threshold, up to a hair, that keeps the target share of tumor slices and is good.

    Only probabilities of tumor slices are candidates: between two of them a higher threshold drops tumor-free slices
    alone. If none is good, it is the lowest.

    Args:
        probabilities: `(N,)`, of validation slices; negative where a slice cannot be kept.
        labels: `(N,)`, whether each shows tumor; at least one that can be kept.
        target_sensitivity: In (0, 1]; reached or exceeded on these slices, as far as they can be kept.
        is_good: Says of the slices kept `(N,)` whether they will do.
    """
    positives = np.sort(probabilities[labels])[::-1]
    num_kept = max(math.ceil(target_sensitivity * len(positives) - 1e-9), 1)
    candidates = np.unique(positives[(positives <= positives[num_kept - 1]) & (positives >= 0)])[::-1]
    if not len(candidates):  # the target is out of reach: all that can be kept
        candidates = positives[positives >= 0][-1:]
    chosen = next((value for value in candidates if is_good(probabilities >= value)), candidates[-1])
    return float(expit(logit(min(float(chosen), MAX_THRESHOLD)) - LEEWAY))


def choose_mask_threshold(candidates: Sequence[float], dice: NDArray[np.floating]) -> float:
    """Return the candidate nearest to 0.5 whose mean volume Dice is within one standard error of the best one's.

    A dozen patients prefer thresholds at random; the error is that of the difference paired by patient. One patient
    alone tells nothing, so that all candidates will do.

    Args:
        candidates: `(T,)`.
        dice: `(patients, T)`, NaN where a patient has no tumor.

    Source:
        The one-standard-error rule: Breiman et al. 1984, Classification and Regression Trees, section 3.4.3.
    """
    scored = dice[~np.isnan(dice).any(axis=1)]
    if len(scored) < 2:
        return min(candidates, key=lambda value: abs(value - 0.5))
    best = scored[:, np.argmax(np.round(scored.mean(axis=0), 6))]
    short = best[:, None] - scored
    will_do = short.mean(axis=0) <= sem(short, axis=0) + 1e-6
    return min((candidates[i] for i in np.flatnonzero(will_do).tolist()), key=lambda value: abs(value - 0.5))
