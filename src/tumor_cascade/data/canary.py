"""The permuted-label canary: labels that mean nothing cannot be learned, unless the split lets patients be recognized.

Every patient gets a fair coin as label, all of them independent. A held-out slice is answered with the label of the
slice on the training side that looks most like it (1-nearest neighbor at 32x32). Where that slice is another
patient's, the answer is right in half of all draws; where it is the same patient's, always. So the mean score over many
draws is 0.5 + 0.5 x the share of slices that find their own patient again: chance, or the split gives identity away.

Each held-out patient counts alike however many slices it has, so that few leaked slices weigh as much as many. Draws
are independent and alike: the mean of their scores has the standard error SD / sqrt(draws), and the interval is the
normal one. All held-out parts are judged at once: Bonferroni.

Who looks alike is found once; a draw then only changes labels, and ten thousand cost next to nothing. What the canary
cannot see is one person under two ids, whose labels are independent: the near-duplicate scan is there for that.

Source: Yagis et al. 2021 (https://doi.org/10.1038/s41598-021-01681-w): random labels scored 96 % under a split of
slices and 50 % under a split of patients.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from tumor_cascade.data.duplicates import name_fold
from tumor_cascade.data.split import TEST_FOLD
from tumor_cascade.data.thumbnails import Thumbnails, find_nearest

CHANCE = 0.5
NUM_DIGITS = 6  # more would be noise of the order in which floats are added


@dataclass(frozen=True)
class Canary:
    """How well random labels are answered in one held-out part.

    Attributes:
        fold: Development fold that is held out, or -1 for the test set (against all development folds).
        num_patients: With a slice in it.
        accuracy: Mean over draws of labels; 0.5 is chance.
        low: Lower end of its interval.
        high: Upper end of its interval.
    """

    fold: int
    num_patients: int
    accuracy: float
    low: float
    high: float

    @property
    def part(self) -> str:
        """What files call the part: `test`, `fold-0`, ..."""
        return "test" if self.fold == TEST_FOLD else f"fold-{self.fold}"

    @property
    def is_chance(self) -> bool:
        """Whether the interval contains chance."""
        return self.low <= CHANCE <= self.high


def run_canary(
    splits: pd.DataFrame, thumbnails: Thumbnails, *, num_permutations: int, confidence: float, seed: int
) -> list[Canary]:
    """Hold out the test set and each development fold in turn, and answer random labels of patients.

    Args:
        splits: One row per slice, see `SPLITS_SCHEMA`.
        thumbnails: uint8 `(N, D)`, of the same slices.
        num_permutations: Draws of labels.
        confidence: That no interval of a split without leaks misses chance.
        seed: Of the labels.
    """
    owners, names = pd.factorize(splits["patient_id"], sort=True)
    folds = splits["fold"].to_numpy()
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(num_permutations, len(names)))
    parts = np.unique(folds)
    canaries = []
    for fold in parts:
        is_held_out = folds == fold
        is_training = (folds != TEST_FOLD) & ~is_held_out
        nearest, _ = find_nearest(thumbnails[is_held_out], thumbnails[is_training])
        scores = score_labels(signs, owners[is_held_out], owners[is_training][nearest])
        mean = float(scores.mean())
        margin = norm.isf((1 - confidence) / 2 / len(parts)) * float(scores.std(ddof=1)) / np.sqrt(num_permutations)
        bounds = (round(float(value), NUM_DIGITS) for value in (mean, mean - margin, mean + margin))
        canaries.append(Canary(int(fold), len(np.unique(owners[is_held_out])), *bounds))
    return canaries


def score_labels(
    signs: NDArray[np.float64], owners: NDArray[np.int64], answers: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the accuracy of each draw of labels, a mean over patients of the share of their slices answered right.

    Args:
        signs: -1 or 1 `(draws, P)`, the label of each patient.
        owners: int64 `(N,)`, whose each held-out slice is.
        answers: int64 `(N,)`, whose label it is answered with.

    Returns:
        float64 `(draws,)`.
    """
    num_patients = signs.shape[1]
    counts = np.zeros((num_patients, num_patients))
    np.add.at(counts, (owners, answers), 1)  # slices of a patient that look like another
    totals = counts.sum(axis=1, keepdims=True)
    weights = counts / np.maximum(totals, 1) / np.count_nonzero(totals)
    agreement: NDArray[np.float64] = ((signs @ weights) * signs).sum(axis=1)
    return CHANCE + CHANCE * agreement  # two labels agree where their signs' product is 1


def describe_recognition(canaries: list[Canary]) -> list[str]:
    """Return one line per held-out part whose patients can be recognized from the training side."""
    return [
        f"{name_fold(one.fold)}: the permuted-label canary scores {one.accuracy:.4f} [{one.low:.4f}, {one.high:.4f}], "
        f"which excludes chance ({CHANCE}): slices of its {one.num_patients} patients find the same patient on the "
        "training side; deal whole patients, or set split_data.protocol to slice_level (leaky, for comparison only, "
        "never promotable)."
        for one in canaries
        if not one.is_chance
    ]
