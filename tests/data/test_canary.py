"""The permuted-label canary."""

import numpy as np
import pandas as pd
import pytest

from tumor_cascade.data.canary import Canary, describe_recognition, run_canary, score_labels
from tumor_cascade.data.thumbnails import Thumbnails

NUM_PATIENTS, NUM_SLICES = 48, 6
RULES = {"num_permutations": 600, "confidence": 0.9999, "seed": 1}


def make_thumbnails() -> Thumbnails:
    """Return slices of 48 patients: a picture of each, with a little noise per slice."""
    rng = np.random.default_rng(5)
    pictures = rng.integers(40, 200, (NUM_PATIENTS, 1, 64))
    return (pictures + rng.integers(-5, 6, (NUM_PATIENTS, NUM_SLICES, 64))).reshape(-1, 64).astype(np.uint8)


def make_splits() -> pd.DataFrame:
    """Return four parts of twelve patients: the test set and folds 0 to 2."""
    patients = np.repeat(np.arange(NUM_PATIENTS), NUM_SLICES)
    return pd.DataFrame(
        {
            "patient_id": [f"p{patient:02d}" for patient in patients],
            "slice_index": np.tile(np.arange(NUM_SLICES), NUM_PATIENTS),
            "fold": patients % 4 - 1,
        }
    )


def test_score_labels__known() -> None:
    signs = np.array([[1.0, 1, -1], [1, -1, 1]])
    # Patient 0 has three slices, answered with the labels of patients 1, 1 and 2; patient 1 has one, answered with 2's.
    # First draw: 2 of 3 and 0 of 1 are right, mean 1/3. Second: 1 of 3 and 0 of 1, mean 1/6.
    scores = score_labels(signs, np.array([0, 0, 0, 1]), np.array([1, 1, 2, 2]))
    assert scores == pytest.approx([1 / 3, 1 / 6])


def test_run_canary__split_of_patients_is_chance() -> None:
    canaries = run_canary(make_splits(), make_thumbnails(), **RULES)
    assert [one.part for one in canaries] == ["test", "fold-0", "fold-1", "fold-2"]
    assert all(one.num_patients == 12 for one in canaries)
    assert all(one.is_chance for one in canaries)
    # Each of twelve patients is answered alike on all its slices, a coin each: SD 0.5 / sqrt(12) = 0.144 of a draw, and
    # 4.2 standard errors (0.0001 over four parts and two sides) of 600 draws are 0.025 to each side.
    assert [one.high - one.low for one in canaries] == pytest.approx([0.05] * 4, abs=0.01)
    assert describe_recognition(canaries) == []


def test_run_canary__split_of_slices_is_near_one() -> None:
    splits = make_splits()
    splits["fold"] = splits["slice_index"] % 4 - 1
    for one in run_canary(splits, make_thumbnails(), **RULES):
        assert one.accuracy == 1.0  # each slice has slices of its own patient on the other side, and finds one
        assert not one.is_chance


@pytest.mark.parametrize("num_moved", [1, 3])
@pytest.mark.parametrize("patient", [1, 2, 3, 21, 47])
def test_run_canary__one_patient_of_twelve_on_both_sides_is_caught(patient: int, num_moved: int) -> None:
    splits = make_splits()
    own = splits["patient_id"] == f"p{patient:02d}"
    home = int(splits.loc[own, "fold"].iloc[0])
    away = (home + 1) % 3
    splits.loc[own & (splits["slice_index"] < num_moved), "fold"] = away
    canaries = {one.fold: one for one in run_canary(splits, make_thumbnails(), **RULES)}
    # The patient is one of 13 held out in its new part and always answered right: 0.5 + 0.5 / 13, give or take.
    assert canaries[away].accuracy == pytest.approx(0.5 + 0.5 / 13, abs=0.02)
    assert not canaries[away].is_chance
    [line] = describe_recognition([canaries[away]])
    assert f"development fold {away}: the permuted-label canary scores 0.5" in line
    assert "excludes chance (0.5): slices of its 13 patients" in line


def test_run_canary__test_patient_with_a_slice_in_development_is_caught() -> None:
    splits = make_splits()
    splits.loc[0, "fold"] = 1
    canaries = run_canary(splits, make_thumbnails(), **RULES)
    assert [one.part for one in canaries if not one.is_chance] == ["test"]


def test_run_canary__false_alarms_are_as_rare_as_said() -> None:
    thumbnails, splits = make_thumbnails(), make_splits()
    alarms = [
        not all(
            one.is_chance for one in run_canary(splits, thumbnails, num_permutations=100, confidence=0.9, seed=seed)
        )
        for seed in range(200)
    ]
    # 200 splits without leaks at 90 % over all parts: 20 alarms expected, SD 4.2; Bonferroni and the normal interval
    # are not exact.
    assert 8 <= sum(alarms) <= 36


def test_run_canary__equal_for_equal_input() -> None:
    first, second = (run_canary(make_splits(), make_thumbnails(), **RULES) for _ in range(2))
    assert first == second
    assert first != run_canary(make_splits(), make_thumbnails(), **{**RULES, "seed": 2})


@pytest.mark.parametrize(("low", "high", "is_chance"), [(0.49, 0.51, True), (0.501, 0.52, False), (0.4, 0.499, False)])
def test_canary__chance_lies_in_the_interval_or_not(low: float, high: float, is_chance: bool) -> None:
    assert Canary(-1, 12, (low + high) / 2, low, high).is_chance is is_chance
