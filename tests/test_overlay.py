import io
from pathlib import Path

import numpy as np
from PIL import Image

from tumor_cascade.overlay import CAPTION_PX, MASK_COLOR, PictureFolder, draw_overlay, measure_white

FLAIR = np.full((32, 32), 100, dtype=np.uint8)
MASK = np.zeros((32, 32), dtype=bool)
MASK[8:16, 8:16] = True


def test_draw_overlay__contour_inside_the_mask_tint_behind_it() -> None:
    pixels = np.asarray(draw_overlay(FLAIR, MASK, 255.0, "caption"))
    assert pixels.shape == (512 + CAPTION_PX, 512, 3)  # 512 / 32 = 16 times
    # The mask covers pixels 128 to 255 of the picture: two of contour, then the tint, 80 % grey and 20 % colour.
    assert pixels[127, 200].tolist() == [100, 100, 100]
    assert pixels[128, 200].tolist() == pixels[129, 200].tolist() == list(MASK_COLOR)
    assert pixels[130, 200].tolist() == [126, 111, 80]
    assert pixels[512:].any()  # the caption


def test_draw_overlay__empty_mask_shows_the_slice_alone() -> None:
    pixels = np.asarray(draw_overlay(FLAIR, np.zeros_like(MASK), 200.0, ""))
    assert np.unique(pixels[:512]).tolist() == [127]  # 100 / 200 * 255, cut


def test_draw_overlay__large_slices_keep_their_size() -> None:
    image = np.zeros((600, 700), dtype=np.uint8)
    assert draw_overlay(image, image > 0, 1.0, "").size == (700, 600 + CAPTION_PX)


def test_draw_overlay__same_input_same_bytes() -> None:
    first, second = io.BytesIO(), io.BytesIO()
    for stream in (first, second):
        draw_overlay(FLAIR, MASK, 255.0, "p = 0.50").save(stream, format="PNG")
    assert first.getvalue() == second.getvalue()


def test_measure_white__ignores_few_bright_pixels_and_blank_volumes() -> None:
    volume = np.full((10, 32, 32), 50, dtype=np.uint8)
    volume[0, 0, :10] = 255  # 10 of 10,240 pixels, under 0.5 %
    assert measure_white(volume) == 50.0
    assert measure_white(np.zeros_like(volume)) == 1.0


def test_write__names_stay_inside_the_folder(tmp_path: Path) -> None:
    pictures = PictureFolder(tmp_path)
    names = ["../../etc/passwd.png", "a/b.png", "a_b.png", "\n.png"]
    paths = [pictures.write(name, FLAIR, MASK, 255.0, "")["mask"] for name in names]
    assert paths == ["masks/_.._etc_passwd.png", "masks/a_b.png", "masks/a_b-2.png", "masks/_.png"]
    with Image.open(tmp_path / paths[0]) as mask:
        assert sorted(mask.getcolors() or []) == [(64, 255), (960, 0)]
