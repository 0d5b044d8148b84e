"""Hostile requests: each kind with an example that is always the same, and as many random ones as wanted."""

import io
import json
import random
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from archives import build_tiff, encode, make_image
from slice_requests import Reply, encode_npy, make_body, make_row, send, to_text

CANARY = "CANARY-e1c0"  # stands in what is sent; must not come back
JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
MEGABYTE = 2**20
VALUE_OFFSET, VALUES_END, WINDOW = 45, 2000, 24  # of a body, and of a string in it that is telling


@dataclass(frozen=True)
class Attack:
    """A request that no client in its right mind sends.

    Attributes:
        name: What it is, for people.
        body: As sent; an iterable of parts is sent in chunks.
        content_type: None sends no header.
        path: Of the address.
        method: Of HTTP.
        headers: More of them.
    """

    name: str
    body: bytes | Callable[[], Iterator[bytes]]
    content_type: str | None = JSON
    path: str = "/invocations"
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)


def ask_image(name: str, image: Any) -> Attack:
    """Return a request of one row with any value as its image."""
    return Attack(name, make_body([{"image": image}]))


def ask_file(name: str, data: bytes) -> Attack:
    """Return a request of one row with any bytes as its image file."""
    return ask_image(name, to_text(data))


def write_png(width: int, height: int, *chunks: tuple[bytes, bytes], rows: int = 0) -> bytes:
    """Return a PNG that declares a size and holds some rows of black RGB pixels and further chunks."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), *chunks]
    parts += [(b"IDAT", zlib.compress(bytes((3 * width + 1) * rows))), (b"IEND", b"")]
    written = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + written


def write_shared_strips(side: int) -> bytes:
    """Return a small TIFF whose strips all are the same bytes."""
    num_strips, rows = 13, side // 13
    strip = zlib.compress(bytes(3 * side * rows), 9)
    tags = {257: [side], 259: [8], 278: [rows], 273: [8] * num_strips, 279: [len(strip)] * num_strips}
    return build_tiff(side, 1, strip, tags=tags)


def write_animation() -> bytes:
    """Return a TIFF of two pages."""
    stream = io.BytesIO()
    pages = [Image.fromarray(make_image(seed)) for seed in (1, 2)]
    pages[0].save(stream, "TIFF", save_all=True, append_images=pages[1:])
    return stream.getvalue()


def write_npy_header(shape: str) -> bytes:
    """Return a NPY file that declares any shape."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def write_parquet(columns: dict[str, Any], **options: Any) -> bytes:
    """Return a table as a Parquet file."""
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream, **options)
    return stream.getvalue()


def pour(num_megabytes: int) -> Callable[[], Iterator[bytes]]:
    """Return a body that is never whole in memory."""
    return lambda: (b"A" * MEGABYTE for _ in range(num_megabytes))


PNG, TIFF, NPY = (encode(make_image(1, 48), "PNG"), encode(make_image(1, 48)), encode_npy(make_image(1, 48)))
ZTXT = (b"zTXt", b"a\0\0" + zlib.compress(bytes(64 * MEGABYTE)))
ICCP = (b"iCCP", b"a\0\0" + zlib.compress(bytes(64 * MEGABYTE)))


def list_attacks() -> list[Attack]:
    """Return one attack of each kind, the same every time."""
    return [
        *list_broken_images(),
        *list_bombs(),
        *list_broken_rows(),
        *list_broken_json(),
        *list_broken_tables(),
        *list_broken_http(),
    ]


