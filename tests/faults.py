"""Faults as users make them, planted in a folder, each with the command that meets it."""

import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from archives import (
    add_member,
    add_slice,
    encode,
    image_path,
    make_archive,
    make_image,
    make_mask,
    make_patient_id,
    make_zip,
    mask_path,
    patch_member,
)
from manifests import make_manifest, write_volumes
from products import write_product
from tumor_cascade.configuration import configure
from tumor_cascade.data.manifest import write_manifest
from tumor_cascade.params import SplitDataParams, read_section
from tumor_cascade.stages.interface import INTERFACES
from tumor_cascade.stages.split_data import split_data

FIRST, SECOND = make_patient_id(0), make_patient_id(1)
ZIP = Path("data/raw/archive.zip")
FOLDER = Path("data/raw")
SLICES, MANIFEST = Path("in/slices"), Path("in/manifest.parquet")


@dataclass(frozen=True)
class Fault:
    """A title, what plants the fault in the current folder, and the arguments of `tumor-cascade` then."""

    title: str
    plant: Callable[[], object]
    arguments: tuple[str, ...]


def name_stage(stage: str) -> tuple[str, ...]:
    """Return the command line of a stage whose inputs stand in `in/` and whose outputs go to `out/`."""
    interface = INTERFACES[stage]
    files = {"raw": str(FOLDER), "manifest": str(MANIFEST)}
    inputs = [part for noun in interface.inputs for part in (f"--{noun}", files.get(noun, f"in/{noun}"))]
    outputs = [part for noun in interface.outputs for part in (f"--out-{noun}", f"out/{noun}")]
    return (stage, *(["--fold", "0"] if interface.has_fold else []), *inputs, *outputs)


INGEST, VALIDATE, SPLIT = map(name_stage, ("ingest_data", "validate_data", "split_data"))
CLASSIFIER, SEGMENTER = map(name_stage, ("train_classifier", "train_segmenter"))


def edit_params(old: str, new: str) -> None:
    path = Path("params.yaml")
    text = path.read_text(encoding="utf-8")
    assert old in text, f"params.yaml has no {old!r}"
    path.write_text(text.replace(old, new), encoding="utf-8")


def in_params(old: str, new: str) -> Callable[[], None]:
    return lambda: edit_params(old, new)


def in_folder(change: Callable[[], object]) -> Callable[[], None]:
    """Plant a fault in two sound patients under data/raw."""

    def plant() -> None:
        configure("phantom", Path("params.yaml"), ["ingest_data.source=kaggle", "ingest_data.max_side_px=64"])
        make_archive(FOLDER)
        change()

    return plant


def in_zip(change: Callable[[], object]) -> Callable[[], None]:
    """Plant a fault in a sound zip of one patient in data/raw."""

    def plant() -> None:
        configure("phantom", Path("params.yaml"), ["ingest_data.source=kaggle", "ingest_data.max_side_px=64"])
        make_zip(make_archive(Path("elsewhere"), num_patients=1), ZIP, has_nested_copy=False)
        change()

    return plant


def in_image(data: bytes) -> Callable[[], None]:
    return in_folder(lambda: image_path(FOLDER, FIRST, 2).write_bytes(data))


def in_mask(data: bytes) -> Callable[[], None]:
    return in_folder(lambda: mask_path(FOLDER, FIRST, 2).write_bytes(data))


def in_manifest(num_patients: int = 6, **changes: tuple[int | slice, object]) -> Callable[[], None]:
    """Plant values in a sound manifest: column -> (rows, value)."""

    def plant() -> None:
        manifest = make_manifest(num_patients=num_patients)
        for column, (rows, value) in changes.items():
            manifest.loc[rows, column] = value
        write_manifest(write_volumes(SLICES, manifest), MANIFEST)

    return plant


def add_page() -> None:
    pages = [Image.fromarray(make_image(seed)) for seed in (1, 2)]
    pages[0].save(image_path(FOLDER, FIRST, 2), save_all=True, append_images=pages[1:])


