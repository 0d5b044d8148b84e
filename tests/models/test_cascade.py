import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tumor_cascade.data.preprocessing import Preprocessing
from tumor_cascade.models import scoring
from tumor_cascade.models.cascade import Cascade, VolumePrediction, remove_components
from tumor_cascade.models.classifier import TumorClassifier
from tumor_cascade.models.decision import CascadeSettings
from tumor_cascade.models.resunet import ResUNet
from tumor_cascade.models.scoring import ScoringNetwork

# One threshold of one half for gate and decision, which reads the classifier alone.
SETTINGS = CascadeSettings(
    smoothing_slices=0.0,
    temperature=1.0,
    gate_threshold=0.5,
    classifier_weight=1.0,
    segmenter_weight=0.0,
    bias=0.0,
    decision_threshold=0.5,
    mask_threshold=0.5,
    has_flip_averaging=False,
    min_component_voxels=0,
    has_only_largest_component=False,
)
SIZE_PX = 8


class BrightestFlair(nn.Module):
    """A classifier whose logit is the grey value of the brightest FLAIR pixel, minus 128, times a factor."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, images: Tensor) -> Tensor:
        return self.factor * (255 * images[:, 1].amax((1, 2)) - 128)


class FlairPixels(nn.Module):
    """A segmenter whose logit of a pixel is its FLAIR grey value minus 128, times a factor."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, images: Tensor) -> Tensor:
        return self.factor * (255 * images[:, 1:2] - 128)


def wrap(network: nn.Module, has_neighbor_slices: bool = False) -> ScoringNetwork:
    return ScoringNetwork(network.eval(), Preprocessing(SIZE_PX, "unit_range", has_neighbor_slices))


def make_cascade(settings: CascadeSettings = SETTINGS) -> Cascade:
    return Cascade([wrap(BrightestFlair())], [wrap(FlairPixels())], settings)


def make_volume(*flair_levels: int) -> NDArray[np.uint8]:
    """Return a volume whose slices are black but for one 2x2 square in FLAIR of the given grey level."""
    volume = np.zeros((len(flair_levels), 3, SIZE_PX, SIZE_PX), dtype=np.uint8)
    for index, level in enumerate(flair_levels):
        volume[index, 1, 2:4, 2:4] = level
    return volume


def make_real_cascade(has_neighbor_slices: bool = True) -> Cascade:
    torch.manual_seed(0)
    num_channels = 5 if has_neighbor_slices else 3
    classifier = TumorClassifier(num_channels, "resnet18", 0.3, "linear", 32)
    segmenter = ResUNet(num_channels, [4, 8], "residual", False, False)
    preprocessing = Preprocessing(32, "volume_percentile", has_neighbor_slices)
    networks = ([ScoringNetwork(net.eval(), preprocessing)] for net in (classifier, segmenter))
    return Cascade(*networks, replace(SETTINGS, has_flip_averaging=True))


def make_noise(num_slices: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (num_slices, 3, 40, 40), dtype=np.uint8)


def test_predict_volume__segments_where_the_gate_is_open() -> None:
    prediction = make_cascade().predict_volume(make_volume(200, 0, 100))
    assert prediction.is_positive.tolist() == [True, False, False]
    assert prediction.masks.sum(axis=(1, 2)).tolist() == [4, 0, 0]
    assert prediction.masks[0, 2:4, 2:4].all()
    assert prediction.mask_probabilities is None and prediction.segmenter_masks is None


def test_predict_volume__closed_gate_empties_the_mask() -> None:
    # Every slice has a bright square that the segmenter finds; the gate asks for more than any probability.
    cascade = make_cascade(replace(SETTINGS, gate_threshold=1.1))
    prediction = cascade.predict_volume(make_volume(200, 250), is_every_slice_segmented=True)
    assert not prediction.gate_is_open.any() and not prediction.is_positive.any() and not prediction.masks.any()
    assert prediction.segmenter_masks is not None
    assert prediction.segmenter_masks.sum(axis=(1, 2)).tolist() == [4, 4]


def test_predict_volume__gate_at_zero_is_no_gate() -> None:
    prediction = make_cascade(replace(SETTINGS, gate_threshold=0.0)).predict_volume(make_volume(0, 200))
    assert prediction.gate_is_open.all()
    assert prediction.is_positive.tolist() == [False, True]
    assert np.isfinite(prediction.segmenter_scores).all()


def test_predict_volume__thresholds_are_reached_not_exceeded() -> None:
    # Grey level 128 is logit 0, probability 0.5 in both networks: at the threshold.
    prediction = make_cascade().predict_volume(make_volume(128, 127))
    np.testing.assert_allclose(prediction.probabilities, [0.5, 0.268941], rtol=1e-4)
    assert prediction.is_positive.tolist() == [True, False]
    assert prediction.masks.sum() == 4


