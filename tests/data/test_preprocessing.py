from dataclasses import asdict

import numpy as np
import pytest
import torch

from tumor_cascade.data.preprocessing import (
    Preprocessing,
    measure_quantiles,
    normalize_volume,
    preprocess_volume,
    resize_images,
    resize_images_to,
    resize_masks,
    stack_neighbors,
)
from tumor_cascade.params import TrainingParams


def make_constant(level: int, num_slices: int = 2, size_px: int = 16) -> torch.Tensor:
    return torch.full((num_slices, 3, size_px, size_px), level, dtype=torch.uint8)


def make_ladder() -> torch.Tensor:
    """Return a volume whose FLAIR holds each level from 50 to 149 once, on black; pre is black, post is 200."""
    volume = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    volume[0, 1].view(-1)[:100] = torch.arange(50, 150, dtype=torch.uint8)
    volume[0, 2] = 200
    return volume


def test_measure_quantiles__of_the_foreground() -> None:
    low, median, high = measure_quantiles(make_ladder(), (0.01, 0.5, 0.99))
    # Of 100 foreground pixels the first reaches 1 % (50), the 50th half (99), the 99th 99 % (148). Black is out.
    assert (low.tolist(), median.tolist(), high.tolist()) == ([0, 50, 200], [0, 99, 200], [0, 148, 200])


def test_measure_quantiles__ten_grey_levels_are_background() -> None:
    volume = make_constant(10)
    assert measure_quantiles(volume, [0.99])[0].tolist() == [0, 0, 0]
    assert measure_quantiles(volume + 1, [0.99])[0].tolist() == [11, 11, 11]


@pytest.mark.parametrize(("num_pixels", "expected"), [(99, 0), (100, 90)])
def test_measure_quantiles__needs_a_hundred_pixels(num_pixels: int, expected: int) -> None:
    volume = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    volume[0, 1].view(-1)[:num_pixels] = 90
    low, high = measure_quantiles(volume, (0.01, 0.99))
    assert low[1] == high[1] == expected


def test_normalize_volume__percentiles_become_0_and_1() -> None:
    flair = normalize_volume(make_ladder(), "volume_percentile")[0, 1].view(-1)
    # (level - 50) / (148 - 50), cut at 0 and 1: 50, 99, 148, 149 and the black rest.
    torch.testing.assert_close(flair[[0, 49, 98, 99, 100]], torch.tensor([0, 0.5, 1, 1, 0]))


def test_normalize_volume__percentiles_are_of_the_volume_not_the_slice() -> None:
    volume = torch.cat([make_constant(100, 1), make_constant(200, 1)])
    normalized = normalize_volume(volume, "volume_percentile")
    assert normalized[0].unique().tolist() == [0] and normalized[1].unique().tolist() == [1]


def make_volume(seed: int, brightness: float) -> torch.Tensor:
    """Return a volume of noise whose median moves with a power of its brightness."""
    noise = np.random.default_rng(seed).random((3, 3, 24, 24)) ** brightness
    return torch.from_numpy((noise * 255).astype(np.uint8))


@pytest.mark.parametrize("brightness", [0.3, 1.0, 3.0])
def test_normalize_volume__landmarks_as_numpy_interpolates(brightness: float) -> None:
    volume = make_volume(1, brightness)
    normalized = normalize_volume(volume, "volume_landmarks").numpy()
    for channel in range(3):
        levels = volume[:, channel].numpy().astype(float)
        # The smallest level that the share reaches, as of a histogram.
        marks = np.quantile(levels[levels > 10], (0.01, 0.5, 0.99), method="inverted_cdf")
        np.testing.assert_allclose(normalized[:, channel], np.interp(levels, marks, (0, 0.3, 1)), atol=1e-6)


