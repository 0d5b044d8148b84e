"""The slices of a cohort as tensors: read once, preprocessed once, gathered by index in batches."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from tumor_cascade.data.manifest import read_manifest
from tumor_cascade.data.preprocessing import Preprocessing, preprocess_volume, resize_masks, stack_neighbors
from tumor_cascade.data.split import SLICE_KEY, read_splits
from tumor_cascade.data.volumes import Volume, read_volume
from tumor_cascade.errors import DataError


@dataclass(frozen=True)
class CohortTensors:
    """All slices of some patients, one volume after another, at a network's input size.

    Attributes:
        images: float32 `(M, 3, S, S)`, normalised.
        masks: bool `(M, 1, S, S)`.
        has_tumor: bool `(M,)`, from the masks at their original size.
        position: int64 `(M,)`, a slice's place in its volume.
        num_slices: int64 `(M,)`, length of the volume it belongs to.
        patient: int64 `(M,)`, number of the patient in sorted order.
        has_neighbor_slices: Whether a batch carries FLAIR of the slices before and after.
    """

    images: Tensor
    masks: Tensor
    has_tumor: Tensor
    position: Tensor
    num_slices: Tensor
    patient: Tensor
    has_neighbor_slices: bool

    def __deepcopy__(self, memo: object) -> "CohortTensors":
        return self  # weight averaging copies the whole training module; the pixels, never written to, can be shared

    def to(self, device: torch.device) -> "CohortTensors":
        """Return the same cohort on a device."""
        names = ("images", "masks", "has_tumor", "position", "num_slices", "patient")
        moved = {name: getattr(self, name).to(device) for name in names}
        return CohortTensors(**moved, has_neighbor_slices=self.has_neighbor_slices)

    def gather(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs `(N, C, S, S)` and float masks `(N, 1, S, S)` of the slices at `index` `(N,)`."""
        masks = self.masks[index].float()
        if not self.has_neighbor_slices:
            return self.images[index], masks
        return stack_neighbors(self.images, index, self.num_slices[index], self.position[index]), masks


def read_rows(manifest: Path, splits: Path) -> pd.DataFrame:
    """Return the manifest with each slice's `partition` and `fold`, in the order of patient and slice.

    Raises:
        DataError: The two do not name the same slices.
    """
    rows, dealt = read_manifest(manifest), read_splits(splits)
    if not rows[SLICE_KEY].equals(dealt[SLICE_KEY]):
        raise DataError("splits and manifest name different slices; run split_data again.")
    return rows.assign(partition=dealt["partition"], fold=dealt["fold"].astype(int))


def iterate_volumes(slices: Path, rows: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, Volume]]:
    """Yield each patient's manifest rows and volume, in sorted order; `rows` must hold whole patients."""
    for _, patient_rows in rows.groupby("patient_id", sort=True):
        yield patient_rows, read_volume(slices, patient_rows)


def require_masks(rows: pd.DataFrame) -> None:
    """Refuse manifest rows that nothing can be learned from.

    Raises:
        DataError: A slice has no mask.
    """
    if not rows["has_mask"].all():
        raise DataError("training needs a mask for every slice; this manifest has slices without; use labelled data.")


def read_cohort(slices: Path, rows: pd.DataFrame, preprocessing: Preprocessing) -> CohortTensors:
    """Read whole patients into memory, checked against the manifest and preprocessed.

    Args:
        slices: Folder of packed volumes.
        rows: Manifest rows of whole patients, in order.
        preprocessing: Size and normalisation of the network.

    Raises:
        DataError: A volume is missing, differs from the manifest, or has no masks to learn from.
    """
    require_masks(rows)
    images, masks, lengths = [], [], []
    for _, volume in iterate_volumes(slices, rows):
        images.append(preprocess_volume(torch.from_numpy(volume.images), preprocessing))
        masks.append(resize_masks(torch.from_numpy(volume.masks), preprocessing.input_size_px).bool())
        lengths.append(len(volume.images))
    return CohortTensors(
        images=torch.cat(images),
        masks=torch.cat(masks),
        has_tumor=torch.from_numpy(rows["has_tumor"].to_numpy().copy()),
        position=torch.cat([torch.arange(length) for length in lengths]),
        num_slices=torch.cat([torch.full((length,), length) for length in lengths]),
        patient=torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)),
        has_neighbor_slices=preprocessing.has_neighbor_slices,
    )
