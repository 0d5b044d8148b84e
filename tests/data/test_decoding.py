import io
import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from archives import build_tiff, encode, make_image, make_mask
from tumor_cascade.data.decoding import decode_image, decode_mask, max_file_bytes
from tumor_cascade.errors import DataError

SIDE = 32
BOTH = ("TIFF", "PNG")
PIXELS = bytes(range(4 * 4 * 3))  # a 4x4 RGB image: pixel (0, 0) is (0, 1, 2), pixel (0, 1) is (3, 4, 5)


def decode(data: bytes) -> np.ndarray:
    return decode_image(data, "one.tif", max_side_px=SIDE, formats=BOTH)


def decode_as_mask(data: bytes) -> np.ndarray:
    return decode_mask(data, "one_mask.tif", max_side_px=SIDE, formats=BOTH)


def make_png(width: int, height: int, depth: int, color: int, pixels: bytes) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([depth, color, 0, 0, 0])
    chunks = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(pixels, 9)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_decode_image__plain_tiff() -> None:
    image = decode(build_tiff(4, 4, PIXELS))
    assert (image.shape, image.dtype) == ((3, 4, 4), np.uint8)
    assert image[:, 0, 1].tolist() == [3, 4, 5]
    assert image.flags.c_contiguous


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "packbits"])
def test_decode_image__lossless_compressions(compression: str | None) -> None:
    pixels = make_image(1)
    assert np.array_equal(decode(encode(pixels, compression=compression)), pixels.transpose(2, 0, 1))


def test_decode_image__png() -> None:
    pixels = make_image(1)
    assert np.array_equal(decode(encode(pixels, "PNG")), pixels.transpose(2, 0, 1))


def test_decode_image__many_strips() -> None:
    # Rows 0-1 and 2-3 in a strip of 2 * 4 * 3 = 24 bytes each.
    striped = build_tiff(4, 4, PIXELS, tags={278: [2], 273: [8, 8 + 24], 279: [24, 24]})
    assert np.array_equal(decode(striped), decode(build_tiff(4, 4, PIXELS)))


def test_decode_image__one_strip_per_channel() -> None:
    tags: dict[int, list[int] | None] = {284: [2], 278: [4], 273: [8, 24, 40], 279: [16, 16, 16]}
    assert decode(build_tiff(4, 4, PIXELS, tags=tags))[:, 0, 1].tolist() == [1, 17, 33]


@pytest.mark.parametrize("file_format", BOTH)
def test_decode_mask__0_and_255_become_0_and_1(file_format: str) -> None:
    mask = decode_as_mask(encode(make_mask(), file_format))
    assert (mask.shape, mask.dtype) == ((32, 32), np.uint8)
    assert np.unique(mask).tolist() == [0, 1]
    assert np.array_equal(mask * 255, make_mask())


def test_decode_mask__other_values() -> None:
    pixels = np.array([[0, 255], [1, 128]], dtype=np.uint8)
    with pytest.raises(DataError, match=r"one_mask.tif holds the values 1, 128; a mask holds 0 and 255 only"):
        decode_as_mask(encode(pixels))


@pytest.mark.parametrize("pixels", [make_image(1), make_mask() > 0, make_mask().astype(np.int32)])
def test_decode_mask__wrong_mode(pixels: np.ndarray) -> None:
    with pytest.raises(DataError, match="masks must be plain L of 8 bits per channel"):
        decode_as_mask(encode(pixels))


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({258: [16, 16, 16]}, "16/16/16 bits"),
        ({277: [4], 258: [8] * 4, 338: [0]}, "4 channels"),
        ({262: [6]}, "mode YCbCr"),
        ({274: [6]}, "orientation 6"),
        ({274: [3]}, "orientation 3"),
        ({266: [2]}, "fill order 2"),
        ({284: [3]}, "planar configuration 3"),
        ({339: [2, 2, 2]}, "signed or float|cannot be decoded"),
        ({259: [7]}, "compression 7"),
        ({322: [4], 323: [4], 324: [8], 325: [48]}, "tiles"),
        ({273: [8, 8], 279: [48, 48]}, "lists 2 strip offsets"),
        ({279: None}, "0 strip sizes"),
        ({279: [4000]}, "truncated"),
        ({273: [4000]}, "truncated"),
        ({279: [40]}, "stores 40 bytes of pixels where its size needs 48"),
        ({278: [2], 273: [8, 8], 279: [24, 24]}, "share bytes"),
        ({256: None}, "cannot be decoded"),
        ({256: [0]}, "0x4|cannot be decoded"),
        ({278: [0]}, "cannot be decoded"),
    ],
)
def test_decode_image__tiff_that_is_not_plain(tags: dict[int, list[int] | None], words: str) -> None:
    with pytest.raises(DataError, match=words):
        decode(build_tiff(4, 4, PIXELS, tags=tags))


def test_decode_mask__white_is_zero() -> None:
    with pytest.raises(DataError, match="photometric interpretation 0, not 1"):
        decode_as_mask(build_tiff(4, 4, bytes(16), num_channels=1, tags={262: [0]}))


def test_decode_mask__signed() -> None:
    with pytest.raises(DataError, match="signed or float samples"):
        decode_as_mask(build_tiff(4, 4, bytes(16), num_channels=1, tags={339: [2]}))


def test_decode_image__png_of_16_bits() -> None:
    # Pillow alone would cut it to 8 bits. A row: filter byte 0, then 4 pixels of 3 x 2 bytes.
    with pytest.raises(DataError, match=r"is RGB;16B .*nothing is converted silently"):
        decode(make_png(4, 4, 16, 2, 4 * bytes(1 + 4 * 6)))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1"])