def move_slice() -> None:
    for path in (image_path(FOLDER, SECOND, 3), mask_path(FOLDER, SECOND, 3)):
        path.rename(FOLDER / "kaggle_3m" / FIRST / path.name)


def cut_zip() -> None:
    ZIP.write_bytes(ZIP.read_bytes()[: ZIP.stat().st_size // 2])


def claim_bomb() -> None:
    add_member(ZIP, f"kaggle_3m/{FIRST}/{FIRST}_4.tif", bytes(1 << 22))
    add_member(ZIP, f"kaggle_3m/{FIRST}/{FIRST}_4_mask.tif", encode(make_mask()))


def damage_member() -> None:
    patch_member(ZIP, f"kaggle_3m/{FIRST}/{FIRST}_1.tif", "crc", 1)


def encrypt_member() -> None:
    patch_member(ZIP, f"kaggle_3m/{FIRST}/{FIRST}_1.tif", "flags", 1)


def damage_volume() -> None:
    in_manifest(num_patients=12)()
    split_params = read_section(Path("params.yaml"), "split_data")
    assert isinstance(split_params, SplitDataParams)
    outputs = {"out_splits": Path("in/splits"), "out_metrics": Path("in/metrics.json")}
    split_data(split_params, manifest=MANIFEST, slices=SLICES, **outputs)
    path = sorted(SLICES.glob("*.npy"))[0]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def make_twins() -> None:
    """Give two patients the same pictures."""
    manifest = write_volumes(SLICES, make_manifest(num_patients=12))
    ids = sorted(manifest["patient_id"].unique())[:2]
    shutil.copy(SLICES / f"{ids[0]}.npy", SLICES / f"{ids[1]}.npy")
    first, second = (manifest["patient_id"] == patient for patient in ids)
    for column in ("image_sha256", "mask_sha256", "perceptual_hash", "tumor_area_px"):
        manifest.loc[second, column] = manifest.loc[first, column].to_numpy()
    write_manifest(manifest, MANIFEST)


def damage_product() -> None:
    folder = write_product(Path("cascade"), gate_threshold=0.5)
    weights = folder / "segmenters" / "fold-0" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    Path("slice.png").write_bytes(encode(make_image(1), "PNG"))


def do_nothing() -> None:
    pass


GREY = np.where(make_mask() > 0, 128, 0).astype(np.uint8)
CONFIGURE = ("configure", "smoke", "--set")
FAULTS: dict[str, tuple[Fault, ...]] = {
    "Params and flags": (
        Fault("A value out of range", in_params("fn_weight: 0.5", "fn_weight: 1.4"), SEGMENTER),
        Fault("A number as text", in_params("fn_weight: 0.5", 'fn_weight: "0.5"'), SEGMENTER),
        Fault("A misspelled key", in_params("fn_weight: 0.5", "fn_wieght: 0.5"), SEGMENTER),
        Fault("A choice that does not exist", in_params("source: phantom", "source: dicom"), INGEST),
        Fault("Weights that are not there", in_params("initialization: none", "initialization: w.pth"), CLASSIFIER),
        Fault("Bounds the wrong way round", in_params("[0.20, 0.50]", "[0.50, 0.20]"), VALIDATE),
        Fault("A section that is missing", in_params("split_data:", "split:"), SPLIT),
        Fault("No YAML", in_params("split_data:", "split_data: ["), SPLIT),
        Fault("No params.yaml", lambda: Path("params.yaml").unlink(), SPLIT),
        Fault("A fold that the split does not make", do_nothing, (*CONFIGURE, "assemble_cascade.folds=[0, 3]")),
        Fault("An override of nothing", do_nothing, (*CONFIGURE, "train_segmenter.tversky_alpha=0.3")),
        Fault("An override without a value", do_nothing, (*CONFIGURE, "train_segmenter.fn_weight")),
        Fault("A preset that does not exist", do_nothing, ("configure", "brats")),
        Fault("A flag that is missing", do_nothing, INGEST[:-2]),
        Fault("Credentials in a URL", do_nothing, ("remote", "s3://key:secret@bucket/path")),
    ),
    "Raw data": (
        Fault("No data", in_folder(lambda: shutil.rmtree(FOLDER)), INGEST),
        Fault("An empty folder", in_folder(lambda: shutil.rmtree(FOLDER / "kaggle_3m")), INGEST),
        Fault("An image without mask", in_folder(lambda: mask_path(FOLDER, FIRST, 2).unlink()), INGEST),
        Fault("A mask without image", in_folder(lambda: image_path(FOLDER, FIRST, 2).unlink()), INGEST),
        Fault("A mask with grey values", in_mask(encode(GREY)), INGEST),
        Fault("A mask of another size", in_mask(encode(make_mask(16))), INGEST),
        Fault(
            "A slice of another size",
            in_folder(lambda: add_slice(FOLDER, FIRST, 2, make_image(1, 16), make_mask(16))),
            INGEST,
        ),
        Fault("A grey image", in_image(encode(make_mask())), INGEST),
        Fault("16 bits per channel", in_image(encode(make_mask().astype(np.uint16))), INGEST),
        Fault("Several pages in a file", in_folder(add_page), INGEST),
        Fault("An image that is too large", in_image(encode(make_image(1, 65))), INGEST),
        Fault("Bytes that are no image", in_image(b"no image"), INGEST),
        Fault("A truncated image", in_image(encode(make_image(1))[:700]), INGEST),
        Fault("A file in another patient's folder", in_folder(move_slice), INGEST),
        Fault(
            "Two slices with one number",
            in_folder(
                lambda: shutil.copy(image_path(FOLDER, FIRST, 1), FOLDER / "kaggle_3m" / FIRST / f"{FIRST}_01.tif")
            ),
            INGEST,
        ),
        Fault(
            "A link among the data",
            in_folder(lambda: (FOLDER / "kaggle_3m" / "TCGA_HT_0001").symlink_to("/", target_is_directory=True)),
            INGEST,
        ),
    ),
    "Archives": (
        Fault("No zip", in_zip(lambda: ZIP.write_bytes(b"no zip")), INGEST),
        Fault("A truncated zip", in_zip(cut_zip), INGEST),
        Fault("An encrypted zip", in_zip(encrypt_member), INGEST),
        Fault("A wrong checksum", in_zip(damage_member), INGEST),
        Fault("A path that leads outside", in_zip(lambda: add_member(ZIP, "../../evil.tif", b"x")), INGEST),
        Fault(
            "A link in a zip",
            in_zip(lambda: add_member(ZIP, f"kaggle_3m/{FIRST}/{FIRST}_4.tif", b"/etc/passwd", mode=0o120777)),
            INGEST,
        ),
        Fault("A bomb: 4 MiB of zeros in 4 KiB", in_zip(claim_bomb), INGEST),
        Fault(
            "A packing that unpacks without bound",
            in_zip(lambda: add_member(ZIP, "kaggle_3m/data.csv", b"x", method=zipfile.ZIP_LZMA)),
            INGEST,
        ),
    ),
    "Data that break their rules": (
        Fault("No manifest", do_nothing, VALIDATE),
        Fault("Two sizes in one patient", in_manifest(height_px=(3, 65)), VALIDATE),
        Fault("A gap in the slice numbers", in_manifest(slice_number=(9, 12)), VALIDATE),
        Fault("Two patients with one id", in_manifest(institution=(slice(0, 4), "BB")), VALIDATE),
        Fault(
            "Bright corners (a warning; the pipeline goes on)", in_manifest(corner_mean=(slice(0, 9), 60.0)), VALIDATE
        ),
        Fault("Too few patients for the folds", in_manifest(num_patients=3), SPLIT),
        Fault("Two patients with the same pictures", make_twins, SPLIT),
        Fault("A volume with other pixels than the manifest says", damage_volume, SEGMENTER),
    ),
    "Products": (
        Fault("No split", in_manifest(), SEGMENTER),
        Fault(
            "Weights that are damaged",
            damage_product,
            ("predict", "slice.png", "--cascade", "cascade", "--out", "predictions"),
        ),
    ),
}
