"""Random changes to a whole training batch at once, on its own device."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from tumor_cascade.data.preprocessing import FLAIR
from tumor_cascade.params import AugmentationParams

PRE, POST = 0, 2


def augment_batch(images: Tensor, masks: Tensor, settings: AugmentationParams) -> tuple[Tensor, Tensor]:
    """Return a randomly changed batch; torch's global generator decides, so the caller seeds it per step.

    Args:
        images: float32 `(N, C, H, W)`, channels pre, FLAIR, post (and FLAIR of neighbours), normalised.
        masks: float32 {0, 1} `(N, 1, H, W)`.
        settings: Strength of each change.

    Returns:
        Images and masks of the same shapes; masks stay {0, 1}.
    """
    images = drop_sequences(images, settings.sequence_drop_probability)
    images, masks = warp_batch(images, masks, settings)
    return change_intensity(images, settings), masks


def drop_sequences(images: Tensor, probability: float) -> Tensor:
    """Replace pre or post by FLAIR, as the public archive does where a sequence is missing."""
    if probability == 0:
        return images
    images = images.clone()
    for channel in (PRE, POST):
        is_dropped = torch.rand(len(images), device=images.device) < probability
        images[:, channel] = torch.where(is_dropped[:, None, None], images[:, FLAIR], images[:, channel])
    return images


def warp_batch(images: Tensor, masks: Tensor, settings: AugmentationParams) -> tuple[Tensor, Tensor]:
    """Flip left-right, rotate about the center and scale each image with its mask."""
    num, device = len(images), images.device
    angle = math.radians(settings.max_rotation_deg) * _draw_uniform(num, device)
    scale = 1 + settings.max_scale_change * _draw_uniform(num, device)
    flip = 1 - 2 * (torch.rand(num, device=device) < settings.flip_probability).float()
    cos, sin, zero = torch.cos(angle) / scale, torch.sin(angle) / scale, torch.zeros(num, device=device)
    matrix = torch.stack([cos * flip, -sin, zero, sin * flip, cos, zero], dim=1).view(num, 2, 3)
    both = torch.cat([images, masks], dim=1)
    grid = functional.affine_grid(matrix, list(both.shape), align_corners=False)
    warped = functional.grid_sample(both, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return warped[:, :-1], (warped[:, -1:] >= 0.5).float()


def change_intensity(images: Tensor, settings: AugmentationParams) -> Tensor:
    """Change gamma and gain per image and channel, then add Gaussian noise."""
    shape = (*images.shape[:2], 1, 1)
    if settings.max_gamma_change > 0:
        gamma = torch.exp(settings.max_gamma_change * _draw_uniform(shape, images.device))
        images = images.clamp(0, 1) ** gamma
    if settings.max_gain_change > 0:
        images = images * (1 + settings.max_gain_change * _draw_uniform(shape, images.device))
    if settings.noise_std > 0:
        images = images + settings.noise_std * torch.randn_like(images)
    return images


def _draw_uniform(shape: int | tuple[int, ...], device: torch.device) -> Tensor:
    """Return uniform numbers in [-1, 1)."""
    return 2 * torch.rand(shape, device=device) - 1