def test_normalize_volume__landmarks_of_a_lopsided_volume_stay_finite_and_in_order() -> None:
    volume = torch.full((1, 3, 20, 20), 200, dtype=torch.uint8)  # the median is the 99th percentile, too
    volume[..., 0] = torch.arange(11, 31, dtype=torch.uint8)
    values = normalize_volume(volume, "volume_landmarks")
    assert torch.isfinite(values).all()
    assert ((values >= 0) & (values <= 1)).all()
    by_level = values[0, 0].flatten()[volume[0, 0].flatten().argsort(stable=True)]
    assert (by_level.diff() >= 0).all()


def normalize_by_percentiles_earlier(images: torch.Tensor) -> torch.Tensor:
    """Return `volume_percentile` as the version before `volume_landmarks` computed it."""
    lows, highs = [], []
    for channel in images.unbind(dim=1):
        counts = torch.bincount(channel.flatten().int(), minlength=256).double()
        counts[:11] = 0
        total = counts.sum()
        shares = counts.cumsum(0) / total.clamp_min(1)
        lows.append(int((shares >= 0.01).int().argmax()) if total >= 100 else 0)
        highs.append(int((shares >= 0.99).int().argmax()) if total >= 100 else 0)
    low, high = torch.tensor(lows, dtype=torch.float32), torch.tensor(highs, dtype=torch.float32)
    span = (high - low)[None, :, None, None]
    scaled = (images.float() - low[None, :, None, None]) / span.clamp_min(1)
    return torch.where(span < 1, 0.0, scaled.clamp(0, 1))


@pytest.mark.parametrize("brightness", [0.3, 1.0, 8.0])
def test_normalize_volume__percentiles_give_the_same_bits_as_before_landmarks(brightness: float) -> None:
    for volume in (make_volume(2, brightness), make_ladder(), make_constant(0), make_constant(128)):
        assert torch.equal(normalize_volume(volume, "volume_percentile"), normalize_by_percentiles_earlier(volume))


@pytest.mark.parametrize("normalization", ["unit_range", "slice_zscore", "volume_percentile", "volume_landmarks"])
@pytest.mark.parametrize("level", [0, 5, 128, 255])
def test_normalize_volume__constant_volumes_are_finite(normalization: str, level: int) -> None:
    normalized = normalize_volume(make_constant(level), normalization)
    expected = level / 255 if normalization == "unit_range" else 0.0
    torch.testing.assert_close(normalized, torch.full_like(normalized, expected))


def test_normalize_volume__zscore_per_slice_over_all_channels() -> None:
    volume = torch.zeros(2, 3, 2, 2, dtype=torch.uint8)
    volume[0, 0], volume[0, 1] = 30, 60
    volume[1] = 77
    normalized = normalize_volume(volume, "slice_zscore")
    # 0, 30, 60 in equal parts: mean 30, std sqrt((900 + 0 + 900) / 3) = 24.494897; 30 / 24.494897 = 1.224745.
    torch.testing.assert_close(normalized[0, :, 0, 0], torch.tensor([0.0, 1.224745, -1.224745]))
    assert (normalized[1] == 0).all()  # a constant slice beside it


def test_normalize_volume__zscore_leaves_near_constant_slices_at_0() -> None:
    volume = make_constant(100, 1)
    volume[0, 0, 0, 0] = 101  # std far below one grey level
    assert (normalize_volume(volume, "slice_zscore") == 0).all()


def test_normalize_volume__refuses_an_unknown_name() -> None:
    with pytest.raises(ValueError, match="unknown normalization 'minmax'"):
        normalize_volume(make_constant(0), "minmax")


def test_resize_images__same_size_is_the_same_picture() -> None:
    images = torch.rand(2, 3, 16, 16)
    assert resize_images(images, 16) is images
    assert resize_images_to(images, (16, 16)) is images


def test_resize_images__keeps_constants_and_place() -> None:
    torch.testing.assert_close(resize_images(torch.full((1, 1, 10, 10), 0.3), 7), torch.full((1, 1, 7, 7), 0.3))
    images = torch.zeros(1, 1, 8, 8)
    images[..., :4] = 1  # left half
    small, large = resize_images(images, 4), resize_images(images, 16)
    assert small[0, 0, 0].tolist() == sorted(small[0, 0, 0].tolist(), reverse=True)
    assert small.mean().item() == large.mean().item() == 0.5


