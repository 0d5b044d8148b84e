"""Tversky and focal Tversky losses, per image or per batch, defined on tumor-free images."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional


def compute_tversky_index(
    probabilities: Tensor, masks: Tensor, fp_weight: float, fn_weight: float, smoothing: float
) -> Tensor:
    """Return the soft Tversky index per row: (TP + s) / (TP + fp_weight FP + fn_weight FN + s).

    Source: Salehi et al. 2017, eq. 2 (https://arxiv.org/abs/1706.05721); its alpha weighs FP, its beta FN.
    Empty mask: TP = FN = 0, so the index falls from 1 as `s / (fp_weight FP + s)`; with `s` of about a pixel its
    gradient stays useful, with `s` near 0 it is 0 or 1 and teaches nothing. Empty mask and prediction: 1.

    Args:
        probabilities: float `(N, P)` in [0, 1].
        masks: float {0, 1} `(N, P)`.
        fp_weight: Weight of false positives.
        fn_weight: Weight of false negatives.
        smoothing: `s`, in pixels, above 0.

    Returns:
        float `(N,)` in (0, 1].
    """
    true_positives = (probabilities * masks).sum(1)
    false_positives = (probabilities * (1 - masks)).sum(1)
    false_negatives = ((1 - probabilities) * masks).sum(1)
    denominator = true_positives + fp_weight * false_positives + fn_weight * false_negatives
    return (true_positives + smoothing) / (denominator + smoothing)


class TverskyLoss(nn.Module):
    """1 - Tversky index, or (1 - index) ** focal_exponent, plus weighted binary cross-entropy.

    Source: Tversky: Salehi et al. 2017 (https://arxiv.org/abs/1706.05721); focal: Abraham and Khan 2018
    (https://arxiv.org/abs/1810.07842), whose exponent is 1 / gamma = 0.75.

    Args:
        fp_weight: Weight of false positives in the index.
        fn_weight: Weight of false negatives in the index.
        focal_exponent: Power of (1 - index); 1 is the plain loss.
        smoothing: In pixels; see `compute_tversky_index`.
        reduction: `per_image`: mean over the images' losses, so small tumors count as much as large ones;
            `per_batch`: one index over all pixels of the batch.
        cross_entropy_weight: Weight of the mean binary cross-entropy over pixels; 0 leaves it out.
    """

    def __init__(
        self,
        *,
        fp_weight: float,
        fn_weight: float,
        focal_exponent: float,
        smoothing: float,
        reduction: Literal["per_image", "per_batch"],
        cross_entropy_weight: float,
    ) -> None:
        super().__init__()
        self.fp_weight = fp_weight
        self.fn_weight = fn_weight
        self.focal_exponent = focal_exponent
        self.smoothing = smoothing
        self.reduction = reduction
        self.cross_entropy_weight = cross_entropy_weight

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Return the loss, a scalar, in float32 whatever the precision of the logits.

        Args:
            logits: float `(N, 1, H, W)`.
            masks: {0, 1} `(N, 1, H, W)`.
        """
        logits, masks = logits.float(), masks.float()
        num_rows = logits.shape[0] if self.reduction == "per_image" else 1
        index = compute_tversky_index(
            torch.sigmoid(logits).reshape(num_rows, -1),
            masks.reshape(num_rows, -1),
            self.fp_weight,
            self.fn_weight,
            self.smoothing,
        )
        # The slope of x ** 0.75 is infinite at 0, where a perfect image stands.
        shortfall = 1 - index if self.focal_exponent == 1 else (1 - index).clamp_min(1e-7) ** self.focal_exponent
        loss = shortfall.mean()
        if self.cross_entropy_weight > 0:
            loss = loss + self.cross_entropy_weight * functional.binary_cross_entropy_with_logits(logits, masks)
        return loss
