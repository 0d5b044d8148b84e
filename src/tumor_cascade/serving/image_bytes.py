"""One value of the column `image` to pixels: base64 of a PNG, TIFF or NPY file, hostile until judged."""

import binascii
import io

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from tumor_cascade.data.decoding import decode_image, max_file_bytes
from tumor_cascade.errors import DataError

NPY_MAGIC = b"\x93NUMPY"
MAGICS = {b"\x89PNG": "PNG", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
NPY_RULE = "a NPY image is uint8 (height, width, 3) or (3, height, width)"
WHITESPACE = b" \r\n"  # `base64` wraps its lines


def read_image(value: object, max_side_px: int) -> NDArray[np.uint8]:
    """Return an image as uint8 `(3, H, W)`: pre, FLAIR, post.

    Args:
        value: Should be a string of base64.
        max_side_px: Larger images are refused before decoding.

    Raises:
        DataError: It is no such string, or the file is damaged, too large or of another kind. The message does not
            repeat what was sent.
    """
    data = decode_base64(value, max_file_bytes(max_side_px))
    if data.startswith(NPY_MAGIC):
        return read_npy(data, max_side_px)
    file_format = next((name for magic, name in MAGICS.items() if data.startswith(magic)), None)
    if file_format is None:
        raise DataError("image is no PNG, TIFF or NPY file; export it as one of these.")
    return decode_image(data, "image", max_side_px=max_side_px, formats=(file_format,))


def decode_base64(value: object, max_bytes: int) -> bytes:
    """Return the bytes of a base64 string; line breaks and spaces in it do not count.

    Raises:
        DataError: It is no base64, empty, or longer than `max_bytes`.
    """
    if not isinstance(value, str) or not value:
        raise DataError("image is no string; it holds base64 of a PNG, TIFF or NPY file.")
    try:
        text = value.encode("ascii").translate(None, WHITESPACE)
        if len(text) > (max_bytes + 2) // 3 * 4:
            raise DataError(f"image has over {max_bytes} bytes; export it smaller.")
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:  # of the first call or the last
        raise DataError("image is no base64 of the standard alphabet, padded with =; encode the file's bytes.") from (
            error
        )


def read_npy(data: bytes, max_side_px: int) -> NDArray[np.uint8]:
    """Return a NPY file's array as uint8 `(3, H, W)`; what it declares is judged before it is read. No pickle.

    Raises:
        DataError: It is damaged, or no such array.
    """
    stream = io.BytesIO(data)
    try:
        version = npy.read_magic(stream)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read_header(stream)
    except Exception as error:  # a parser of hostile bytes may raise anything
        raise DataError(f"image is a damaged NPY file ({type(error).__name__}); write it again.") from error
    if dtype != np.uint8 or len(shape) != 3 or 3 not in (shape[0], shape[2]):
        raise DataError(f"image is another array than asked for; {NPY_RULE}; nothing is converted silently.")
    has_channels_last = shape[2] == 3
    sides = shape[:2] if has_channels_last else shape[1:]
    if not all(1 <= side <= max_side_px for side in sides):
        raise DataError(f"image is an array with a side outside 1 to {max_side_px} px; export it smaller.")
    if len(data) - stream.tell() != 3 * sides[0] * sides[1]:
        raise DataError("image is a NPY file with more or fewer bytes than its shape needs; write it again.")
    pixels: NDArray[np.uint8] = np.load(io.BytesIO(data), allow_pickle=False)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1) if has_channels_last else pixels)
