"""What a person hands to a cascade, sorted into volumes by name alone: a lone image, a patient's folder, an archive.

Images that are named after their folder, `<patient>/<patient>_<number>.tif`, are slices of one patient and make one
volume in the order of their numbers, as in the public archive. Any other image is a volume of its own. Masks and stray
files are passed over. What cannot be read is a fault of one file and leaves the others alone.
"""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from tumor_cascade.data.images import FORMATS, MASK_SUFFIX
from tumor_cascade.data.kaggle import MAX_PATIENT_BYTES
from tumor_cascade.data.raw_file import RawFile, RawFiles, show
from tumor_cascade.data.raw_files import RawFolder, open_raw
from tumor_cascade.data.slice_pair import read_slice
from tumor_cascade.data.source import SourceSlice
from tumor_cascade.errors import DataError

NUMBERED = re.compile(r"(?P<patient>.+)_(?P<number>[0-9]{1,9})", re.DOTALL)
MAX_SIDE_PX = 4096
SUFFIXES = ", ".join(FORMATS)


@dataclass(frozen=True)
class Fault:
    """Why something is not predicted; without a file where the fault is none of a single readable file."""

    text: str
    file: RawFile | None = None


@dataclass(frozen=True)
class VolumeFiles:
    """The files of one volume.

    Attributes:
        volume_id: The patient, or the path of a lone image.
        images: By slice number, in order; 0 for a lone image.
        is_patient: Whether these are slices of one patient.
        faults: Files that name themselves slices of this patient but cannot be.
    """

    volume_id: str
    images: dict[int, RawFile]
    is_patient: bool
    faults: list[Fault] = field(default_factory=list)


@contextmanager
def open_volumes(source: Path) -> Iterator[tuple[RawFiles, list[VolumeFiles], list[Fault]]]:
    """Open an image, a folder or a zip archive; yield its files, its volumes and the faults of no volume.

    Raises:
        DataError: The source is of another kind, damaged, or holds no images.
    """
    suffix = source.suffix.lower()
    if source.is_file() and suffix in FORMATS:
        lone = VolumeFiles(source.name, {0: RawFile(source.name, source.stat().st_size)}, is_patient=False)
        yield RawFolder(source.parent), [lone], []
        return
    if source.is_file() and suffix != ".zip":
        raise DataError(f"{source} is no image ({SUFFIXES}), folder or zip archive; export it as one of these.")
    with open_raw(source) as raw:
        volumes, faults = find_volumes(raw, source.resolve().stem if source.is_file() else source.resolve().name)
        if not volumes:
            rule = f"{source} holds no images; {SUFFIXES} files are read."
            raise DataError([rule, *(fault.text for fault in faults)])
        yield raw, volumes, faults


def find_volumes(raw: RawFiles, name: str) -> tuple[list[VolumeFiles], list[Fault]]:
    """Sort the images of a data set into volumes.

    Args:
        raw: The data set.
        name: Of its topmost folder, which may be a patient's.
    """
    files, violations = raw.list_files()
    faults = [Fault(text) for text in violations]
    folders: dict[tuple[str, ...], list[RawFile]] = {}
    for file in (file for file in files if not file.is_folder and not file.is_stray):
        path = Path(file.path)
        if path.suffix.lower() not in FORMATS:
            faults.append(Fault(f"{show(file.path)} is no image; only {SUFFIXES} files are read; remove it.", file))
        elif not path.stem.endswith(MASK_SUFFIX):
            folders.setdefault(file.parts[:-1], []).append(file)
    patients: dict[str, VolumeFiles] = {}
    lone: list[VolumeFiles] = []
    for folder, images in sorted(folders.items(), key=lambda item: (len(item[0]), item[0])):
        patient = folder[-1] if folder else name
        if any(find_number(file, patient) is not None for file in images):
            volume = patients.setdefault(patient, VolumeFiles(patient, {}, is_patient=True))
            _add_images(raw, volume, images)
        else:
            lone += [VolumeFiles(file.path, {0: file}, is_patient=False) for file in images]
    in_order = [replace(volume, images=dict(sorted(volume.images.items()))) for _, volume in sorted(patients.items())]
    return [*in_order, *lone], faults


def find_number(file: RawFile, patient: str) -> int | None:
    """Return the slice number of a file that is named as a slice of `patient`."""
    match = NUMBERED.fullmatch(Path(file.path).stem)
    return int(match["number"]) if match and match["patient"] == patient else None


def _add_images(raw: RawFiles, volume: VolumeFiles, images: list[RawFile]) -> None:
    """Add the images of a patient's folder; equal copies, which the public archive has, are passed over."""
    for file in images:
        number = find_number(file, volume.volume_id)
        if number is None:
            rule = f"is not named {volume.volume_id}_<number> as the other slices of its folder"
            volume.faults.append(Fault(f"{show(file.path)} {rule}; rename or move it.", file))
            continue
        first = volume.images.setdefault(number, file)
        if first is not file and not raw.is_same(first, file):
            rule = f"has the slice number of {show(first.path)} but other content"
            volume.faults.append(Fault(f"{show(file.path)} {rule}; one file per number; remove the wrong one.", file))


def read_slices(raw: RawFiles, volume: VolumeFiles) -> tuple[list[SourceSlice], list[Fault]]:
    """Read and decode a volume's images, masks apart.

    Returns:
        The slices that can be read and have the size of most slices of the volume, in order; and a fault for each
        other file.
    """
    slices: dict[int, SourceSlice] = {}
    faults = list(volume.faults)
    num_bytes = 0
    for number, file in volume.images.items():
        formats = FORMATS[Path(file.path).suffix.lower()]
        try:
            slices[number] = read_slice(raw, number, file, None, max_side_px=MAX_SIDE_PX, formats=formats)
        except DataError as error:
            faults.append(Fault(str(error), file))
            continue
        num_bytes += slices[number].image.nbytes
        if num_bytes > MAX_PATIENT_BYTES:
            rule = f"has over {MAX_PATIENT_BYTES} bytes decoded, which are held in memory together"
            text = f"patient {show(volume.volume_id)} {rule}; export smaller or fewer slices."
            return [], [*volume.faults, *(Fault(text, file) for file in volume.images.values())]
    sizes = Counter(one.image.shape for one in slices.values())
    usual = sizes.most_common(1)[0][0] if sizes else ()
    for number, one in slices.items():
        if one.image.shape != usual:
            (_, height, width), (_, usual_height, usual_width) = one.image.shape, usual
            rule = f"is {width}x{height} but most slices of its patient are {usual_width}x{usual_height}"
            faults.append(Fault(f"{show(one.name)} {rule}; export it again.", volume.images[number]))
    return [one for one in slices.values() if one.image.shape == usual], faults
