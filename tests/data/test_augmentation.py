from typing import Any

import pytest
import torch
from torch import Tensor

from tumor_cascade.data.augmentation import augment_batch, change_intensity, drop_sequences, warp_batch
from tumor_cascade.params import AugmentationParams

OFF: dict[str, float] = {
    "flip_probability": 0.0,
    "max_rotation_deg": 0.0,
    "max_scale_change": 0.0,
    "max_gain_change": 0.0,
    "max_gamma_change": 0.0,
    "noise_std": 0.0,
    "sequence_drop_probability": 0.0,
}
STRONG = {
    "flip_probability": 0.5,
    "max_rotation_deg": 15.0,
    "max_scale_change": 0.1,
    "max_gain_change": 0.1,
    "max_gamma_change": 0.2,
    "noise_std": 0.03,
    "sequence_drop_probability": 0.15,
}


def make_settings(**changes: float) -> AugmentationParams:
    return AugmentationParams(**{**OFF, **changes})


def make_batch(num: int = 16, size_px: int = 48, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return dim noise with a bright disc where the mask is, somewhere off the center."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(num, 1, size_px, size_px)
    rows = torch.arange(size_px)
    centers = torch.randint(14, size_px - 14, (num, 2), generator=generator)
    for mask, (top, left) in zip(masks, centers.tolist(), strict=True):
        mask[0] = ((rows[:, None] - top) ** 2 + (rows[None] - left) ** 2 <= 25).float()
    noise = 0.2 * torch.rand(num, 3, size_px, size_px, generator=generator)
    return (noise + 0.7 * masks).clamp(0, 1), masks


def measure_contrast(images: Tensor, masks: Tensor) -> float:
    """Return mean FLAIR inside the masks minus outside."""
    flair = images[:, 1:2]
    return float((flair * masks).sum() / masks.sum() - (flair * (1 - masks)).sum() / (1 - masks).sum())


def test_augment_batch__zero_strengths_change_nothing() -> None:
    images, masks = make_batch()
    new_images, new_masks = augment_batch(images, masks, make_settings())
    torch.testing.assert_close(new_images, images, rtol=0, atol=1e-5)
    assert torch.equal(new_masks, masks)


def test_warp_batch__certain_flip_is_exact() -> None:
    images, masks = make_batch()
    new_images, new_masks = warp_batch(images, masks, make_settings(flip_probability=1.0))
    torch.testing.assert_close(new_images, images.flip(-1), rtol=0, atol=1e-5)
    assert torch.equal(new_masks, masks.flip(-1))


def test_warp_batch__flips_as_often_as_asked() -> None:
    images, masks = make_batch(400)
    torch.manual_seed(0)
    _, new_masks = warp_batch(images, masks, make_settings(flip_probability=0.25))
    is_flipped = (new_masks == masks.flip(-1)).flatten(1).all(1) & ~(masks == masks.flip(-1)).flatten(1).all(1)
    # 100 of 400 expected, standard deviation 8.7.
    assert 65 <= int(is_flipped.sum()) <= 135


def test_warp_batch__a_quarter_turn_is_a_quarter_turn() -> None:
    # The angle is uniform in [-90, 90] degrees: find one drawn near the end and compare with the turned picture.
    images, masks = make_batch(256)
    torch.manual_seed(0)
    angle = 90 * (2 * torch.rand(256) - 1)
    torch.manual_seed(0)
    _, new_masks = warp_batch(images, masks, make_settings(max_rotation_deg=90.0))
    nearest = int(angle.abs().argmax())
    assert angle[nearest].abs() > 89
    turned = torch.rot90(masks[nearest, 0], 1 if angle[nearest] > 0 else -1)
    overlap = (new_masks[nearest, 0] * turned).sum() / turned.sum()
    assert overlap > 0.9


def test_warp_batch__scale_changes_the_area() -> None:
    images, masks = make_batch(200)
    torch.manual_seed(0)
    _, new_masks = warp_batch(images, masks, make_settings(max_scale_change=0.2))
    ratio = new_masks.sum((1, 2, 3)) / masks.sum((1, 2, 3))
    # Lengths times 0.8 to 1.2, areas times 0.64 to 1.44; discs of 81 px are rough at the edge.
    assert 0.5 < ratio.min() < 0.75 and 1.3 < ratio.max() < 1.6


def test_augment_batch__mask_moves_with_its_image() -> None:
    images, masks = make_batch(64)
    torch.manual_seed(0)
    new_images, new_masks = augment_batch(images, masks, make_settings(**STRONG))
    assert not torch.equal(new_masks, masks)
    before, after = measure_contrast(images, masks), measure_contrast(new_images, new_masks)
    assert after > 0.85 * before
    # What this test is for: masks that stayed, or stand 8 pixels off, would not pass.
    assert measure_contrast(new_images, masks) < 0.85 * before
    assert measure_contrast(new_images, new_masks.roll(8, dims=-1)) < 0.5 * before


def test_augment_batch__masks_stay_binary() -> None:
    images, masks = make_batch()
    for seed in range(5):
        torch.manual_seed(seed)
        new_images, new_masks = augment_batch(images, masks, make_settings(**STRONG))
        assert set(new_masks.unique().tolist()) == {0.0, 1.0}
        assert new_images.shape == images.shape and new_masks.shape == masks.shape
        assert new_images.dtype == new_masks.dtype == torch.float32
        assert torch.isfinite(new_images).all()


def test_augment_batch__same_seed_same_result() -> None:
    images, masks = make_batch()

    def run(seed: int) -> tuple[Tensor, Tensor]:
        torch.manual_seed(seed)
        return augment_batch(images, masks, make_settings(**STRONG))

    first, again, other = run(3), run(3), run(4)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_augment_batch__leaves_its_input_alone() -> None:
    images, masks = make_batch()
    copies = images.clone(), masks.clone()
    augment_batch(images, masks, make_settings(**STRONG))
    assert torch.equal(images, copies[0]) and torch.equal(masks, copies[1])


def test_drop_sequences__certain_drop_leaves_flair_alone() -> None:
    images, _ = make_batch()
    dropped = drop_sequences(images, 1.0)
    for channel in range(3):
        assert torch.equal(dropped[:, channel], images[:, 1])


def test_drop_sequences__pre_and_post_fall_apart_from_each_other() -> None:
    images = torch.rand(1000, 3, 2, 2)
    torch.manual_seed(0)
    dropped = drop_sequences(images, 0.3)
    is_dropped = {channel: (dropped[:, channel] == images[:, 1]).flatten(1).all(1) for channel in (0, 2)}
    # 300 of 1,000 each, standard deviation 14.5; both together 90, standard deviation 9.
    assert all(230 < int(one.sum()) < 370 for one in is_dropped.values())
    assert 45 < int((is_dropped[0] & is_dropped[2]).sum()) < 135
    assert torch.equal(dropped[:, 1], images[:, 1])


def test_drop_sequences__neighbors_stay() -> None:
    images = torch.rand(8, 5, 4, 4)
    assert torch.equal(drop_sequences(images, 1.0)[:, 3:], images[:, 3:])


@pytest.mark.parametrize(
    ("change", "low", "high"),
    # Of grey 0.5: gain 0.5 (1 -+ 0.2); gamma 0.5 ** exp(+-0.4), exponents 1.491825 and 0.670320.
    [({"max_gain_change": 0.2}, 0.4, 0.6), ({"max_gamma_change": 0.4}, 0.355564, 0.628367)],
)
def test_change_intensity__stays_in_its_range(change: dict[str, Any], low: float, high: float) -> None:
    torch.manual_seed(0)
    changed = change_intensity(torch.full((500, 3, 1, 1), 0.5), make_settings(**change))
    assert low <= changed.min() < low + 0.01 and high - 0.01 < changed.max() <= high
    assert len(changed.unique()) > 1000  # each image and channel has its own


def test_change_intensity__noise_has_its_strength() -> None:
    torch.manual_seed(0)
    noise = change_intensity(torch.zeros(4, 3, 64, 64), make_settings(noise_std=0.05))
    assert noise.std().item() == pytest.approx(0.05, rel=0.02)
    assert abs(noise.mean().item()) < 0.001
