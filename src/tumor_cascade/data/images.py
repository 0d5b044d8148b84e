"""Source `images`: a flat folder or zip of slices that nobody sorted by patient.

Each image counts as a patient of its own with an invented id, so nothing that is made from such data can be promoted.
`<name>_mask.png` (or `.tif`) beside `<name>.png` is its mask; all images have one or none has.
"""

from collections.abc import Iterator
from pathlib import Path

from tumor_cascade.data.raw_file import RawFile, RawFiles, show
from tumor_cascade.data.raw_files import open_raw
from tumor_cascade.data.slice_pair import read_slice
from tumor_cascade.data.source import SourcePatient
from tumor_cascade.errors import DataError

FORMATS = {".png": ("PNG",), ".tif": ("TIFF",), ".tiff": ("TIFF",)}
MASK_SUFFIX = "_mask"


class FolderSource:
    """Slices without patient ids.

    Args:
        root: A folder of `.png`, `.tif` or `.tiff` files. May be a link.
        max_side_px: Larger images are refused before decoding.
    """

    has_patient_ids = False

    def __init__(self, root: Path, max_side_px: int) -> None:
        self._root = root
        self._max_side_px = max_side_px

    def count_patients(self) -> int:
        """As `Source`."""
        with open_raw(self._root) as raw:
            return len(_pair_files(raw)[0])

    def read_patients(self) -> Iterator[SourcePatient]:
        """As `Source`; the invented ids number the files in order of their names."""
        with open_raw(self._root) as raw:
            pairs, violations = _pair_files(raw)
            for index, (image, mask) in enumerate(pairs, start=1):
                formats = FORMATS[Path(image.path).suffix.lower()]
                try:
                    one = read_slice(raw, 1, image, mask, max_side_px=self._max_side_px, formats=formats)
                except DataError as error:
                    violations += error.violations
                    continue
                if not violations:
                    yield SourcePatient(f"image-{index:06d}", "unknown", [one])
        if violations:
            raise DataError(violations, summary=f"{self._root}: nothing was ingested; violations ({len(violations)}):")


def _pair_files(raw: RawFiles) -> tuple[list[tuple[RawFile, RawFile | None]], list[str]]:
    files, violations = raw.list_files()
    images: dict[str, RawFile] = {}
    masks: dict[str, RawFile] = {}
    for file in (file for file in files if not file.is_stray):
        path = Path(file.path)
        if file.is_folder or len(file.parts) != 1 or path.suffix.lower() not in FORMATS:
            violations.append(f"{show(file.path)} is no image; only {', '.join(FORMATS)} files, no folders; remove it.")
            continue
        if file.path.encode(errors="ignore").decode() != file.path:
            violations.append(f"{show(file.path)} has a name that is no UTF-8, as manifests need it; rename it.")
            continue
        kind, stem = (masks if path.stem.endswith(MASK_SUFFIX) else images), path.stem.removesuffix(MASK_SUFFIX)
        if stem in kind:
            violations.append(f"{show(file.path)} has the same name as {show(kind[stem].path)}; rename one.")
        kind[stem] = file
    if not images:
        violations.append(f"no images found; {', '.join(FORMATS)} files belong at the top of the folder.")
    lone = sorted(images.keys() - masks.keys()) if masks else []
    violations += [f"image {show(images[stem].path)} has no mask; all have one or none has; add it." for stem in lone]
    lone = sorted(masks.keys() - images.keys())
    violations += [f"mask {show(masks[stem].path)} has no image; add the image or remove the mask." for stem in lone]
    return [(images[stem], masks.get(stem)) for stem in sorted(images)], violations
