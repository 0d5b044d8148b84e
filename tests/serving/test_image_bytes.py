import io
from typing import Any

import numpy as np
import pytest

from archives import encode, make_image
from slice_requests import encode_npy, encode_slice, to_text
from tumor_cascade.data.decoding import max_file_bytes
from tumor_cascade.errors import DataError
from tumor_cascade.serving.image_bytes import read_image

PIXELS = make_image(1, size_px=16)  # (H, W, 3)
NPY = encode_npy(PIXELS)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "NPY"])
def test_read_image__gives_the_pixels_of_each_kind_of_file(kind: str) -> None:
    image = read_image(to_text(encode_slice(PIXELS, kind)), 16)
    assert image.dtype == np.uint8
    assert np.array_equal(image, PIXELS.transpose(2, 0, 1))


@pytest.mark.parametrize("order", ["C", "F"])
def test_read_image__takes_arrays_with_channels_first_in_either_order(order: Any) -> None:
    image = read_image(to_text(encode_npy(np.asarray(PIXELS.transpose(2, 0, 1), order=order))), 16)
    assert np.array_equal(image, PIXELS.transpose(2, 0, 1))


def test_read_image__line_breaks_in_base64_do_not_count() -> None:
    text = to_text(encode(PIXELS, "PNG"))
    lines = "\n".join(text[start : start + 76] for start in range(0, len(text), 76))
    assert np.array_equal(read_image(lines, 16), read_image(text, 16))


def write_header(shape: str, descr: str = "'|u1'") -> bytes:
    """Return a NPY header that says what it likes, and 768 bytes, as 16 x 16 x 3 pixels need."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(768)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "is no string"),
        (5, "is no string"),
        ("", "is no string"),
        ("äöü", "no base64"),
        ("AAA", "no base64"),
        ("AA-_", "no base64"),
        ("A" * 4 * max_file_bytes(16), "has over 1049344 bytes"),  # 3 x 16 x 16 + 1 MiB
        (to_text(b"GIF89a" + bytes(20)), "no PNG, TIFF or NPY"),
        (to_text(encode(PIXELS, "PNG")[:100]), "cannot be decoded as PNG"),
        (to_text(encode(make_image(1, size_px=17), "PNG")), "17x17; at most 16 px"),
        (to_text(encode(PIXELS[..., 0], "PNG")), "plain RGB"),
        (to_text(NPY[:7]), "damaged NPY"),
        (to_text(NPY[:40]), "damaged NPY"),
        (to_text(NPY[:-1]), "more or fewer bytes"),
        (to_text(NPY + b"\0"), "more or fewer bytes"),
        (to_text(encode_npy(PIXELS.astype(np.float32))), "another array"),
        (to_text(encode_npy(PIXELS[..., 0])), "another array"),
        (to_text(encode_npy(np.array([{}], dtype=object), allow_pickle=True)), "another array"),
        (to_text(encode_npy(make_image(1, size_px=17))), "a side outside 1 to 16"),
        (to_text(write_header("(1000000, 1000000, 3)")), "a side outside 1 to 16"),
        (to_text(write_header("(-16, -16, 3)")), "a side outside 1 to 16"),
        (to_text(write_header("(16, 16, 3)", descr="'|O'")), "another array"),
        (to_text(write_header("(" * 60)), "damaged NPY"),
    ],
)
def test_read_image__says_what_is_wrong(value: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_image(value, 16)


def test_read_image__a_header_as_numpy_writes_it_is_read() -> None:
    assert np.array_equal(read_image(to_text(write_header("(16, 16, 3)")), 16), np.zeros((3, 16, 16)))


def test_read_image__a_pickle_is_never_opened(tmp_path: Any) -> None:
    class Planted:
        def __reduce__(self) -> Any:
            return (open, (str(tmp_path / "opened"), "w"))

    stream = io.BytesIO()
    np.save(stream, np.array([Planted()], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="another array"):
        read_image(to_text(stream.getvalue()), 16)
    assert not (tmp_path / "opened").exists()
