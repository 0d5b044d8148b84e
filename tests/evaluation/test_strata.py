"""Borders and names of tumor-area strata."""

from tumor_cascade.evaluation.strata import assign_strata, name_strata, title_strata


def test_assign_strata__an_edge_belongs_above() -> None:
    assert assign_strata([1, 99, 100, 499, 500, 9000], [100, 500]).tolist() == [0, 0, 1, 1, 2, 2]


def test_name_strata__three_and_two() -> None:
    assert name_strata([100, 500]) == ["lt_100px", "100_to_499px", "ge_500px"]
    assert name_strata([100]) == ["lt_100px", "ge_100px"]


def test_title_strata__thousands() -> None:
    assert title_strata([500, 2000]) == ["< 500 px", "500 to 1,999 px", "\N{GREATER-THAN OR EQUAL TO} 2,000 px"]
