"""The contract of a data source: whatever it reads, it yields the slices of one patient after another."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SourceSlice:
    """One slice as a source delivers it, checked and decoded.

    Attributes:
        slice_number: The source's own number, unique within the patient.
        name: File name in the source, for messages (never a whole path).
        image: uint8 `(3, H, W)`: pre-contrast, FLAIR, post-contrast.
        mask: uint8 {0, 1} `(H, W)`, or None where the source has no masks.
    """

    slice_number: int
    name: str
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8] | None


@dataclass(frozen=True)
class SourcePatient:
    """All slices of one patient, in order of their number.

    Attributes:
        patient_id: Letters, digits, `_`, `-`, `.`; unique in the source.
        institution: Where the patient was scanned; "unknown" where the source does not say.
        slices: At least one; all of one shape; all with mask or none.
        spacing_mm: In-plane spacing, or None where the source does not say.
        is_sequence_real: Per sequence, False where another stands in for it; None: to be judged from the pixels.
    """

    patient_id: str
    institution: str
    slices: list[SourceSlice]
    spacing_mm: float | None = None
    is_sequence_real: tuple[bool, bool, bool] | None = None


class Source(Protocol):
    """A raw data set, read as a stream of patients."""

    has_patient_ids: bool

    def count_patients(self) -> int:
        """Return how many patients `read_patients` will yield, for the progress bar."""
        ...

    def read_patients(self) -> Iterator[SourcePatient]:
        """Yield patients in sorted order, one in memory at a time.

        Raises:
            DataError: After the whole source was looked through, with every violation found.
        """
        ...