def test_decode_image__png_of_another_mode(mode: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(make_image(1)).convert(mode).save(buffer, "PNG")
    with pytest.raises(DataError, match="images must be plain RGB"):
        decode(buffer.getvalue())


@pytest.mark.parametrize("file_format", BOTH)
def test_decode_image__several_pages(file_format: str) -> None:
    pages = [Image.fromarray(make_image(seed)) for seed in (1, 2)]
    buffer = io.BytesIO()
    pages[0].save(buffer, file_format, save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match="several pages; one slice per file"):
        decode(buffer.getvalue())


@pytest.mark.parametrize("file_format", BOTH)
def test_decode_image__too_large(file_format: str) -> None:
    with pytest.raises(DataError, match=r"one.tif is 33x33; at most 32 px a side; .*ingest_data.max_side_px"):
        decode(encode(make_image(1, size_px=SIDE + 1), file_format))


def test_decode_image__too_many_bytes() -> None:
    # 3 * 32 * 32 bytes of pixels and 1 MiB of metadata.
    assert max_file_bytes(SIDE) == 3072 + 1048576
    with pytest.raises(DataError, match="has 1051649 bytes; at most 1051648 for 32 px a side"):
        decode(bytes(1051649))


@pytest.mark.parametrize("file_format", BOTH)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_decode_image__truncated(file_format: str, share: float) -> None:
    data = encode(make_image(1), file_format)
    with pytest.raises(DataError, match=r"damaged, truncated|is truncated"):
        decode(data[: int(share * len(data))])


def test_decode_image__format_that_is_not_allowed() -> None:
    with pytest.raises(DataError, match=r"cannot be decoded as TIFF \(UnidentifiedImageError\)"):
        decode_image(encode(make_image(1), "PNG"), "one.tif", max_side_px=SIDE, formats=("TIFF",))


def test_decode_image__bombs_in_bounded_memory(tmp_path: Path) -> None:
    row = 13_000 * 3
    strips = {278: [1], 273: [8] * 13_000, 279: [row] * 13_000}
    tags = bytearray(build_tiff(4, 4, PIXELS, tags={tag: [0] for tag in range(60_000, 60_500)}))
    for tag in range(60_000, 60_500):  # 500 unknown tags of 1 MB each, all the same bytes
        start = tags.index(tag.to_bytes(2, "little") + b"\4\0\1\0\0\0")
        tags[start + 2 : start + 12] = b"\7\0" + (1_000_000).to_bytes(4, "little") + (8).to_bytes(4, "little")
    bombs = {
        "tags.tif": bytes(tags) + bytes(1_000_000),
        # 160 kB that claim 507 MB: every row is the same strip.
        "shared.tif": build_tiff(13_000, 13_000, bytes(row), tags=strips),
        # Small enough in size, but 512 strips of 512 rows that are all the same bytes.
        "rows.tif": build_tiff(512, 512, bytes(1536), tags={278: [1], 273: [8] * 512, 279: [1536] * 512}),
        # 30 kB of deflated zeros that unpack to 30 MB and claim 300 MB.
        "large.png": make_png(10_000, 10_000, 8, 2, bytes(30_000_000)),
        # The same pixels behind an honest small size: more data than the size needs.
        "long.png": make_png(16, 16, 8, 2, bytes(64_000_000)),
        "huge.png": make_png(2**31 - 1, 2**31 - 1, 8, 2, b"\0"),
    }
    for name, data in bombs.items():
        (tmp_path / name).write_bytes(data)
    script = """
import resource, sys, warnings
from pathlib import Path
from tumor_cascade.data.decoding import decode_image
from tumor_cascade.errors import DataError
warnings.simplefilter("error")
def peak_mib(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak_mib()
for path in sorted(Path(sys.argv[1]).iterdir()):
    data = path.read_bytes()
    try:
        print(path.name, decode_image(data, path.name, max_side_px=512, formats=("TIFF", "PNG")).shape)
    except DataError as error:
        print(error)
print(f"grew {peak_mib() - before:.0f} MiB")
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script, str(tmp_path)]
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    lines = dict(line.split(" ", 1) for line in output.splitlines())
    assert "declares over" in lines["shared.tif"]
    assert "share bytes" in lines["rows.tif"]
    assert lines["tags.tif"] == "(3, 4, 4)"
    assert "declares over" in lines["large.png"]
    assert "declares over" in lines["huge.png"]
    assert lines["long.png"] == "(3, 16, 16)"
    # The largest allowed image takes 512 * 512 * (4 in Pillow + 2 x 3 as arrays) = 2.5 MiB.
    assert int(lines["grew"].split()[0]) < 24


VALID = [
    (encode(make_image(1, size_px=16), "TIFF"), decode, (3, 16, 16)),
    (build_tiff(4, 4, PIXELS), decode, (3, 4, 4)),
    (encode(make_image(1, size_px=16), "PNG"), decode, (3, 16, 16)),
    (encode(make_mask(16), "TIFF"), decode_as_mask, (16, 16)),
]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    case=st.sampled_from(VALID),
    flips=st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), max_size=6),
    cut=st.none() | st.integers(0, 2**20),
    tail=st.binary(max_size=8),
)
def test_decode__any_bytes_give_an_array_or_a_data_error(case, flips, cut, tail) -> None:
    valid, decode_any, _ = case
    data = bytearray(valid)
    for position, value in flips:
        data[position % len(data)] = value
    data = bytes(data if cut is None else data[: cut % len(data)]) + tail
    try:
        pixels = decode_any(data)
    except DataError as error:
        assert str(error).startswith("one")
        return
    assert pixels.dtype == np.uint8
    assert pixels.ndim == (3 if decode_any is decode else 2)
    assert max(pixels.shape) <= SIDE
    assert pixels.ndim == 2 or pixels.shape[0] == 3
    assert pixels.ndim == 3 or pixels.max() <= 1
