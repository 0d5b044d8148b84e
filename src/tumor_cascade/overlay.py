"""Pictures of predictions: the mask as a file, and an overlay for people.

An overlay is FLAIR, the mask as tint and contour, and what the cascade says below.
"""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

MASK_COLOR = (230, 159, 0)  # orange: seen against grey tissue, told from it with any colour vision
TINT = 0.2  # share of the colour inside the contour, little enough to see the tissue
CONTOUR_PX = 2
TARGET_PX = 512  # smaller slices are magnified by a whole number
MAX_STEM_LENGTH = 120
COMPRESS_LEVEL = 3  # nearly twice as fast as the default and hardly larger
CAPTION_PX, FONT_PX, MARGIN_PX = 30, 15, 8


def measure_white(flair: NDArray[np.uint8]) -> float:
    """Return the grey level to show as white: the 99.5th percentile, so that single bright pixels darken nothing."""
    return max(1.0, float(np.percentile(flair, 99.5)))


def draw_overlay(flair: NDArray[np.uint8], mask: NDArray[np.bool_], white: float, caption: str) -> Image.Image:
    """Return a picture of a slice, `scale * H + CAPTION_PX` high and `scale * W` wide.

    Args:
        flair: uint8 `(H, W)`.
        mask: bool `(H, W)`.
        white: Grey level to show as white; one for all slices of a volume, so that they compare.
        caption: One line.
    """
    height, width = flair.shape
    scale = max(1, round(TARGET_PX / max(height, width)))
    size = (width * scale, height * scale)
    levels = np.clip(flair / white * 255, 0, 255).astype(np.uint8)
    pixels = np.repeat(np.asarray(Image.fromarray(levels).resize(size, Image.Resampling.BICUBIC))[..., None], 3, axis=2)
    inside = mask.repeat(scale, axis=0).repeat(scale, axis=1)
    contour = inside & ~ndimage.binary_erosion(inside, iterations=CONTOUR_PX, border_value=0)
    color = np.array(MASK_COLOR)
    tinted = np.where(inside[..., None], (1 - TINT) * pixels + TINT * color, pixels)
    tinted[contour] = color
    picture = Image.new("RGB", (size[0], size[1] + CAPTION_PX))
    picture.paste(Image.fromarray(tinted.astype(np.uint8)))
    place = (MARGIN_PX, size[1] + CAPTION_PX // 2)
    ImageDraw.Draw(picture).text(place, caption, font=ImageFont.load_default(FONT_PX), anchor="lm")
    return picture


class PictureFolder:
    """Writes pictures under names that are safe and unique on any file system.

    Args:
        folder: Existing; gets the folders `masks` and `overlays`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._taken: set[str] = set()
        for kind in ("masks", "overlays"):
            (folder / kind).mkdir()

    def write(
        self, name: str, flair: NDArray[np.uint8], mask: NDArray[np.bool_], white: float, caption: str
    ) -> dict[str, str]:
        """Write the pictures of a slice and return their paths within the folder, `mask` and `overlay`.

        Args:
            name: Of the slice; becomes the file's name as far as it is safe.
            flair: As in `draw_overlay`, like all that follow.
            mask: Written as PNG of 0 and 255.
            white: See there.
            caption: See there.
        """
        stem = self._make_stem(name)
        paths = {"mask": f"masks/{stem}.png", "overlay": f"overlays/{stem}.png"}
        Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).save(self._folder / paths["mask"])
        overlay = draw_overlay(flair, mask, white, caption)
        overlay.save(self._folder / paths["overlay"], compress_level=COMPRESS_LEVEL)
        return paths

    def _make_stem(self, name: str) -> str:
        safe = re.sub(r"[^A-Za-z0-9._-]", "_", str(Path(name).with_suffix("")))
        stem = safe[-MAX_STEM_LENGTH:].lstrip(".-") or "_"
        unique, turn = stem, 1
        while unique.casefold() in self._taken:
            turn += 1
            unique = f"{stem}-{turn}"
        self._taken.add(unique.casefold())
        return unique
