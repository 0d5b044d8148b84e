"""Lesion-wise counts of volumes drawn by hand."""

import numpy as np
import pytest

from predictions import draw_squares
from tumor_cascade.evaluation.lesions import LesionCounts, count_lesions

EMPTY = draw_squares([0, 0, 0])
LEFT = draw_squares([4, 4, 0])  # 32 voxels
RIGHT = draw_squares([0, 6, 0], left=40)  # 36 voxels


def count(truth: np.ndarray, prediction: np.ndarray, min_voxels: int = 3, min_overlap: float = 0.1) -> LesionCounts:
    return count_lesions(truth, prediction, min_voxels=min_voxels, min_overlap=min_overlap)


def test_count_lesions__found_missed_and_made_up() -> None:
    made_up = draw_squares([0, 0, 3], top=50)
    assert count(LEFT | RIGHT, LEFT | made_up) == LesionCounts(num_lesions=2, num_found=1, num_false=1)


@pytest.mark.parametrize(("num_marked", "num_found"), [(3, 0), (4, 1)])
def test_count_lesions__overlap_of_a_tenth(num_marked: int, num_found: int) -> None:
    # 10 % of 32 voxels are 3.2: three are too few, four enough. Both touch the tumor, so neither is false.
    prediction = EMPTY.copy()
    prediction[0, 8, 8 : 8 + num_marked] = True
    assert count(LEFT, prediction) == LesionCounts(1, num_found, 0)


def test_count_lesions__two_fragments_add_up() -> None:
    # Neither row of three voxels is a tenth of the lesion alone, both together are: 6 of 32.
    prediction = EMPTY.copy()
    prediction[0, 8, 8:11] = prediction[0, 11, 8:11] = True
    assert count(LEFT, prediction) == LesionCounts(1, 1, 0)


def test_count_lesions__diagonal_neighbors_are_one_lesion() -> None:
    # Two voxels that touch at a corner across slices: with 26 neighbours one lesion of 2.
    truth = EMPTY.copy()
    truth[0, 10, 10] = truth[1, 11, 11] = True
    assert count(truth, EMPTY, min_voxels=2).num_lesions == 1
    assert count(truth, EMPTY, min_voxels=3).num_lesions == 0


def test_count_lesions__small_components_are_ignored_on_both_sides() -> None:
    speck = draw_squares([0, 0, 3], top=50)  # 9 voxels
    assert count(LEFT | speck, LEFT, min_voxels=10) == LesionCounts(1, 1, 0)
    assert count(LEFT, LEFT | speck, min_voxels=10) == LesionCounts(1, 1, 0)


def test_count_lesions__prediction_on_an_ignored_lesion_is_not_false() -> None:
    speck, blob = draw_squares([0, 0, 3], top=50), draw_squares([0, 0, 6], top=50)
    assert count(LEFT | speck, blob, min_voxels=10) == LesionCounts(1, 0, 0)


def test_count_lesions__empty_masks() -> None:
    assert count(EMPTY, EMPTY) == LesionCounts(0, 0, 0)
    assert count(EMPTY, LEFT) == LesionCounts(0, 0, 1)
    assert count(LEFT, EMPTY) == LesionCounts(1, 0, 0)
