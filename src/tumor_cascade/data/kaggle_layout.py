"""The layout of the public LGG archive: which file is which slice or mask of which patient, by name alone."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from tumor_cascade.data.raw_file import RawFile, RawFiles, show

LAYOUT_FOLDER = "kaggle_3m"
FILE_NAME = re.compile(r"(?P<patient>.+)_(?P<number>[0-9]{1,9})(?P<mask>_mask)?\.tif", re.DOTALL)
PATIENT_ID = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,64}")


@dataclass
class PatientFiles:
    """The files of one patient, by slice number."""

    images: dict[int, RawFile] = field(default_factory=dict)
    masks: dict[int, RawFile] = field(default_factory=dict)


def group_files(raw: RawFiles) -> tuple[dict[str, PatientFiles], list[str]]:
    """Sort the files of a data set into patients, each file of the archive's two copies counted once.

    Returns:
        The files by patient, and all violations of the layout.
    """
    files, violations = raw.list_files()
    patients: dict[str, PatientFiles] = {}
    counted: dict[tuple[str, ...], RawFile] = {}
    for parts, file in _strip_prefixes(files):
        first = counted.setdefault(parts, file)
        if first is not file:
            if not file.is_folder and not raw.is_same(first, file):
                rule = "the archive's copies of a file must be equal"
                violations.append(f"{show(file.path)} differs from {show(first.path)}; {rule}; remove the wrong one.")
        elif file.is_folder and len(parts) == 1:
            patients.setdefault(parts[0], PatientFiles())
        elif fault := _add_file(patients, parts, file):
            violations.append(f"{show(file.path)} {fault}")
    return patients, violations + _find_patient_violations(patients)


def _strip_prefixes(files: list[RawFile]) -> Iterator[tuple[tuple[str, ...], RawFile]]:
    """Yield what is no stray file, with its place in the layout: below `kaggle_3m`, wherever that is, or the top."""
    has_layout_folder = any(LAYOUT_FOLDER in file.parts for file in files)
    for file in files:
        parts = file.parts
        if LAYOUT_FOLDER in parts:
            parts = parts[len(parts) - parts[::-1].index(LAYOUT_FOLDER) :]
        elif has_layout_folder:
            parts = () if file.is_folder else ("", *parts)  # no patient's folder stands beside the layout's
        if parts and not file.is_stray:
            yield parts, file


def _add_file(patients: dict[str, PatientFiles], parts: tuple[str, ...], file: RawFile) -> str:
    """Sort a file into its patient; return what is wrong with its place or name, if anything."""
    folder, match = parts[0], FILE_NAME.fullmatch(parts[-1])
    if len(parts) != 2 or not folder or file.is_folder or match is None:
        rule = "data are <patient>/<patient>_<number>.tif and ..._<number>_mask.tif"
        return f"has no place in the layout; {rule}; rename, move or remove it."
    if match["patient"] != folder:
        return f"belongs to patient {show(match['patient'])} but lies in folder {show(folder)}; move or remove it."
    patient = patients.setdefault(folder, PatientFiles())
    kind, number = (patient.masks if match["mask"] else patient.images), int(match["number"])
    if number in kind:
        return f"has the same slice number as {show(kind[number].parts[-1])}; one file per number; remove one."
    kind[number] = file
    return ""


def _find_patient_violations(patients: dict[str, PatientFiles]) -> list[str]:
    if not any(files.images or files.masks for files in patients.values()):
        return [f"no slices found; patient folders belong at the top or in {LAYOUT_FOLDER}/; see the README."]
    has_masks = any(files.masks for files in patients.values())
    violations = []
    for patient_id, files in sorted(patients.items()):
        if not PATIENT_ID.fullmatch(patient_id):
            rule = "1 to 64 letters, digits, `.`, `_` or `-`, not starting with `.`"
            violations.append(f"patient folder {show(patient_id)} has an unsafe name; {rule}; rename it.")
        if not files.images and not files.masks:
            violations.append(f"patient folder {show(patient_id)} holds no slices; fill or remove it.")
        if has_masks:
            violations += _find_lone_files(files)
    return violations


def _find_lone_files(files: PatientFiles) -> list[str]:
    lone_images = [files.images[number] for number in sorted(files.images.keys() - files.masks.keys())]
    lone_masks = [files.masks[number] for number in sorted(files.masks.keys() - files.images.keys())]
    return [
        *(f"image {show(file.path)} has no mask; all images have one or none has; add it." for file in lone_images),
        *(f"mask {show(file.path)} has no image; add the image or remove the mask." for file in lone_masks),
    ]
