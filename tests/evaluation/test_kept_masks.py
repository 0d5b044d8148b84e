"""Volume Dice from counts, against pixels."""

import numpy as np
import pandas as pd

from predictions import make_evaluation
from tumor_cascade.evaluation.kept_masks import KeptMasks

# Two patients of two slices, their rows mixed, and one without tumor.
TABLE = pd.DataFrame(
    {
        "patient_id": ["b", "a", "b", "a", "c"],
        "tumor_px": [10, 20, 30, 0, 0],
        "segmenter_px": [10, 10, 20, 5, 7],
        "segmenter_hit_px": [5, 10, 15, 0, 0],
    }
)


def test_measure_dice__literals() -> None:
    masks = KeptMasks.from_table(TABLE)
    # a: 2 * 10 / (20 + 15); b: 2 * 20 / (40 + 30); c has no tumor.
    np.testing.assert_allclose(masks.measure_dice(np.ones(5, bool)), [20 / 35, 40 / 70, np.nan])
    # Without the false mask of a and the first of b: 20 / 30 and 30 / (40 + 20).
    np.testing.assert_allclose(masks.measure_dice(np.array([0, 1, 1, 0, 1], bool)), [20 / 30, 30 / 60, np.nan])
    np.testing.assert_allclose(masks.measure_dice(np.zeros(5, bool)), [0, 0, np.nan])


def test_measure_dice__is_that_of_the_pixels() -> None:
    evaluation = make_evaluation()
    masks, is_positive = KeptMasks.from_table(evaluation.slices), evaluation.slices["is_positive"].to_numpy(bool)
    np.testing.assert_allclose(masks.measure_dice(is_positive), evaluation.patients["cascade_volume_dice"])
    everything = np.ones_like(is_positive)
    np.testing.assert_allclose(masks.measure_dice(everything), evaluation.patients["segmenter_volume_dice"])