def test_predict_volume__temperature_divides_the_logit() -> None:
    # Logit 130 - 128 = 2 at temperature 4: sigmoid(0.5) = 0.622459.
    settings = replace(SETTINGS, temperature=4.0, classifier_weight=0.25)
    prediction = make_cascade(settings).predict_volume(make_volume(130, 110))
    # Behind the gate: -18 / 4 gives sigmoid(-4.5) = 0.010987.
    np.testing.assert_allclose(prediction.probabilities, [0.622459, 0.010987], atol=1e-5)


def test_predict_volume__decision_reads_both_networks() -> None:
    # Level 140: classifier logit 12; segmenter: 4 of 64 pixels at 12, the others at -128: 12 + log(4 / 64) = 9.227411.
    settings = replace(SETTINGS, classifier_weight=0.5, segmenter_weight=0.25, bias=-8.0)
    prediction = make_cascade(settings).predict_volume(make_volume(140, 138, 100))
    np.testing.assert_allclose(prediction.segmenter_scores, [9.227411, 7.227411, np.nan], rtol=1e-4)
    np.testing.assert_allclose(prediction.classifier_logits, [12, 10, -28], rtol=1e-4)
    # 0.5 * 12 + 0.25 * 9.227411 - 8 = 0.306853; 0.5 * 10 + 0.25 * 7.227411 - 8 = -1.193147; closed: sigmoid(-28).
    np.testing.assert_allclose(prediction.probabilities, [0.576117, 0.232697, 0], atol=1e-5)
    assert prediction.gate_is_open.tolist() == [True, True, False]
    assert prediction.is_positive.tolist() == [True, False, False]
    # Segmented, found, and yet left empty: the slice is not positive.
    assert prediction.masks.sum(axis=(1, 2)).tolist() == [4, 0, 0]
    np.testing.assert_allclose(prediction.uncertainty, [0.983227, 0.782619, 0], atol=1e-3)


def test_predict_volume__scores_are_smoothed_along_the_volume() -> None:
    # A slice that the gate would leave out alone is carried by its neighbors.
    volume = make_volume(200, 120, 200)
    plain, smoothed = (
        make_cascade(replace(SETTINGS, smoothing_slices=width)).predict_volume(volume) for width in (0.0, 1.0)
    )
    assert plain.gate_is_open.tolist() == [True, False, True]
    assert smoothed.gate_is_open.all()
    np.testing.assert_array_equal(smoothed.classifier_logits, plain.classifier_logits)


def test_predict_volume__ensembles_average_logits_and_mask_probabilities() -> None:
    # Level 130: logit 2 and, with the factor -0.5, logit -1.
    classifiers, segmenters = ([wrap(kind(factor)) for factor in (1.0, -0.5)] for kind in (BrightestFlair, FlairPixels))
    prediction = Cascade(classifiers, segmenters, SETTINGS).predict_volume(make_volume(130))
    # Slice: sigmoid((2 - 1) / 2) = 0.622459. Pixel: (sigmoid(2) + sigmoid(-1)) / 2 = (0.880797 + 0.268941) / 2.
    assert prediction.probabilities[0] == pytest.approx(0.622459, abs=1e-5)
    everything = Cascade(classifiers, segmenters, SETTINGS).predict_volume(
        make_volume(130), is_every_slice_segmented=True
    )
    assert everything.mask_probabilities is not None
    assert everything.mask_probabilities[0, 2, 2] == pytest.approx(0.574869, abs=1e-5)


def test_predict_volume__asking_for_every_slice_changes_nothing_else() -> None:
    cascade, volume = make_cascade(replace(SETTINGS, min_component_voxels=5)), make_volume(200, 210, 0, 220)
    some, every = (cascade.predict_volume(volume, is_every_slice_segmented=flag) for flag in (False, True))
    for name in ("probabilities", "is_positive", "masks", "uncertainty", "gate_is_open", "classifier_logits"):
        np.testing.assert_array_equal(getattr(some, name), getattr(every, name))
    assert np.isnan(some.segmenter_scores).tolist() == [False, False, True, False]
    assert np.isfinite(every.segmenter_scores).all()
    # The last square is alone behind a tumor-free slice: 4 voxels, fewer than 5.
    assert some.masks.sum(axis=(1, 2)).tolist() == [4, 4, 0, 0]


def test_predict_volume__components_are_those_of_segmented_slices() -> None:
    # The middle slice is segmented and called negative: it joins the component that its neighbors belong to, and is
    # emptied after that.
    settings = replace(SETTINGS, min_component_voxels=9, decision_threshold=0.9)
    prediction = make_cascade(settings).predict_volume(make_volume(200, 129, 200))
    assert prediction.is_positive.tolist() == [True, False, True]  # sigmoid(1) = 0.73
    assert prediction.masks.sum(axis=(1, 2)).tolist() == [4, 0, 4]


