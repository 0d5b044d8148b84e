"""The table of validation slices."""

import numpy as np
import pandas as pd
import pytest

from products import write_product
from tumor_cascade.data.volumes import Volume
from tumor_cascade.evaluation.tuning import choose_settings
from tumor_cascade.evaluation.validation import decide_table, score_volume, smooth_volumes
from tumor_cascade.models.decision import decide_slices, smooth_scores
from tumor_cascade.product import load_cascade
from validations import make_params, make_scores


def test_score_volume__what_the_networks_say_whatever_the_gate(tmp_path_factory: pytest.TempPathFactory) -> None:
    rng = np.random.default_rng(0)
    images, masks = rng.integers(0, 256, (5, 3, 32, 32), dtype=np.uint8), np.zeros((5, 32, 32), dtype=np.uint8)
    masks[2, 4:20, 4:20] = 1
    rows = pd.DataFrame({"patient_id": "p", "institution": "AA", "slice_index": range(5), "fold": 0, "is_scored": True})
    cascade = load_cascade(write_product(tmp_path_factory.mktemp("product") / "cascade", gate_threshold=1.1))
    scores = score_volume(cascade, rows, Volume("p", images, masks), [0.2, 0.5, 0.9])
    prediction = cascade.predict_volume(images, is_every_slice_segmented=True)
    assert not prediction.gate_is_open.any() and prediction.mask_probabilities is not None
    np.testing.assert_array_equal(scores.slices["classifier_logit"], prediction.classifier_logits)
    np.testing.assert_array_equal(scores.slices["segmenter_score"], prediction.segmenter_scores)
    assert scores.slices["tumor_px"].tolist() == [0, 0, 256, 0, 0]
    for candidate, threshold in enumerate([0.2, 0.5, 0.9]):
        found = prediction.mask_probabilities >= threshold
        np.testing.assert_array_equal(scores.px[:, candidate], found.sum(axis=(1, 2)))
        np.testing.assert_array_equal(scores.hit_px[:, candidate], (found & (masks == 1)).sum(axis=(1, 2)))
    assert "slice_head_logit" not in scores.slices


def test_decide_table__is_the_decision_of_each_volume() -> None:
    scores = make_scores(num_patients=4)
    settings = choose_settings(make_params(gate_smoothing_slices=1.0), scores)
    table = decide_table(scores.slices, settings)
    pd.testing.assert_frame_equal(table[scores.slices.columns], scores.slices)
    rows = table[table["patient_id"] == "AA_0002"]
    alone = decide_slices(rows["classifier_logit"].to_numpy(), rows["segmenter_score"].to_numpy(), settings)
    np.testing.assert_array_equal(rows["probability"], alone.probabilities)
    np.testing.assert_array_equal(rows["is_positive"], alone.is_positive)


def test_smooth_volumes__no_patient_reaches_into_another() -> None:
    slices = make_scores(num_patients=3).slices
    smoothed = smooth_volumes(slices, "segmenter_score", 1.0)
    for patient in slices["patient_id"].unique():
        is_own = (slices["patient_id"] == patient).to_numpy()
        expected = smooth_scores(slices.loc[is_own, "segmenter_score"].to_numpy(), 1.0)
        np.testing.assert_allclose(smoothed[is_own], expected)
