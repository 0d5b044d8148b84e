from typing import Any

import pytest
import torch
from monai.losses import DiceLoss
from monai.losses import TverskyLoss as MonaiTverskyLoss
from torch import Tensor
from torch.nn import functional

from tumor_cascade.training.losses import TverskyLoss, compute_tversky_index

PLAIN: dict[str, Any] = {
    "fp_weight": 0.3,
    "fn_weight": 0.7,
    "focal_exponent": 1.0,
    "smoothing": 1.0,
    "reduction": "per_image",
    "cross_entropy_weight": 0.0,
}

# Four pixels: TP = 0.9 + 0.5 = 1.4, FP = 0.2 + 0.2 = 0.4, FN = 0.1 + 0.5 = 0.6.
PROBABILITIES, MASKS = torch.tensor([0.9, 0.5, 0.2, 0.2]), torch.tensor([1.0, 1.0, 0.0, 0.0])


def make_loss(**changes: Any) -> TverskyLoss:
    return TverskyLoss(**{**PLAIN, **changes})


def as_batch(*rows: Tensor) -> Tensor:
    """Return rows of 4 pixels as images `(N, 1, 2, 2)`."""
    return torch.stack(rows).reshape(-1, 1, 2, 2)


def make_random_batch(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(5, 1, 8, 8, generator=generator)
    masks = (torch.rand(5, 1, 8, 8, generator=generator) < 0.3).float()
    masks[1] = 0  # tumor-free
    masks[2] = 1  # nothing but tumor
    return logits, masks


def test_compute_tversky_index__literal() -> None:
    # (1.4 + 1) / (1.4 + 0.3 * 0.4 + 0.7 * 0.6 + 1) = 2.4 / 2.94. With the weights swapped it would be 2.4 / 2.86.
    index = compute_tversky_index(PROBABILITIES[None], MASKS[None], fp_weight=0.3, fn_weight=0.7, smoothing=1.0)
    assert index.item() == pytest.approx(2.4 / 2.94, abs=1e-6)
    swapped = compute_tversky_index(PROBABILITIES[None], MASKS[None], fp_weight=0.7, fn_weight=0.3, smoothing=1.0)
    assert swapped.item() == pytest.approx(2.4 / 2.86, abs=1e-6)


def test_tversky_loss__weights_stand_where_they_are_named() -> None:
    logits, masks = as_batch(PROBABILITIES.logit()), as_batch(MASKS)
    assert make_loss()(logits, masks).item() == pytest.approx(1 - 2.4 / 2.94, abs=1e-6)
    # A missed tumor costs more than a false one of the same size when FN weighs more.
    found_nothing, found_too_much = as_batch(torch.full((4,), -9.0)), as_batch(torch.full((4,), 9.0))
    loss = make_loss(fp_weight=0.1, fn_weight=0.9)
    assert loss(found_nothing, masks) > loss(found_too_much, masks) + 0.2


@pytest.mark.parametrize(("fp_weight", "fn_weight"), [(0.5, 0.5), (0.3, 0.7), (0.9, 0.1), (1.0, 1.0), (0.0, 1.0)])
@pytest.mark.parametrize("smoothing", [1e-6, 1.0])
@pytest.mark.parametrize("reduction", ["per_image", "per_batch"])
def test_tversky_loss__agrees_with_monai(fp_weight: float, fn_weight: float, smoothing: float, reduction: str) -> None:
    oracle = MonaiTverskyLoss(
        sigmoid=True,
        alpha=fp_weight,
        beta=fn_weight,
        smooth_nr=smoothing,
        smooth_dr=smoothing,
        batch=reduction == "per_batch",
    )
    loss = make_loss(fp_weight=fp_weight, fn_weight=fn_weight, smoothing=smoothing, reduction=reduction)
    for seed in range(3):
        logits, masks = make_random_batch(seed)
        torch.testing.assert_close(loss(logits, masks), oracle(logits, masks), rtol=1e-5, atol=1e-6)


def test_tversky_loss__half_and_half_is_dice() -> None:
    logits, masks = make_random_batch(0)
    # Dice is 2 TP / (2 TP + FP + FN): the same with numbers and smoothing doubled.
    oracle = DiceLoss(sigmoid=True, smooth_nr=2.0, smooth_dr=2.0)
    torch.testing.assert_close(make_loss(fp_weight=0.5, fn_weight=0.5)(logits, masks), oracle(logits, masks))


def test_tversky_loss__focal_exponent_is_a_power_of_the_plain_loss() -> None:
    logits, masks = as_batch(PROBABILITIES.logit()), as_batch(MASKS)
    # 1 - 2.4 / 2.94 = 0.183673; 0.183673 ** 0.75 = exp(0.75 * ln 0.183673) = exp(-1.270973) = 0.280558
    assert make_loss(focal_exponent=0.75)(logits, masks).item() == pytest.approx(0.280558, abs=1e-5)


def test_tversky_loss__focal_power_is_taken_per_image() -> None:
    logits, masks = as_batch(PROBABILITIES.logit(), torch.full((4,), -30.0)), as_batch(MASKS, torch.zeros(4))
    # The second image is empty and found empty: loss 0, held at 1e-7 ** 0.75 = 5.6e-6.
    assert make_loss(focal_exponent=0.75)(logits, masks).item() == pytest.approx(0.280558 / 2, abs=1e-5)


@pytest.mark.parametrize(
    ("logit", "expected"),
    [
        (-30.0, 0.0),  # nothing found where nothing is
        (30.0, 1 - 1 / (0.3 * 4 + 1)),  # four false pixels: index 1 / 2.2
        (0.0, 1 - 1 / (0.3 * 2 + 1)),  # four half pixels: index 1 / 1.6
    ],
)
def test_tversky_loss__tumor_free_image(logit: float, expected: float) -> None:
    logits = as_batch(torch.full((4,), logit))
    assert make_loss()(logits, torch.zeros(1, 1, 2, 2)).item() == pytest.approx(expected, abs=1e-6)


def test_tversky_loss__cross_entropy_is_added() -> None:
    logits, masks = make_random_batch(0)
    expected = make_loss()(logits, masks) + 5 * functional.binary_cross_entropy_with_logits(logits, masks)
    torch.testing.assert_close(make_loss(cross_entropy_weight=5.0)(logits, masks), expected)


def test_tversky_loss__small_tumor_counts_as_much_as_large() -> None:
    masks = torch.zeros(2, 1, 32, 32)
    masks[0, :, :2, :2] = 1  # 4 px
    masks[1, :, :20, :20] = 1  # 400 px
    found = 40 * masks - 20
    misses_small, misses_large = found.clone(), found.clone()
    misses_small[0], misses_large[1] = -20, -20
    per_image, per_batch = (make_loss(reduction=kind, smoothing=1e-6) for kind in ("per_image", "per_batch"))
    # One of two images is lost either way: loss 0.5.
    assert per_image(misses_small, masks).item() == pytest.approx(0.5, abs=1e-4)
    assert per_image(misses_large, masks).item() == pytest.approx(0.5, abs=1e-4)
    # Over the batch: 400 / (400 + 0.7 * 4) against 4 / (4 + 0.7 * 400).
    assert per_batch(misses_small, masks).item() == pytest.approx(1 - 400 / 402.8, abs=1e-4)
    assert per_batch(misses_large, masks).item() == pytest.approx(1 - 4 / 284, abs=1e-4)


@pytest.mark.parametrize("reduction", ["per_image", "per_batch"])
@pytest.mark.parametrize("focal_exponent", [1.0, 0.75, 4 / 3])
@pytest.mark.parametrize("smoothing", [1e-6, 1.0])
def test_tversky_loss__gradients_are_finite_everywhere(reduction: str, focal_exponent: float, smoothing: float) -> None:
    loss = make_loss(reduction=reduction, focal_exponent=focal_exponent, smoothing=smoothing, cross_entropy_weight=1.0)
    square = torch.zeros(1, 1, 8, 8)
    square[..., 2:5, 2:5] = 1
    for mask in (square, torch.zeros_like(square), torch.ones_like(square)):
        for sign in (1, -1, 0):  # perfect, the opposite, undecided
            for size in (1.0, 20.0, 1000.0):
                logits = (sign * size * (2 * mask - 1)).requires_grad_()
                value = loss(logits, mask)
                value.backward()
                assert torch.isfinite(value) and logits.grad is not None
                assert torch.isfinite(logits.grad).all(), (mask.sum(), sign, size)


@pytest.mark.parametrize("focal_exponent", [1.0, 0.75])
def test_tversky_loss__teaches_on_tumor_free_images(focal_exponent: float) -> None:
    logits = torch.zeros(1, 1, 8, 8, requires_grad=True)
    make_loss(focal_exponent=focal_exponent)(logits, torch.zeros(1, 1, 8, 8)).backward()
    assert logits.grad is not None and (logits.grad > 0).all()  # every pixel is pushed down


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_tversky_loss__is_float32_under_lower_precision(dtype: torch.dtype) -> None:
    logits, masks = make_random_batch(0)
    logits = logits.to(dtype)
    loss = make_loss(focal_exponent=0.75, cross_entropy_weight=5.0)
    value = loss(logits, masks)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(logits.float(), masks))


def test_tversky_loss__sums_large_images_without_loss_of_precision() -> None:
    # 65,536 half-found pixels are beyond what a bfloat16 sum can count.
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = torch.zeros(1, 1, 256, 256, dtype=torch.bfloat16)
        value = make_loss()(logits, torch.ones(1, 1, 256, 256))
    # TP = FN = 32,768: index (32,768 + 1) / (32,768 + 0.7 * 32,768 + 1).
    assert value.item() == pytest.approx(1 - 32_769 / 55_706.6, abs=1e-6)


def test_tversky_loss__takes_boolean_masks() -> None:
    logits, masks = make_random_batch(0)
    assert torch.equal(make_loss()(logits, masks.bool()), make_loss()(logits, masks))
