"""One TIFF or PNG byte string to a uint8 array. Files are hostile until judged; nothing is converted silently.

What a file declares (format, size, pages, mode, strips) is judged before a pixel is decoded, so a decode never takes
more memory than an image of the largest allowed side.
"""

import io
import itertools
import warnings
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from tumor_cascade.errors import DataError

MAX_METADATA_BYTES = 1 << 20
# Lossless ones that libtiff decodes within the declared size: none, LZW, deflate (two codes), PackBits.
TIFF_COMPRESSIONS = (1, 5, 8, 32946, 32773)


@dataclass(frozen=True)
class _Kind:
    noun: str
    mode: str
    num_channels: int
    photometric: int


_IMAGE = _Kind("image", "RGB", 3, 2)
_MASK = _Kind("mask", "L", 1, 1)


def max_file_bytes(max_side_px: int) -> int:
    """Return the largest file that an image of the allowed size needs: uncompressed pixels and some metadata."""
    return 3 * max_side_px**2 + MAX_METADATA_BYTES


def decode_image(data: bytes, name: str, *, max_side_px: int, formats: tuple[str, ...]) -> NDArray[np.uint8]:
    """Return an RGB image as uint8 `(3, H, W)`.

    Args:
        data: The file's bytes.
        name: What to call the file in messages.
        max_side_px: Larger images are refused before decoding.
        formats: Allowed formats, by Pillow's names: TIFF, PNG.

    Raises:
        DataError: The file is no single-page RGB image of 8 bits per channel, too large, damaged or truncated.
    """
    return np.ascontiguousarray(_decode(data, name, _IMAGE, max_side_px, formats).transpose(2, 0, 1))


def decode_mask(data: bytes, name: str, *, max_side_px: int, formats: tuple[str, ...]) -> NDArray[np.uint8]:
    """Return a grayscale mask of values 0 and 255 as uint8 {0, 1} `(H, W)`.

    Args:
        data: The file's bytes.
        name: What to call the file in messages.
        max_side_px: Larger masks are refused before decoding.
        formats: Allowed formats, by Pillow's names: TIFF, PNG.

    Raises:
        DataError: As `decode_image`, for a grayscale image; or it holds other values than 0 and 255.
    """
    pixels = _decode(data, name, _MASK, max_side_px, formats)
    others = sorted(set(np.unique(pixels).tolist()) - {0, 255})
    if others:
        shown = ", ".join(map(str, others[:5])) + (", ..." if len(others) > 5 else "")
        raise DataError(f"{name} holds the values {shown}; a mask holds 0 and 255 only; threshold and export it again.")
    return pixels // np.uint8(255)


def _decode(data: bytes, name: str, kind: _Kind, max_side_px: int, formats: tuple[str, ...]) -> NDArray[np.uint8]:
    if len(data) > max_file_bytes(max_side_px):
        rule = f"at most {max_file_bytes(max_side_px)} for {max_side_px} px a side"
        remedy = "export it smaller, or ingest it with a higher ingest_data.max_side_px."
        raise DataError(f"{name} has {len(data)} bytes; {rule}; {remedy}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=list(formats)) as picture:
                _judge(picture, len(data), name, kind, max_side_px)
                picture.load()
                return np.asarray(picture)
    except DataError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        rule = f"at most {max_side_px} px a side"
        raise DataError(f"{name} declares over {Image.MAX_IMAGE_PIXELS} pixels; {rule}; export it smaller.") from error
    except Exception as error:  # a parser of hostile bytes may raise anything
        reason = f"cannot be decoded as {' or '.join(formats)} ({type(error).__name__})"
        raise DataError(f"{name} {reason}: damaged, truncated or another format; export it again.") from error


def _judge(picture: ImageFile.ImageFile, num_bytes: int, name: str, kind: _Kind, max_side_px: int) -> None:
    """Refuse what could not be decoded faithfully, or not within the memory of an allowed image."""
    width, height = picture.size
    if not (1 <= width <= max_side_px and 1 <= height <= max_side_px):
        remedy = "export it smaller, or ingest it with a higher ingest_data.max_side_px."
        raise DataError(f"{name} is {width}x{height}; at most {max_side_px} px a side; {remedy}")
    if getattr(picture, "is_animated", False) or picture.get_format_mimetype() == "image/apng":
        raise DataError(f"{name} has several pages; one slice per file; export each page as a file of its own.")
    if isinstance(picture, TiffImageFile):
        fault = _find_tiff_fault(picture, kind) or _find_strip_fault(picture, num_bytes, kind)
    else:
        fault = _find_png_fault(picture, kind)
    if fault:
        rule = f"{kind.noun}s must be plain {kind.mode} of 8 bits per channel"
        raise DataError(f"{name} {fault}; {rule}, nothing is converted silently; export it again.")


def _find_png_fault(picture: ImageFile.ImageFile, kind: _Kind) -> str:
    raw_mode = picture.tile[0].args if picture.tile else None  # tells 16-bit RGB, which Pillow would cut to 8 bits
    return "" if picture.mode == raw_mode == kind.mode else f"is {raw_mode or 'empty'} (mode {picture.mode})"


def _find_tiff_fault(picture: TiffImageFile, kind: _Kind) -> str:
    """Say what in a TIFF's tags differs from a plain image of one kind; empty if nothing does."""
    tags = picture.tag_v2
    bits, num_samples = tags.get(258, (1,)), tags.get(277, 1)
    if bits != (8,) * kind.num_channels or num_samples != kind.num_channels or picture.mode != kind.mode:
        return f"has {num_samples} channels of {'/'.join(map(str, bits[:5]))} bits (mode {picture.mode})"
    expected = {262: kind.photometric, 266: 1, 274: 1}
    for tag, label in ((262, "photometric interpretation"), (266, "fill order"), (274, "orientation")):
        if tags.get(tag, expected[tag]) != expected[tag]:
            return f"has {label} {tags[tag]}, not {expected[tag]}"
    if tags.get(284, 1) not in (1, 2):
        return f"has planar configuration {tags[284]}, not 1 or 2"
    if set(tags.get(339, (1,))) != {1}:
        return "has signed or float samples"
    if tags.get(259, 1) not in TIFF_COMPRESSIONS:
        return f"has TIFF compression {tags[259]}, not one of {', '.join(map(str, TIFF_COMPRESSIONS))}"
    return ""


def _find_strip_fault(picture: TiffImageFile, num_bytes: int, kind: _Kind) -> str:
    """Say what is wrong with where a TIFF's pixels stand: not all there, or bytes that count twice."""
    tags, (width, height) = picture.tag_v2, picture.size
    if 322 in tags or 324 in tags:
        return "is stored in tiles, not in strips"
    num_strips = ceil(height / tags.get(278, height)) * (kind.num_channels if tags.get(284, 1) == 2 else 1)
    offsets, counts = tags.get(273, ()), tags.get(279, ())
    if not len(offsets) == len(counts) == num_strips:
        return f"lists {len(offsets)} strip offsets and {len(counts)} strip sizes where its size needs {num_strips}"
    spans = sorted(zip(offsets, counts, strict=True))
    if any(start + count > num_bytes for start, count in spans):
        return "is truncated: strips end behind its last byte"
    if any(before[0] + before[1] > after[0] for before, after in itertools.pairwise(spans)):
        return "has strips that share bytes"
    if tags.get(259, 1) == 1 and sum(counts) != width * height * kind.num_channels:
        return f"stores {sum(counts)} bytes of pixels where its size needs {width * height * kind.num_channels}"
    return ""