def test_predict_volume__slice_heads_are_averaged_where_all_have_one() -> None:
    torch.manual_seed(0)
    heads = [ResUNet(3, [4, 8], "residual", has_slice_head=True, has_deep_supervision=False) for _ in range(2)]
    volume, settings = make_noise(3), replace(SETTINGS, gate_threshold=0.0)

    def predict(*segmenters: nn.Module) -> NDArray[np.float32] | None:
        networks = [wrap(network) for network in segmenters]
        return Cascade([wrap(BrightestFlair())], networks, settings).predict_volume(volume).slice_head_logits

    first, second, both = predict(heads[0]), predict(heads[1]), predict(*heads)
    assert first is not None and second is not None and both is not None
    np.testing.assert_allclose(both, (first + second) / 2, rtol=1e-5)
    assert predict(heads[0], FlairPixels()) is None


def test_predict_volume__lone_slice() -> None:
    cascade = make_real_cascade()
    prediction = cascade.predict_volume(make_noise(1))
    assert prediction.probabilities.shape == (1,) and prediction.masks.shape == (1, 40, 40)
    assert np.isfinite(prediction.probabilities).all()


def test_predict_volume__blank_volume_is_no_number_out_of_range() -> None:
    for num_slices in (1, 3):
        prediction = make_real_cascade().predict_volume(np.zeros((num_slices, 3, 40, 40), dtype=np.uint8))
        assert np.isfinite(prediction.probabilities).all() and np.isfinite(prediction.uncertainty).all()


def test_predict_volume__does_not_depend_on_the_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    cascade, volume = make_real_cascade(), make_noise(7)
    predictions: list[VolumePrediction] = []
    for batch_size in (1, 3, 32):
        monkeypatch.setattr(scoring, "BATCH_SIZE", batch_size)
        predictions.append(cascade.predict_volume(volume, is_every_slice_segmented=True))
    for prediction in predictions[1:]:
        np.testing.assert_allclose(prediction.probabilities, predictions[0].probabilities, atol=1e-4)
        assert prediction.mask_probabilities is not None and predictions[0].mask_probabilities is not None
        np.testing.assert_allclose(prediction.mask_probabilities, predictions[0].mask_probabilities, atol=1e-4)


def test_predict_volume__reads_non_contiguous_and_read_only_volumes() -> None:
    cascade, volume = make_real_cascade(), make_noise(6)
    expected = cascade.predict_volume(volume[::2].copy())
    view = volume[::2]
    view.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(cascade.predict_volume(view).probabilities, expected.probabilities)


def test_predict_volume__answers_alike_from_several_threads() -> None:
    cascade, volumes = make_real_cascade(), [make_noise(3, seed) for seed in range(4)]
    alone = [cascade.predict_volume(volume, is_every_slice_segmented=True) for volume in volumes]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda v: cascade.predict_volume(v, is_every_slice_segmented=True), volumes * 3))
    for expected, found in zip(alone * 3, together, strict=True):
        np.testing.assert_array_equal(found.probabilities, expected.probabilities)
        np.testing.assert_array_equal(found.mask_probabilities, expected.mask_probabilities)


def test_cascade__needs_a_network_per_role() -> None:
    with pytest.raises(ValueError, match="at least one network per role"):
        Cascade([], [wrap(FlairPixels())], SETTINGS)
    with pytest.raises(ValueError, match="at least one network per role"):
        Cascade([wrap(BrightestFlair())], [], SETTINGS)


def draw(*voxels: tuple[int, int, int]) -> NDArray[np.bool_]:
    masks = np.zeros((3, 4, 4), dtype=bool)
    for voxel in voxels:
        masks[voxel] = True
    return masks


# Two voxels that touch by a corner across slices, and one apart.
DIAGONAL, APART = ((0, 0, 0), (1, 1, 1)), ((0, 3, 3),)


@pytest.mark.parametrize(
    ("min_voxels", "has_only_largest", "kept"),
    [
        (0, False, (*DIAGONAL, *APART)),
        (1, False, (*DIAGONAL, *APART)),
        (2, False, DIAGONAL),  # one component of two under 26-connectivity, two of one under fewer
        (3, False, ()),
        (0, True, DIAGONAL),
        (3, True, ()),
    ],
)
def test_remove_components__literals(
    min_voxels: int, has_only_largest: bool, kept: tuple[tuple[int, int, int], ...]
) -> None:
    masks = draw(*DIAGONAL, *APART)
    before = masks.copy()
    np.testing.assert_array_equal(remove_components(masks, min_voxels, has_only_largest), draw(*kept))
    np.testing.assert_array_equal(masks, before)


def test_remove_components__equal_components_leave_the_first() -> None:
    np.testing.assert_array_equal(remove_components(draw((0, 0, 0), (2, 3, 3)), 0, True), draw((0, 0, 0)))


@pytest.mark.parametrize("has_only_largest", [False, True])
def test_remove_components__nothing_and_everything(has_only_largest: bool) -> None:
    for masks in (np.zeros((2, 3, 3), bool), np.ones((2, 3, 3), bool), np.zeros((0, 3, 3), bool)):
        np.testing.assert_array_equal(remove_components(masks, 10, has_only_largest), masks)
