"""Requests as clients send them: slices as base64, and raw HTTP that shows every answer as it is."""

import base64
import http.client
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from archives import encode, make_image

TIMEOUT_S = 60
PARQUET_TYPE = "application/vnd.apache.parquet"
SIZE_PX = 48


@dataclass(frozen=True)
class Reply:
    """What a server answered.

    Attributes:
        status: Of HTTP.
        headers: Names in lower case.
        body: Bytes.
    """

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


def encode_npy(pixels: NDArray[Any], *, allow_pickle: bool = False) -> bytes:
    """Return an array as the bytes of a NPY file."""
    stream = io.BytesIO()
    np.save(stream, pixels, allow_pickle=allow_pickle)
    return stream.getvalue()


def encode_slice(pixels: NDArray[np.uint8], kind: str) -> bytes:
    """Return a slice `(H, W, 3)` as the bytes of a PNG, TIFF or NPY file."""
    return encode_npy(pixels) if kind == "NPY" else encode(pixels, kind)


def to_text(data: bytes) -> str:
    """Return bytes as base64."""
    return base64.b64encode(data).decode("ascii")


def make_row(seed: int = 1, kind: str = "PNG", size_px: int = SIZE_PX, **columns: Any) -> dict[str, Any]:
    """Return a row that can be answered."""
    return {"image": to_text(encode_slice(make_image(seed, size_px), kind)), **columns}


def make_volume(num_slices: int, volume_id: str = "v", kind: str = "PNG") -> list[dict[str, Any]]:
    """Return the rows of one volume, in order."""
    return [make_row(seed, kind, volume_id=volume_id, slice_index=seed) for seed in range(num_slices)]


def make_body(rows: Any, **params: Any) -> bytes:
    """Return a request as JSON."""
    return json.dumps({"dataframe_records": rows, **({"params": params} if params else {})}).encode()


def send(
    url: str,
    body: bytes | Iterable[bytes] | None,
    content_type: str | None = "application/json",
    *,
    path: str = "/invocations",
    method: str = "POST",
    headers: dict[str, str] | None = None,
) -> Reply:
    """Send one request over a connection of its own; an iterable of bytes is sent in chunks."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=TIMEOUT_S)
    try:
        given = {**({"Content-Type": content_type} if content_type else {}), **(headers or {})}
        connection.request(method, path, body, given)
        response = connection.getresponse()
        return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    finally:
        connection.close()
