"""`tumor-cascade predict`: a packed cascade over images that come from anywhere; masks, overlays and JSON lines out.

Slices of one patient are read together, in the order of their numbers. A file that cannot be read is an error line and
never fails its neighbours: lone images have nothing to do with each other, and a volume with a gap still tells more of
its other slices than no volume. These are then predicted without the missing one: what a network sees of neighbouring
slices reaches across the gap, as do 3D components. The error line stands at the slice's place, so a gap is seen.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from tumor_cascade.data.preprocessing import FLAIR
from tumor_cascade.data.source import SourceSlice
from tumor_cascade.data.volume_files import NUMBERED, Fault, VolumeFiles, open_volumes, read_slices
from tumor_cascade.errors import DataError
from tumor_cascade.models.cascade import Cascade, VolumePrediction
from tumor_cascade.out_folder import check_out_folder
from tumor_cascade.overlay import PictureFolder, measure_white
from tumor_cascade.product import load_cascade, read_artifact_json
from tumor_cascade.settings import choose_device
from tumor_cascade.storage import CONTENT_NAME, atomic_dir

LINES_NAME = "predictions.jsonl"
# Every line has all keys, null where it has no answer.
KEYS = (
    "volume_id",  # the patient, or the path of a lone image within the source
    "slice_number",  # as in the file's name; null for a lone image
    "source_name",  # of the image file
    "status",  # "ok" or "error"
    "probability",  # that the slice shows tumor, by all networks that have seen it
    "is_positive",  # the decision; never where the gate left the slice unsegmented
    "tumor_area_px",
    "uncertainty",  # 0 certain, 1 undecided; see cascade.json
    "has_context",  # whether other slices of the same patient were read with it
    "mask",  # PNG of 0 and 255, of the image's size, within the output folder
    "overlay",  # PNG for people
    "content_id",  # of the cascade
    "error",  # what is wrong, the rule, what to do
)
NUM_DIGITS = 6  # of a float32


@dataclass
class PredictionSummary:
    """What was predicted, in numbers."""

    num_patients: int = 0
    num_slices: int = 0
    num_positive: int = 0
    num_without_context: int = 0
    errors: list[str] = field(default_factory=list)
    patient_like: list[str] = field(default_factory=list)  # see `find_patient_like`

    def add(self, line: dict[str, Any]) -> None:
        """Count a line."""
        if line["status"] == "error":
            self.errors.append(line["error"])
            return
        self.num_slices += 1
        self.num_positive += line["is_positive"]
        self.num_without_context += not line["has_context"]


def predict(source: Path, cascade_dir: Path, out: Path, *, is_overwrite: bool) -> PredictionSummary:
    """Predict every image of a source and write one output folder; it appears when complete.

    Args:
        source: An image, a folder of images, a patient's folder of slices, or a folder or zip of patients.
        cascade_dir: Packed cascade.
        out: For `predictions.jsonl`, `masks/` and `overlays/`.
        is_overwrite: Whether `out` may replace earlier predictions.

    Raises:
        ParamsError: `out` would replace something else.
        DataError: The cascade is damaged, or not a single image can be read; nothing is written then.
    """
    check_out_folder(out, [source, cascade_dir], marker=LINES_NAME, is_overwrite=is_overwrite)
    with open_volumes(source) as (raw, volumes, faults):
        content_id = read_artifact_json(cascade_dir / CONTENT_NAME).get("content_id")
        cascade = load_cascade(cascade_dir).to(torch.device(choose_device()))
        summary = PredictionSummary(patient_like=find_patient_like(volumes))

        def predict_all() -> Iterator[dict[str, Any]]:
            num_images = sum(len(volume.images) for volume in volumes)
            with tqdm(total=num_images, desc="predict", unit=" slices", disable=None) as progress:
                for volume in volumes:
                    slices, volume_faults = read_slices(raw, volume)
                    summary.num_patients += volume.is_patient and bool(slices)
                    yield from predict_volume(cascade, volume, slices, volume_faults, pictures)
                    progress.update(len(volume.images))
            yield from map(describe_fault, faults)

        with atomic_dir(out) as folder, (folder / LINES_NAME).open("w", encoding="utf-8") as stream:
            pictures = PictureFolder(folder)
            for line in predict_all():
                stream.write(json.dumps({**dict.fromkeys(KEYS), **line, "content_id": content_id}) + "\n")
                summary.add(line)
            if not summary.num_slices:
                raise DataError(summary.errors, f"{source}: no image can be predicted, nothing was written:")
    return summary


def predict_volume(
    cascade: Cascade, volume: VolumeFiles, slices: list[SourceSlice], faults: list[Fault], pictures: PictureFolder
) -> Iterator[dict[str, Any]]:
    """Yield the lines of one volume in the order of its slice numbers, then of files with no place in it.

    Args:
        cascade: Predicts the slices together.
        volume: The files.
        slices: Those that could be read.
        faults: One for each other file.
        pictures: Where masks and overlays go.
    """
    answers: dict[int, dict[str, Any]] = {}
    if slices:
        images = np.stack([one.image for one in slices])
        prediction, white = cascade.predict_volume(images), measure_white(images[:, FLAIR])
        for position, one in enumerate(slices):
            answer = describe_slice(prediction, position)
            title = f"slice {one.slice_number}   " if volume.is_patient else ""
            area = f"{answer['tumor_area_px']:,} px marked" if answer["is_positive"] else "no tumor found"
            caption = f"{title}tumor probability {answer['probability']:.2f}   {area}   research use only"
            name = one.name if volume.is_patient else volume.volume_id
            files = pictures.write(name, one.image[FLAIR], prediction.masks[position], white, caption)
            answers[one.slice_number] = {"source_name": one.name, "has_context": len(slices) > 1, **answer, **files}
    broken = {fault.file: describe_fault(fault) for fault in faults}
    for number, file in volume.images.items():
        answer = answers[number] if number in answers else broken.pop(file)
        yield {"volume_id": volume.volume_id, **answer, "slice_number": number if volume.is_patient else None}
    for answer in broken.values():
        yield {"volume_id": volume.volume_id, **answer}


def describe_slice(prediction: VolumePrediction, position: int) -> dict[str, Any]:
    """Return what the cascade says of one slice, as plain values."""
    return {
        "status": "ok",
        "probability": round(float(prediction.probabilities[position]), NUM_DIGITS),
        "is_positive": bool(prediction.is_positive[position]),
        "tumor_area_px": int(prediction.masks[position].sum()),
        "uncertainty": round(float(prediction.uncertainty[position]), NUM_DIGITS),
    }


def describe_fault(fault: Fault) -> dict[str, Any]:
    """Return what is said of a file that cannot be predicted."""
    return {"source_name": fault.file.parts[-1] if fault.file else None, "status": "error", "error": fault.text}


def find_patient_like(volumes: list[VolumeFiles]) -> list[str]:
    """Return the name stems that several lone images share but for a number, as slices of one patient do."""
    matches = (NUMBERED.fullmatch(Path(volume.volume_id).stem) for volume in volumes if not volume.is_patient)
    counts = Counter(match["patient"] for match in matches if match)
    return sorted(stem for stem, count in counts.items() if count > 1)
