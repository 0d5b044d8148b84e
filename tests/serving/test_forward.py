from dataclasses import replace

import numpy as np
import pytest
import torch

from archives import make_image
from tumor_cascade.data.preprocessing import Preprocessing
from tumor_cascade.models.cascade import Cascade
from tumor_cascade.models.classifier import TumorClassifier
from tumor_cascade.models.decision import CascadeSettings
from tumor_cascade.models.resunet import ResUNet
from tumor_cascade.models.scoring import ScoringNetwork
from tumor_cascade.serving.forward import Volume, predict_volumes

SETTINGS = CascadeSettings(
    smoothing_slices=0.7,
    temperature=1.0,
    gate_threshold=0.5,
    classifier_weight=0.5,
    segmenter_weight=0.5,
    bias=0.1,
    decision_threshold=0.5,
    mask_threshold=0.5,
    has_flip_averaging=True,
    min_component_voxels=3,
    has_only_largest_component=False,
)
# (slices, side): of one slice, of several, of another size.
SHAPES = ((1, 32), (5, 32), (1, 48), (3, 20), (1, 32))
TOLERANCE = 1e-4


def build_networks(normalization: str, *, has_neighbor_slices: bool, num: int) -> tuple[list[ScoringNetwork], ...]:
    preprocessing = Preprocessing(32, normalization, has_neighbor_slices)
    roles: tuple[list[ScoringNetwork], ...] = ([], [])
    for seed in range(num):
        torch.manual_seed(seed)
        channels = preprocessing.num_channels
        classifier = TumorClassifier(channels, "resnet18", 0.0, "linear", 32)
        segmenter = ResUNet(channels, [4, 8], "residual", has_slice_head=seed == 0, has_deep_supervision=False)
        for role, network in zip(roles, (classifier, segmenter), strict=True):
            role.append(ScoringNetwork(network.eval(), preprocessing))
    return roles


@pytest.fixture(scope="module")
def volumes() -> list[np.ndarray]:
    return [
        np.stack([make_image(10 * number + index, side).transpose(2, 0, 1) for index in range(num_slices)])
        for number, (num_slices, side) in enumerate(SHAPES)
    ]


@pytest.mark.parametrize(
    ("normalization", "has_neighbor_slices", "num"),
    [("volume_percentile", True, 2), ("slice_zscore", False, 1), ("volume_landmarks", False, 1)],
)
def test_predict_volumes__says_what_the_cascade_says_of_each_volume_alone(
    volumes: list[np.ndarray], normalization: str, has_neighbor_slices: bool, num: int
) -> None:
    classifiers, segmenters = build_networks(normalization, has_neighbor_slices=has_neighbor_slices, num=num)
    cascade = Cascade(classifiers, segmenters, SETTINGS)
    logits = np.concatenate([cascade.predict_volume(images).classifier_logits for images in volumes])
    # The gate halfway between two slices, so that some slices of each batch are segmented and some are not.
    between = float(np.sort(logits)[len(logits) // 2 - 1 : len(logits) // 2 + 1].mean())
    settings = replace(SETTINGS, smoothing_slices=0.0, gate_threshold=1 / (1 + np.exp(-between)))
    cascade = Cascade(classifiers, segmenters, settings)
    together = predict_volumes(cascade, [Volume(images, settings) for images in volumes])
    assert 0 < sum(one.gate_is_open.sum() for one in together) < len(logits)
    for images, prediction in zip(volumes, together, strict=True):
        alone = cascade.predict_volume(images, is_every_slice_segmented=True)
        expected = cascade.predict_volume(images)
        assert np.array_equal(prediction.gate_is_open, expected.gate_is_open)
        assert np.array_equal(prediction.is_positive, expected.is_positive)
        for name in ("probabilities", "uncertainty", "classifier_logits", "segmenter_scores"):
            found = getattr(prediction, name)
            np.testing.assert_allclose(found, getattr(expected, name), atol=TOLERANCE, err_msg=name)
        assert alone.mask_probabilities is not None
        is_clear = np.abs(alone.mask_probabilities - settings.mask_threshold) > TOLERANCE
        assert np.array_equal(prediction.masks & is_clear, expected.masks & is_clear)


def test_predict_volumes__each_volume_has_thresholds_of_its_own(volumes: list[np.ndarray]) -> None:
    classifiers, segmenters = build_networks("unit_range", has_neighbor_slices=False, num=1)
    cascade = Cascade(classifiers, segmenters, SETTINGS)
    shut, wide = (replace(SETTINGS, gate_threshold=value, decision_threshold=0.0) for value in (1.0, 0.0))
    first, second = predict_volumes(cascade, [Volume(volumes[1], shut), Volume(volumes[1], wide)])
    assert not first.gate_is_open.any()
    assert not first.is_positive.any()
    assert second.gate_is_open.all()
    assert second.is_positive.all()


def test_predict_volumes__no_slice_wanted_runs_no_segmenter(volumes: list[np.ndarray]) -> None:
    classifiers, segmenters = build_networks("unit_range", has_neighbor_slices=False, num=1)
    segmenters[0].network.register_forward_hook(lambda *_: pytest.fail("the segmenter ran"))
    shut = replace(SETTINGS, gate_threshold=1.0)
    predictions = predict_volumes(Cascade(classifiers, segmenters, shut), [Volume(one, shut) for one in volumes])
    assert [one.masks.shape for one in predictions] == [(z, side, side) for z, side in SHAPES]
    assert all(np.isnan(one.segmenter_scores).all() for one in predictions)