def list_broken_images() -> list[Attack]:
    """Return images that are none."""
    planted = np.array([{"a": CANARY}], dtype=object)
    return [
        ask_file("PNG, cut", PNG[: len(PNG) // 2]),
        ask_file("TIFF, cut", TIFF[: len(TIFF) // 2]),
        ask_file("NPY, cut", NPY[: len(NPY) // 2]),
        ask_file("NPY, pickled objects", encode_npy(planted, allow_pickle=True)),
        ask_file("NPY, header of any shape", write_npy_header("(9" + "9" * 4000 + ", 3, 3)")),
        ask_file("NPY, header nested", write_npy_header("(" * 500 + ")" * 500)),
        ask_file("TIFF, two pages", write_animation()),
        ask_file("JPEG", encode(make_image(1, 48), "JPEG")),
        ask_file("GIF", encode(make_image(1, 48)[..., 0], "GIF")),
        ask_file("text as a file", CANARY.encode()),
        ask_image("image is no base64", CANARY),
        ask_image("image is a path", f"/etc/passwd#{CANARY}"),
        ask_image("image is a URL", f"file:///etc/{CANARY}"),
        ask_image("image is empty", ""),
    ]


def list_bombs() -> list[Attack]:
    """Return small files that become large."""
    return [
        ask_file("PNG of 13,000 x 13,000 in 80 kB", write_png(13_000, 13_000, rows=2_000)),
        ask_file("PNG of 9,000 x 9,000", write_png(9_000, 9_000, rows=2_000)),
        ask_file("PNG that declares 2,000,000,000 x 2", write_png(2_000_000_000, 2)),
        ask_file("PNG with 64 MB of text in 64 kB", write_png(4, 4, ZTXT, rows=4)),
        ask_file("PNG with 64 MB of color profile", write_png(4, 4, ICCP, rows=4)),
        ask_file("TIFF of 13,000 x 13,000 sharing strips", write_shared_strips(13_000)),
        ask_file("NPY that declares a terabyte", write_npy_header("(1000000, 1000000, 3)")),
        Attack("20 images of 2,048 x 2,048", make_body([{"image": to_text(write_png(2048, 2048, rows=2048))}] * 20)),
    ]


def list_broken_rows() -> list[Attack]:
    """Return rows and parameters of wrong types and sizes."""
    row = make_row(1)
    columns: list[tuple[str, Any]] = [
        ("image is a number", {"image": 5}),
        ("image is a list of pixels", {"image": np.zeros((48, 48, 3), int).tolist()}),
        ("image is an object", {"image": {CANARY: 1}}),
        ("image is missing", {"id": CANARY}),
        ("another column", {**row, CANARY: 1}),
        ("id is a number", {**row, "id": 5}),
        ("id of 100 kB", {**row, "id": "x" * 100_000}),
        ("slice_index is text", {**row, "volume_id": "v", "slice_index": CANARY}),
        ("slice_index is huge", {**row, "volume_id": "v", "slice_index": 10**30}),
        ("slice_index is missing", {**row, "volume_id": "v"}),
    ]
    params: list[tuple[str, dict[str, Any]]] = [
        ("threshold is text", {"gate_threshold": CANARY}),
        ("threshold is 7", {"mask_threshold": 7}),
        ("mask of another kind", {"mask": CANARY}),
        ("another parameter", {CANARY: 1}),
    ]
    return [
        *(Attack(name, make_body([values])) for name, values in columns),
        *(Attack(name, make_body([row], **values)) for name, values in params),
        Attack("params is a list", json.dumps({"dataframe_records": [row], "params": [CANARY]}).encode()),
        Attack("no rows", make_body([])),
        Attack("10,000 rows", make_body([{"image": "AAAA"}] * 10_000)),
        Attack("a row is a list", make_body([[CANARY]])),
    ]


def list_broken_json() -> list[Attack]:
    """Return bodies that are no JSON, or costly JSON."""
    return [
        Attack("no JSON", CANARY.encode()),
        Attack("JSON, cut", make_body([make_row(1)])[:-20]),
        Attack("JSON, a list", b'["CANARY-e1c0"]'),
        Attack("JSON, another key", b'{"CANARY-e1c0": []}'),
        Attack("JSON, two forms", b'{"instances": [], "inputs": []}'),
        Attack("JSON, nested 100,000 deep", b'{"instances": ' + b"[" * 100_000),
        Attack("JSON, integer of 5,000 digits", b'{"instances": ' + b"9" * 5000 + b"}"),
        Attack("JSON, 500,000 numbers", b'{"instances": [' + b"1.5," * 500_000 + b"1]}"),
        Attack("JSON, NaN", b'{"instances": [{"image": NaN}]}'),
        Attack("JSON in UTF-16", make_body([{"image": CANARY}]).decode().encode("utf-16")),
        Attack("no UTF-8", b'{"instances": [{"image": "\xff\xfe"}]}'),
        Attack("split, rows longer than columns", b'{"dataframe_split": {"columns": ["image"], "data": [[1, 2]]}}'),
        Attack("an empty body", b""),
    ]


def list_broken_tables() -> list[Attack]:
    """Return CSV and Parquet that are none, or become large."""
    large = "A" * 400_000
    return [
        Attack("CSV, open quote", b'image\n"CANARY-e1c0', CSV),
        Attack("CSV, ragged", b"image\nCANARY-e1c0\na,b,c\n", CSV),
        Attack("CSV, 9,000 columns", b"," * 9_000, CSV),
        Attack("Parquet, random bytes", random.Random(1).randbytes(5000), PARQUET),
        Attack("Parquet, cut", write_parquet({"image": [CANARY]})[:-20], PARQUET),
        Attack("Parquet, bytes as image", write_parquet({"image": [CANARY.encode()]}), PARQUET),
        Attack("Parquet, 200,000 rows in 1 kB", write_parquet({"image": pa.nulls(200_000, pa.string())}), PARQUET),
        Attack("Parquet, 40 MB in 10 kB", write_parquet({"image": [large] * 100}, write_statistics=False), PARQUET),
    ]


def list_broken_http() -> list[Attack]:
    """Return requests whose HTTP is odd, or too large."""
    good = make_body([make_row(1)])
    return [
        Attack("no content type, and no JSON", CANARY.encode(), None),
        Attack("content type of a form", b"image=CANARY-e1c0", "application/x-www-form-urlencoded"),
        Attack("content type made up", good, f"text/{CANARY}"),
        Attack("character set made up", good, f"{JSON}; charset={CANARY}"),
        Attack("compressed", zlib.compress(good), headers={"Content-Encoding": "deflate"}),
        Attack("another path", b"", path=f"/{CANARY}"),
        Attack("a path upwards", b"", path=f"/../../etc/{CANARY}"),
        Attack("GET", b"", None, method="GET"),
        Attack("DELETE", b"", None, method="DELETE"),
        Attack("100 MB", b"A" * (100 * MEGABYTE)),
        Attack("100 MB in chunks", pour(100)),
    ]


def list_random_attacks(seed: int, number: int) -> list[Attack]:
    """Return fuzzed requests: fields, files and JSON changed at random."""
    chance = random.Random(seed)
    makers = (fuzz_fields, fuzz_file, fuzz_json, fuzz_parquet, fuzz_csv)
    weights = (4, 4, 2, 1, 1)
    return [chance.choices(makers, weights)[0](chance) for _ in range(number)]


def draw_value(chance: random.Random, depth: int = 0) -> Any:
    """Return any JSON value."""
    draws: list[Callable[[], Any]] = [
        lambda: None,
        lambda: chance.choice([True, False]),
        lambda: chance.choice([0, -1, 1, 2**31, 2**63, 2**64, 10**25]),
        lambda: chance.choice([0.5, -0.0, 1e308, -1e-300]),
        lambda: chance.choice(
            ["", "rle", CANARY, "../" * 20, "<script>alert(1)</script>", "\0", "\ud83e" * 3, "é" * 300]
        ),
        lambda: to_text(chance.randbytes(chance.randrange(60))),
        lambda: make_row(chance.randrange(5))["image"],
    ]
    if depth < 3:
        draws.append(lambda: [draw_value(chance, depth + 1) for _ in range(chance.randrange(4))])
        draws.append(lambda: {CANARY: draw_value(chance, depth + 1)})
    return chance.choice(draws)()


def fuzz_fields(chance: random.Random) -> Attack:
    """Return rows and params of any values under the right names."""
    names = ["image", "id", "volume_id", "slice_index"]
    rows = [
        {name: draw_value(chance) for name in names if chance.random() < 0.7} for _ in range(chance.randrange(1, 5))
    ]
    if chance.random() < 0.5:
        rows.append(make_row(1))
    body: dict[str, Any] = {chance.choice(["dataframe_records", "instances", "inputs"]): rows}
    if chance.random() < 0.3:
        name = chance.choice(["mask", "gate_threshold", "has_pictures", "uncertainty_threshold"])
        body["params"] = {name: draw_value(chance)}
    return Attack("fields at random", json.dumps(body).encode())


def fuzz_file(chance: random.Random) -> Attack:
    """Return an image with bytes changed, cut or added."""
    data = bytearray(chance.choice([PNG, TIFF, NPY]))
    for _ in range(chance.choice([1, 1, 3, 30])):
        data[chance.randrange(min(len(data), chance.choice([64, len(data)])))] = chance.randrange(256)
    if chance.random() < 0.3:
        del data[chance.randrange(len(data)) :]
    if chance.random() < 0.1:
        data += chance.randbytes(100)
    return ask_file("file changed at random", bytes(data))


def change_bytes(data: bytes, chance: random.Random) -> bytes:
    """Return bytes of which a few differ."""
    changed = bytearray(data)
    for _ in range(chance.choice([1, 2, 5])):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def fuzz_json(chance: random.Random) -> Attack:
    """Return a good body with bytes changed."""
    return Attack("JSON changed at random", change_bytes(make_body([make_row(1, size_px=4)]), chance))


def fuzz_parquet(chance: random.Random) -> Attack:
    """Return a good Parquet file with bytes changed."""
    row = make_row(1, size_px=4)
    return Attack("Parquet changed at random", change_bytes(write_parquet({"image": [row["image"]]}), chance), PARQUET)


def fuzz_csv(chance: random.Random) -> Attack:
    """Return a good CSV file with bytes changed."""
    row = make_row(1, size_px=4)
    return Attack("CSV changed at random", change_bytes(f"image,id\n{row['image']},a\n".encode(), chance), CSV)


def send_attack(url: str, attack: Attack) -> Reply:
    """Send an attack to a server."""
    body = attack.body() if callable(attack.body) else attack.body
    return send(url, body, attack.content_type, path=attack.path, method=attack.method, headers=attack.headers)


def find_leaks(attack: Attack, reply: Reply) -> list[str]:
    """Return what an answer tells that it should not: a trace, a path of the server, what was sent."""
    told = strip_ids(reply)
    body = b"A" * MEGABYTE if callable(attack.body) else attack.body
    values = body[VALUE_OFFSET:VALUES_END]
    parts = (values[start : start + WINDOW] for start in range(0, len(values) - WINDOW, WINDOW // 2))
    sent = [CANARY.encode(), *(part for part in parts if re.fullmatch(rb"[A-Za-z0-9+/=]+", part))]
    return [
        *(["trace"] if b"Traceback" in told or b"stack_trace" in told else []),
        *(["path"] if b"site-packages" in told or re.search(rb"\.py\b", told) else []),
        *(["echo"] if any(window in told for window in sent) else []),
    ]


def strip_ids(reply: Reply) -> bytes:
    """Return an answer without what is given back on purpose."""
    try:
        answers = reply.json["predictions"]
    except (ValueError, KeyError, TypeError):
        return reply.body
    asked = ("id", "volume_id", "slice_index")
    return json.dumps([{key: value for key, value in one.items() if key not in asked} for one in answers]).encode()
