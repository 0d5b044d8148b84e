"""Planted leaks: each is found by the check that is there for it."""

import pandas as pd
import pytest

from phantoms import ingest_phantom, make_split_params
from tumor_cascade.results.planted_leaks import CANARY, SCAN, LeakSearch, choose_patients, search_leaks


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> LeakSearch:
    """Return the search in five generated patients."""
    cohort = ingest_phantom(tmp_path_factory.mktemp("phantom"), 5)
    return search_leaks(make_split_params(num_folds=2), cohort.slices, cohort.rows)


def test_search_leaks__data_as_they_are(search: LeakSearch) -> None:
    assert search.pairs["patient_level"] == []
    assert all(one.is_chance for one in search.canaries["patient_level"])
    assert not any(one.is_chance for one in search.canaries["slice_level"])


def test_search_leaks__copies_are_left_to_the_scan(search: LeakSearch) -> None:
    trials = {trial.leak.split(", ")[1]: trial for trial in search.trials if trial.check == SCAN}
    assert [trial.num_planted for trial in trials.values()] == [5] * 7
    for name in ("unchanged", "brighter by 20 gray levels", "contrast x 0.7", "gamma 0.8", "noise of 5 gray levels"):
        assert trials[name].num_found == 5
        assert "nearly identical slice(s)" in trials[name].answer
    assert (trials["mirrored"].num_found, trials["mirrored"].answer) == (0, "")  # known to escape


def test_search_leaks__patients_on_both_sides_are_left_to_the_canary(search: LeakSearch) -> None:
    halves, single, mixed = (trial for trial in search.trials if trial.check == CANARY)
    assert (halves.num_planted, halves.num_found) == (4, 4)  # each development patient
    assert (single.num_planted, single.num_found) == (4, 4)
    assert (mixed.num_planted, mixed.num_found) == (3, 3)  # test and two folds
    assert all("permuted-label canary" in trial.answer for trial in (halves, single, mixed))
    assert [one.fold for one in search.canaries["planted"] if not one.is_chance] == [0, 1]


def test_choose_patients__spread_over_the_cohort() -> None:
    rows = pd.DataFrame({"patient_id": [f"p{number:02d}" for number in range(28)] * 2})
    assert choose_patients(rows) == [f"p{number:02d}" for number in range(0, 28, 3)]
    assert choose_patients(rows[:4]) == ["p00", "p01", "p02", "p03"]
