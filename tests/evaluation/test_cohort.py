"""The loop over patients and what waits in memory."""

import numpy as np
import pandas as pd
import pytest

from predictions import PARAMS, StandIn, draw_squares, make_evaluation
from tumor_cascade.data.volumes import Volume
from tumor_cascade.evaluation.cohort import Evaluation, evaluate_volumes, join_evaluations, pack_masks, unpack_masks


def test_evaluate_volumes__a_row_per_slice_with_its_identity() -> None:
    slices = make_evaluation().slices
    assert slices["patient_id"].tolist() == ["p0"] * 4 + ["p1"] * 3 + ["p2"] * 2
    assert slices["slice_number"].tolist() == [1, 2, 3, 4, 1, 2, 3, 1, 2]
    assert slices.columns[:4].tolist() == ["patient_id", "institution", "slice_index", "slice_number"]


def test_evaluate_volumes__patient_without_masks() -> None:
    volume = Volume("p7", np.zeros((1, 3, 8, 8), np.uint8), None)
    with pytest.raises(ValueError, match="p7 has no masks"):
        evaluate_volumes(StandIn([]), [(pd.DataFrame(), volume)], PARAMS, num_patients=1)


def test_join_evaluations__patients_in_order() -> None:
    whole = make_evaluation()
    parts = [
        Evaluation(
            whole.slices[whole.slices["patient_id"].isin(names)],
            whole.patients.loc[names],
            {name: whole.packed_masks[name] for name in names},
        )
        for names in (["p1"], ["p0", "p2"])
    ]
    joined = join_evaluations(parts)
    pd.testing.assert_frame_equal(joined.slices, whole.slices)
    pd.testing.assert_frame_equal(joined.patients, whole.patients)
    assert joined.packed_masks == whole.packed_masks


def test_unpack_masks__gives_back_what_was_packed() -> None:
    masks = draw_squares([0, 3, 64])[:, :63, :61]  # sizes that fill no whole byte
    packed = pack_masks(masks)
    assert (unpack_masks(packed, masks.shape) == masks).all()
    assert len(packed) < masks.nbytes / 50
