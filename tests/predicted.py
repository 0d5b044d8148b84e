"""What `tumor-cascade predict` says of slices, and servers' answers held against it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tumor_cascade.models.cascade import Cascade
from tumor_cascade.prediction import LINES_NAME
from tumor_cascade.serving.client import Answer

THRESHOLD_TOLERANCE = 1e-4  # a batch of another size changes floats, so pixels this close to the threshold may differ


@dataclass(frozen=True)
class Volume:
    """The slices of one patient, in order.

    Attributes:
        paths: Image files.
        lines: Of `predict`, a slice each.
        masks: As `predict` wrote them, bool `(Z, H, W)`.
    """

    paths: Sequence[Path]
    lines: Sequence[dict[str, Any]]
    masks: NDArray[np.bool_]

    @property
    def images(self) -> NDArray[np.uint8]:
        """Pixels, uint8 `(Z, 3, H, W)`."""
        return np.stack([np.asarray(Image.open(path)).transpose(2, 0, 1) for path in self.paths])


def read_volume(out: Path, paths: Sequence[Path]) -> Volume:
    """Return what `predict` wrote to a folder about some slices."""
    lines = {line["source_name"]: line for line in map(json.loads, (out / LINES_NAME).read_text().splitlines())}
    found = [lines[path.name] for path in paths]
    return Volume(paths, found, np.stack([np.asarray(Image.open(out / line["mask"])) > 0 for line in found]))


def require_equal(answers: Sequence[Answer], volume: Volume, cascade: Cascade) -> None:
    """Require that answers are what `predict` says; pixels close to the threshold are left out, and few."""
    seen = cascade.predict_volume(volume.images, is_every_slice_segmented=True).mask_probabilities
    assert seen is not None
    is_sure = np.abs(seen - cascade.settings.mask_threshold) > THRESHOLD_TOLERANCE
    assert is_sure.mean() > 0.9
    for position, (answer, line) in enumerate(zip(answers, volume.lines, strict=True)):
        assert answer.probability == pytest.approx(line["probability"], abs=1e-5)
        assert answer.uncertainty == pytest.approx(line["uncertainty"], abs=1e-4)
        assert (answer.is_positive, answer.has_context) == (line["is_positive"], line["has_context"])
        assert answer.content_id == line["content_id"]
        assert answer.mask is not None
        assert not ((answer.mask != volume.masks[position]) & is_sure[position]).any()
