"""Source `kaggle`: patients in the public LGG archive's layout, from a folder or from the zip as downloaded.

`kaggle_3m/<patient>/<patient>_<number>.tif` and `..._<number>_mask.tif`. The archive holds a second copy of every file
under `lgg-mri-segmentation/`; each is counted once. All slices have masks or none has.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tumor_cascade.data.kaggle_layout import PatientFiles, group_files
from tumor_cascade.data.raw_file import RawFiles, show
from tumor_cascade.data.raw_files import open_raw
from tumor_cascade.data.slice_pair import read_slice
from tumor_cascade.data.source import SourcePatient, SourceSlice
from tumor_cascade.errors import DataError

INSTITUTION = re.compile(r"[A-Z]+_([A-Z0-9]{2})_[A-Z0-9]{4}(?:_.*)?")  # of a TCGA barcode
MAX_PATIENT_BYTES = 1 << 30  # of one patient's decoded slices, which are held in memory together


class KaggleSource:
    """Patients in the LGG archive's layout.

    Args:
        root: A folder that holds patient folders, `kaggle_3m` or nothing but the zip; or the zip. May be a link.
        max_side_px: Larger images are refused before decoding.
    """

    has_patient_ids = True

    def __init__(self, root: Path, max_side_px: int) -> None:
        self._root = root
        self._max_side_px = max_side_px

    def count_patients(self) -> int:
        """As `Source`."""
        with open_raw(self._root) as raw:
            return len(group_files(raw)[0])

    def read_patients(self) -> Iterator[SourcePatient]:
        """As `Source`. From the first violation on, patients are still checked but no more yielded."""
        with open_raw(self._root) as raw:
            patients, violations = group_files(raw)
            for patient_id, files in sorted(patients.items()):
                try:
                    patient = self._read_patient(raw, patient_id, files)
                except DataError as error:
                    violations += error.violations
                    continue
                if not violations:
                    yield patient
        if violations:
            raise DataError(violations, summary=f"{self._root}: nothing was ingested; violations ({len(violations)}):")

    def _read_patient(self, raw: RawFiles, patient_id: str, files: PatientFiles) -> SourcePatient:
        slices, violations, num_bytes = list[SourceSlice](), list[str](), 0
        for number, image in sorted(files.images.items()):
            mask = files.masks.get(number)
            try:
                one = read_slice(raw, number, image, mask, max_side_px=self._max_side_px, formats=("TIFF",))
            except DataError as error:
                violations += error.violations
                continue
            slices.append(one)
            num_bytes += one.image.nbytes + (0 if one.mask is None else one.mask.nbytes)
            if num_bytes > MAX_PATIENT_BYTES:
                rule = f"over {MAX_PATIENT_BYTES} bytes decoded, which are held in memory together"
                raise DataError(
                    [*violations, f"patient {show(patient_id)} has {rule}; export smaller or fewer slices."]
                )
        violations += _find_odd_shapes(slices)
        if violations:
            raise DataError(violations)
        match = INSTITUTION.fullmatch(patient_id)
        return SourcePatient(patient_id, match[1] if match else "unknown", slices)


def _find_odd_shapes(slices: list[SourceSlice]) -> list[str]:
    """Name the slices that differ in size from most slices of their patient."""
    sizes = [f"{one.image.shape[2]}x{one.image.shape[1]}" for one in slices]
    usual = Counter(sizes).most_common(1)[0][0] if sizes else ""
    rule = f"most slices of its patient are {usual}; all must be of one size"
    return [
        f"{show(one.name)} is {size} but {rule}; export it again."
        for one, size in zip(slices, sizes, strict=True)
        if size != usual
    ]
