"""What is said of each row, as plain values for JSON."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tumor_cascade.data.preprocessing import FLAIR
from tumor_cascade.models.cascade import VolumePrediction
from tumor_cascade.overlay import draw_overlay, measure_white
from tumor_cascade.serving.rle import encode_mask
from tumor_cascade.serving.rows import Options, Row

# Every answer has all keys, null where there is nothing to say. Type as MLflow's signatures name it.
KEYS = {
    "id": "string",  # as asked, like the two that follow
    "volume_id": "string",
    "slice_index": "long",
    "status": "string",  # "ok" or "error"
    "probability": "double",  # that the slice shows tumor, calibrated, by all networks that have seen it
    "is_positive": "boolean",  # the decision; never where the gate left the slice unsegmented
    "tumor_area_px": "long",
    "uncertainty": "double",  # entropy in bits: 0 certain, 1 undecided
    "is_uncertain": "boolean",  # at least `uncertainty_threshold`
    "has_context": "boolean",  # whether other slices of the same volume were read with it
    "mask": "string",  # as the option `mask` says
    "height_px": "long",
    "width_px": "long",
    "model_version": "long",  # in the registry
    "content_id": "string",  # of the cascade: what it was made from
    "error": "string",  # what is wrong with the row, the rule, what to do
}
PICTURES = ("picture", "overlay")  # only where the option `has_pictures` asks for them: base64 of PNG
RESEARCH_USE = "Research use only"
NUM_DIGITS = 6  # of a float32
COMPRESS_LEVEL = 3  # see `overlay.COMPRESS_LEVEL`


@dataclass(frozen=True)
class Identity:
    """What is served.

    Attributes:
        content_id: Of the cascade.
        model_version: In the registry; None for a folder.
    """

    content_id: str
    model_version: int | None = None


def describe_row(row: Row, identity: Identity, **answer: Any) -> dict[str, Any]:
    """Return an answer with what was asked and who answers."""
    asked = {"id": row.id, "volume_id": row.volume_id, "slice_index": row.slice_index}
    served = {"model_version": identity.model_version, "content_id": identity.content_id}
    return {**dict.fromkeys(KEYS), **asked, **answer, **served}


def describe_volume(
    rows: Sequence[Row],
    images: NDArray[np.uint8],
    prediction: VolumePrediction,
    identity: Identity,
    options: Options,
) -> list[dict[str, Any]]:
    """Return the answers to the slices of a volume.

    Args:
        rows: In the order of the slices.
        images: uint8 `(Z, 3, H, W)`.
        prediction: Of the volume.
        identity: Who answers.
        options: What the request wants to know.
    """
    white = measure_white(images[:, FLAIR])
    answers = []
    for position, row in enumerate(rows):
        mask, uncertainty = prediction.masks[position], float(prediction.uncertainty[position])
        answer = describe_row(
            row,
            identity,
            status="ok",
            probability=round(float(prediction.probabilities[position]), NUM_DIGITS),
            is_positive=bool(prediction.is_positive[position]),
            tumor_area_px=int(mask.sum()),
            uncertainty=round(uncertainty, NUM_DIGITS),
            is_uncertain=uncertainty >= options.uncertainty_threshold,
            has_context=len(rows) > 1,
            mask=write_mask(mask, options),
            height_px=mask.shape[0],
            width_px=mask.shape[1],
        )
        if options.has_pictures:
            answer |= draw_pictures(images[position, FLAIR], mask, white)
        answers.append(answer)
    return answers


def draw_pictures(flair: NDArray[np.uint8], mask: NDArray[np.bool_], white: float) -> dict[str, str]:
    """Return a slice `(H, W)` as people look at it, without and with what is marked; see `draw_overlay`."""
    plain, marked = (draw_overlay(flair, shown, white, RESEARCH_USE) for shown in (np.zeros_like(mask), mask))
    return dict(zip(PICTURES, (write_png(plain.convert("L")), write_png(marked)), strict=True))


def write_mask(mask: NDArray[np.bool_], options: Options) -> str | None:
    """Return a mask `(H, W)` as the request wants it."""
    if options.mask == "none":
        return None
    return encode_mask(mask) if options.mask == "rle" else write_png(Image.fromarray(mask.astype(np.uint8) * 255))


def write_png(picture: Image.Image) -> str:
    """Return a picture as base64 of a PNG."""
    stream = io.BytesIO()
    picture.save(stream, "PNG", compress_level=COMPRESS_LEVEL)
    return base64.b64encode(stream.getvalue()).decode("ascii")
