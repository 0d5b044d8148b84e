"""A cascade over a cohort: one patient in memory at a time, a table of raw scores at the end."""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from tumor_cascade.data.volumes import Volume
from tumor_cascade.evaluation.scores import score_volume, summarize_patients
from tumor_cascade.models.cascade import VolumePrediction
from tumor_cascade.params import EvaluateCascadeParams

# What identifies a slice, carried from the manifest into the tables.
IDENTITY = ["patient_id", "institution", "slice_index", "slice_number"]


class Predictor(Protocol):
    """Anything that predicts volumes: a cascade, or what is compared with one."""

    def predict_volume(self, images: NDArray[np.uint8], *, is_every_slice_segmented: bool) -> VolumePrediction:
        """Predict the ordered slices of one patient, uint8 `(Z, 3, H, W)`."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """Raw scores of a cohort.

    Attributes:
        slices: A row per scored slice, sorted by patient and slice: identity, decision, counts and scores per model.
        patients: A row per patient in sorted order, indexed by `patient_id`: sums, means and lesion counts per model.
        packed_masks: Patient -> the cascade's masks, packed by `pack_masks`.
    """

    slices: pd.DataFrame
    patients: pd.DataFrame
    packed_masks: dict[str, bytes]


def evaluate_volumes(
    cascade: Predictor,
    volumes: Iterable[tuple[pd.DataFrame, Volume]],
    params: EvaluateCascadeParams,
    *,
    num_patients: int,
) -> Evaluation:
    """Predict and score volumes one after another.

    Args:
        cascade: Predicts a whole volume; where only some of its slices count, it still sees all.
        volumes: Manifest rows of a patient, with a column `is_scored`, and its volume; in sorted order.
        params: The stage's section.
        num_patients: For the progress bar.
    """
    tables, lesions, packed_masks = [], {}, {}
    for rows, volume in tqdm(volumes, total=num_patients, desc="evaluate_cascade", unit="patient", disable=None):
        if volume.masks is None:
            raise ValueError(f"patient {volume.patient_id} has no masks to compare with")
        prediction = cascade.predict_volume(volume.images, is_every_slice_segmented=True)
        is_scored = rows["is_scored"].to_numpy(bool)
        scores, counts = score_volume(volume.masks.astype(bool), prediction, is_scored, params)
        tables.append(pd.concat([rows.loc[is_scored, IDENTITY].set_index(scores.index), scores], axis=1))
        lesions[volume.patient_id] = {"institution": str(rows["institution"].iloc[0]), **counts}
        packed_masks[volume.patient_id] = pack_masks(prediction.masks)
    slices = pd.concat(tables, ignore_index=True)
    patients = pd.DataFrame.from_dict(lesions, orient="index").join(summarize_patients(slices))
    return Evaluation(slices, patients.rename_axis("patient_id"), packed_masks)


def join_evaluations(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Return the scores of several cohorts of different patients as those of one."""
    slices = pd.concat([evaluation.slices for evaluation in evaluations])
    return Evaluation(
        slices.sort_values(["patient_id", "slice_index"], ignore_index=True),
        pd.concat([evaluation.patients for evaluation in evaluations]).sort_index(),
        {patient: masks for evaluation in evaluations for patient, masks in evaluation.packed_masks.items()},
    )


def pack_masks(masks: NDArray[np.bool_]) -> bytes:
    """Return masks as compressed bits: a thousandth of the array, so a cohort's masks can wait for the pictures."""
    return zlib.compress(np.packbits(masks).tobytes(), level=1)


def unpack_masks(packed: bytes, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return the masks of a shape that `pack_masks` packed."""
    bits = np.frombuffer(zlib.decompress(packed), dtype=np.uint8)
    return np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).astype(bool)
