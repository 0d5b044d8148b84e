"""An image file and its mask file to one checked slice."""

from tumor_cascade.data.decoding import decode_image, decode_mask, max_file_bytes
from tumor_cascade.data.raw_file import RawFile, RawFiles, show
from tumor_cascade.data.source import SourceSlice
from tumor_cascade.errors import DataError


def read_slice(
    raw: RawFiles, number: int, image: RawFile, mask: RawFile | None, *, max_side_px: int, formats: tuple[str, ...]
) -> SourceSlice:
    """Read and decode a slice and, where there is one, its mask.

    Args:
        raw: Where the files stand.
        number: The slice's number within its patient.
        image: RGB image.
        mask: Grayscale mask of 0 and 255.
        max_side_px: Larger images are refused before decoding.
        formats: Allowed formats, by Pillow's names.

    Raises:
        DataError: With the violations of both files; or their sizes differ.
    """
    arrays, violations = [], []
    for file, decode in ((image, decode_image), (mask, decode_mask)):
        if file is None:
            continue
        try:
            data = raw.read(file, max_file_bytes(max_side_px))
            arrays.append(decode(data, show(file.path), max_side_px=max_side_px, formats=formats))
        except DataError as error:
            violations += error.violations
    if violations:
        raise DataError(violations)
    if mask is None:
        return SourceSlice(number, image.parts[-1], arrays[0], None)
    (height, width), (mask_height, mask_width) = arrays[0].shape[1:], arrays[1].shape
    if (height, width) != (mask_height, mask_width):
        sizes = f"is {mask_width}x{mask_height} but its image is {width}x{height}"
        raise DataError(f"mask {show(mask.path)} {sizes}; export the pair again or remove it.")
    return SourceSlice(number, image.parts[-1], arrays[0], arrays[1])
