"""Numbers of the cascade that are chosen on validation patients: temperature, gate threshold, mask threshold."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit
from sklearn.metrics import log_loss

MAX_LOG_TEMPERATURE = math.log(20)


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


def choose_gate_threshold(
    probabilities: NDArray[np.floating], labels: NDArray[np.bool_], target_sensitivity: float
) -> float:
    """Return the highest threshold at which `probability >= threshold` keeps the target share of tumor slices.

    Args:
        probabilities: `(N,)`, calibrated, of validation slices.
        labels: `(N,)`, at least one with tumor.
        target_sensitivity: In (0, 1]; reached or exceeded on these slices.
    """
    positives = np.sort(probabilities[labels])[::-1]
    num_kept = max(math.ceil(target_sensitivity * len(positives) - 1e-9), 1)
    return float(positives[num_kept - 1])


def choose_mask_threshold(candidates: Sequence[float], dice: NDArray[np.floating]) -> float:
    """Return the candidate with the best mean volume Dice; the one nearest to 0.5 among equals.

    Args:
        candidates: `(T,)`.
        dice: `(patients, T)`, NaN where a patient has no tumor.
    """
    means = np.round(np.nanmean(dice, axis=0), 6)
    best = np.flatnonzero(means == means.max())
    return float(min((candidates[i] for i in best.tolist()), key=lambda value: abs(value - 0.5)))