def test_resize_images__averages_instead_of_skipping() -> None:
    board = (torch.arange(64).view(8, 8) + torch.arange(8)[:, None]) % 2
    small = resize_images(board[None, None].float(), 2)[0, 0]
    torch.testing.assert_close(small, torch.full((2, 2), 0.5), rtol=0, atol=0.01)  # skipping would give 0 or 1


def test_resize_masks__a_pixel_is_tumor_where_half_of_it_was() -> None:
    masks = torch.zeros(1, 8, 8, dtype=torch.uint8)
    masks[0, 2:6, 2:6] = 1
    assert resize_masks(masks, 4)[0, 0].tolist() == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    # A lone pixel fills a quarter of a cell of the small picture: gone. Enlarged it stays.
    masks.zero_()
    masks[0, 3, 3] = 1
    assert resize_masks(masks, 4).sum() == 0
    assert resize_masks(masks, 16).sum() == 4


@pytest.mark.parametrize("size_px", [5, 8, 13, 24])
def test_resize_masks__full_stays_full_and_empty_empty(size_px: int) -> None:
    for value in (0, 1):
        resized = resize_masks(torch.full((2, 8, 8), value, dtype=torch.uint8), size_px)
        assert resized.shape == (2, 1, size_px, size_px) and resized.dtype == torch.float32
        assert (resized == value).all()


def test_preprocess_volume__gives_the_size_and_units_asked_for() -> None:
    for normalization in ("unit_range", "volume_percentile"):
        volume = torch.randint(0, 256, (3, 3, 20, 30), dtype=torch.uint8)
        inputs = preprocess_volume(volume, Preprocessing(16, normalization, has_neighbor_slices=True))
        assert inputs.shape == (3, 3, 16, 16) and inputs.dtype == torch.float32 and inputs.is_contiguous()
        assert inputs.min() >= 0 and inputs.max() <= 1 + 1e-6


def test_stack_neighbors__ends_are_their_own_neighbors() -> None:
    # Two volumes of 3 and 2 slices, one after another; FLAIR of slice i is 10 + i.
    images = torch.zeros(5, 3, 1, 1)
    images[:, 1, 0, 0] = 10 + torch.arange(5)
    index = torch.tensor([0, 1, 2, 3, 4])
    stacked = stack_neighbors(images, index, torch.tensor([3, 3, 3, 2, 2]), torch.tensor([0, 1, 2, 0, 1]))
    assert stacked[:, 1, 0, 0].tolist() == [10, 11, 12, 13, 14]
    assert stacked[:, 3, 0, 0].tolist() == [10, 10, 11, 13, 13]  # before; slice 3 starts the second volume
    assert stacked[:, 4, 0, 0].tolist() == [11, 12, 12, 14, 14]  # after; slice 2 ends the first


def test_stack_neighbors__lone_slice() -> None:
    images = torch.rand(1, 3, 4, 4)
    stacked = stack_neighbors(images, torch.tensor([0]), torch.tensor([1]), torch.tensor([0]))
    assert torch.equal(stacked[0, :3], images[0])
    assert torch.equal(stacked[0, 3], images[0, 1]) and torch.equal(stacked[0, 4], images[0, 1])


@pytest.mark.parametrize(("has_neighbor_slices", "num_channels"), [(False, 3), (True, 5)])
def test_preprocessing__is_taken_from_params(has_neighbor_slices: bool, num_channels: int) -> None:
    class Section:
        input_size_px = 64
        normalization = "unit_range"

    Section.has_neighbor_slices = has_neighbor_slices  # type: ignore[attr-defined]
    preprocessing = Preprocessing.from_params(Section)
    assert preprocessing.num_channels == num_channels
    assert set(asdict(preprocessing)) <= set(TrainingParams.model_fields)  # names as in params.yaml
