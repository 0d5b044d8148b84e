"""A client of `tumor-cascade serve` or `mlflow models serve`: files or arrays in, answers with masks as arrays out.

`Client("http://127.0.0.1:8080").predict(["patient_1.tif", "patient_2.tif"], is_volume=True)` returns an `Answer` each.
"""

import base64
import io
import json
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from tumor_cascade.errors import TumorCascadeError
from tumor_cascade.serving.rle import decode_mask

Image = str | Path | bytes | NDArray[np.uint8]
NUM_TRIES = 5


class ServerError(TumorCascadeError):
    """A server that cannot be reached, or does not answer a request."""


@dataclass(frozen=True)
class Answer:
    """What the server says of a slice; all but `id` and `error` is None where the image could not be read.

    Attributes:
        id: The file's name, or the number of the image in the call.
        probability: That the slice shows tumor, calibrated.
        is_positive: The decision.
        mask: bool `(H, W)`; None where it was not asked for.
        tumor_area_px: Pixels of the mask.
        uncertainty: Entropy in bits: 0 certain, 1 undecided.
        is_uncertain: Whether that is much.
        has_context: Whether other slices of the same volume were read with it.
        error: What is wrong with the image; None if nothing is.
        model_version: In the registry; None where a folder is served.
        content_id: Of the cascade.
    """

    id: str
    probability: float | None
    is_positive: bool | None
    mask: NDArray[np.bool_] | None
    tumor_area_px: int | None
    uncertainty: float | None
    is_uncertain: bool | None
    has_context: bool | None
    error: str | None
    model_version: int | None
    content_id: str


class Client:
    """Asks one server.

    Args:
        url: Of the server, e.g. `http://127.0.0.1:8080`.
        timeout_s: For one request.
    """

    def __init__(self, url: str, timeout_s: float = 60.0) -> None:
        self.url, self.timeout_s = url.rstrip("/"), timeout_s

    def predict(
        self, images: Sequence[Image], *, is_volume: bool = False, rows_per_request: int = 32, **params: Any
    ) -> list[Answer]:
        """Return an answer per image, in order.

        Args:
            images: PNG, TIFF or NPY files, by path or as bytes, or uint8 arrays `(H, W, 3)` or `(3, H, W)`.
            is_volume: Whether they are the ordered slices of one patient, which are read together, in one request.
            rows_per_request: Of images that have nothing to do with each other.
            params: As `serving.rows.Options` has them, e.g. `decision_threshold=0.3` or `mask="none"`.

        Raises:
            ServerError: The server does not answer, or refuses the request as a whole.
        """
        rows: list[dict[str, Any]] = []
        for number, image in enumerate(images):
            name = Path(image).name if isinstance(image, str | Path) else str(number)
            row = {"id": name[-256:], "image": base64.b64encode(read_bytes(image)).decode("ascii")}
            rows.append({**row, **({"volume_id": "volume", "slice_index": number} if is_volume else {})})
        size = len(rows) if is_volume else rows_per_request
        parts = [rows[start : start + size] for start in range(0, len(rows), max(1, size))]
        return [read_answer(answer) for part in parts for answer in self.ask(part, params)]

    def ask(self, rows: Sequence[dict[str, Any]], params: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the server's answers to rows as they are; a busy server is asked again.

        Raises:
            ServerError: It does not answer, or refuses.
        """
        body = json.dumps({"dataframe_records": rows, "params": params}).encode()
        for number in range(NUM_TRIES):
            request = urllib.request.Request(
                f"{self.url}/invocations", body, {"Content-Type": "application/json"}, method="POST"
            )
            try:
                with urllib.request.urlopen(request, timeout=self.timeout_s) as response:
                    predictions: list[dict[str, Any]] = json.load(response)["predictions"]
                return predictions
            except urllib.error.HTTPError as error:
                if error.code != 503 or number == NUM_TRIES - 1:
                    raise ServerError(f"{self.url} answers {error.code}: {read_message(error)}") from error
                time.sleep(float(error.headers.get("Retry-After", "1")))
            except OSError as error:
                raise ServerError(f"{self.url} does not answer ({error}); start it, or correct the address.") from error
        raise AssertionError


def read_bytes(image: Image) -> bytes:
    """Return an image as the bytes of a file; an array as NPY."""
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | Path):
        return Path(image).read_bytes()
    stream = io.BytesIO()
    np.save(stream, image, allow_pickle=False)
    return stream.getvalue()


def read_answer(values: dict[str, Any]) -> Answer:
    """Return an answer with its mask as an array, however it was asked for: base64 of a PNG begins with a letter."""
    text, given = values["mask"], {name: values[name] for name in Answer.__dataclass_fields__}
    mask = None
    if text is not None and text[0].isdecimal():
        mask = decode_mask(text, values["height_px"], values["width_px"])
    elif text is not None:
        mask = np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(text)), formats=["PNG"])) > 0
    return Answer(**{**given, "mask": mask})


def read_message(error: urllib.error.HTTPError) -> str:
    """Return what a server says is wrong."""
    try:
        return str(json.load(error)["message"])
    except (ValueError, KeyError, TypeError):
        return error.reason
