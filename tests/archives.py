"""Builders of small raw data sets in the public archive's layout, sound or with planted faults."""

import io
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

INSTITUTIONS = ("CS", "DU", "FG", "HT")
# Byte offset and struct code of the fields of a zip's central directory record, as APPNOTE.TXT 4.3.12 lists them.
ZIP_FIELDS = {
    "flags": (8, "<H"),
    "method": (10, "<H"),
    "crc": (16, "<L"),
    "compress_size": (20, "<L"),
    "file_size": (24, "<L"),
    "external_attr": (38, "<L"),
    "header_offset": (42, "<L"),
}


def make_patient_id(index: int) -> str:
    """Return the id of patient 0, 1, ...: TCGA_CS_1000_19990101, TCGA_DU_1001_19990101, ..."""
    return f"TCGA_{INSTITUTIONS[index % len(INSTITUTIONS)]}_{1000 + index}_19990101"


def make_image(seed: int, size_px: int = 32) -> NDArray[np.uint8]:
    """Return a head-like disc in noise, three different sequences, uint8 `(size, size, 3)`; background 0."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size_px, :size_px] - (size_px - 1) / 2
    is_head = np.hypot(rows, columns) < 0.4 * size_px
    return np.where(is_head[..., None], rng.integers(40, 120, (size_px, size_px, 3)), 0).astype(np.uint8)


def make_mask(size_px: int = 32, radius_px: float = 4.0) -> NDArray[np.uint8]:
    """Return a centred disc of 255, uint8 `(size, size)`; radius 0 gives an empty mask."""
    rows, columns = np.mgrid[:size_px, :size_px] - (size_px - 1) / 2
    return (255 * (np.hypot(rows, columns) < radius_px)).astype(np.uint8)


def encode(pixels: NDArray[Any], file_format: str = "TIFF", **options: Any) -> bytes:
    """Return an array as the bytes of an image file."""
    buffer = io.BytesIO()
    if file_format == "TIFF":
        options.setdefault("compression", "tiff_adobe_deflate")
    Image.fromarray(pixels).save(buffer, file_format, **options)
    return buffer.getvalue()


def build_tiff(
    width: int, height: int, pixels: bytes, *, num_channels: int = 3, tags: Mapping[int, list[int] | None] | None = None
) -> bytes:
    """Return an uncompressed one-strip TIFF, any tag overridden (a list of numbers) or left out (None).

    The pixels stand at offset 8, right behind the header; the directory follows them.
    """
    fields: dict[int, list[int] | None] = {
        256: [width],
        257: [height],
        258: [8] * num_channels,
        259: [1],
        262: [2 if num_channels == 3 else 1],
        273: [8],
        277: [num_channels],
        278: [height],
        279: [len(pixels)],
        **(tags or {}),
    }
    present = {tag: values for tag, values in sorted(fields.items()) if values is not None}
    directory = 8 + len(pixels)
    outside = directory + 2 + 12 * len(present) + 4
    entries, tail = b"", b""
    for tag, values in present.items():
        packed = struct.pack(f"<{len(values)}L", *values)
        if len(packed) > 4:
            packed, tail = struct.pack("<L", outside + len(tail)), tail + packed
        entries += struct.pack("<HHL", tag, 4, len(values)) + packed
    return (
        b"II*\0" + struct.pack("<L", directory) + pixels + struct.pack("<H", len(present)) + entries + bytes(4) + tail
    )


def make_archive(
    folder: Path, num_patients: int = 2, num_slices: int = 3, size_px: int = 32, *, has_masks: bool = True
) -> Path:
    """Write `folder/kaggle_3m/<patient>/...` and return `folder`. The middle slices of each patient show tumor."""
    for index in range(num_patients):
        for number in range(1, num_slices + 1):
            is_end = number in (1, num_slices)
            mask = make_mask(size_px, radius_px=0 if is_end else size_px / 8)
            add_slice(folder, make_patient_id(index), number, make_image(97 * index + number, size_px), mask)
            if not has_masks:
                mask_path(folder, make_patient_id(index), number).unlink()
    return folder


def add_slice(folder: Path, patient_id: str, number: int, image: NDArray[Any], mask: NDArray[Any]) -> None:
    """Write a slice and its mask."""
    image_path(folder, patient_id, number).parent.mkdir(parents=True, exist_ok=True)
    image_path(folder, patient_id, number).write_bytes(encode(image))
    mask_path(folder, patient_id, number).write_bytes(encode(mask))


def image_path(folder: Path, patient_id: str, number: int) -> Path:
    """Return where a slice stands."""
    return folder / "kaggle_3m" / patient_id / f"{patient_id}_{number}.tif"


def mask_path(folder: Path, patient_id: str, number: int) -> Path:
    """Return where a slice's mask stands."""
    return folder / "kaggle_3m" / patient_id / f"{patient_id}_{number}_mask.tif"


def add_stray_files(folder: Path) -> None:
    """Add what systems, archivers and the archive's author leave beside the data."""
    patient = next(path for path in sorted((folder / "kaggle_3m").iterdir()) if path.is_dir())
    for path in (
        folder / "README.md",
        folder / "LICENSE",
        folder / ".DS_Store",
        folder / "__MACOSX" / "kaggle_3m" / f"._{patient.name}",
        folder / "kaggle_3m" / "data.csv",
        folder / "kaggle_3m" / "README.md",
        patient / "Thumbs.db",
        patient / ".DS_Store",
        patient / f"._{patient.name}_1.tif",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"stray")


def make_zip(folder: Path, path: Path, *, has_nested_copy: bool = True) -> Path:
    """Pack a raw folder as the public archive is packed: each file twice, the second copy nested."""
    prefixes = ["", "lgg-mri-segmentation/"] if has_nested_copy else [""]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for prefix in prefixes:
            for file in sorted(file for file in folder.rglob("*") if file.is_file()):
                archive.writestr(zipfile.ZipInfo(prefix + file.relative_to(folder).as_posix()), file.read_bytes())
    return path


def add_member(path: Path, name: str, data: bytes, *, mode: int = 0o100644, method: int = zipfile.ZIP_DEFLATED) -> None:
    """Append a member with any name, Unix mode and packing to a zip."""
    member = zipfile.ZipInfo("placeholder")
    member.filename = name  # past ZipInfo's own clean-up of names
    member.external_attr, member.compress_type = mode << 16, method
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, data)


def patch_member(path: Path, name: str, field: str, value: int) -> None:
    """Overwrite a field of a member's central directory record: what a zip claims about a file."""
    data = bytearray(path.read_bytes())
    offset, code = ZIP_FIELDS[field]
    start = data.rindex(b"PK\1\2", 0, data.rindex(name.encode()))
    struct.pack_into(code, data, start + offset, value)
    path.write_bytes(data)
