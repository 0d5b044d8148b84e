"""The embedded phantom: generated brain MRI of patients with one tumor each, as a data source and as an archive.

A patient follows from (seed, patient number) alone. What has to be balanced in a small cohort too (institution, tumor
size, missing sequences) follows from the number; all else is drawn.
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tumor_cascade.data.phantom_anatomy import build_anatomy, draw_layers
from tumor_cascade.data.phantom_lesions import draw_mimics, draw_vessels, grow_tumor
from tumor_cascade.data.phantom_signal import INSTITUTIONS, TISSUES, Institution, render_images
from tumor_cascade.data.source import SourcePatient, SourceSlice
from tumor_cascade.params import PhantomParams
from tumor_cascade.storage import atomic_dir

PRE, FLAIR, POST = range(3)
PREDICTOR_TAG, HORIZONTAL = 317, 2  # TIFF: store differences between neighbours, which compress better
INSTITUTION_CYCLE = (0, 1, 0, 2, 3)  # the first has twice as many patients as each other one
GOLDEN_RATIO = (5**0.5 - 1) / 2
MISSING_PERIOD, FIRST_MISSING = 16, 5  # patients 5, 21, 37, ... have no post, every second of these no pre either


class PhantomSource:
    """Generated patients, one at a time.

    Args:
        params: Number of patients, mean number of slices, image size, seed.
    """

    has_patient_ids = True

    def __init__(self, params: PhantomParams) -> None:
        self.params = params

    def count_patients(self) -> int:
        """Return the number of patients."""
        return self.params.num_patients

    def read_patients(self) -> Iterator[SourcePatient]:
        """Yield patients in the order of their ids, one in memory at a time."""
        for number in sorted(range(1, self.params.num_patients + 1), key=name_patient):
            yield generate_patient(self.params, number)


def name_patient(number: int) -> str:
    """Return the id of patient `number`, from 1, in the public archive's style: the second field is the institution."""
    return f"PHANTOM_{choose_institution(number).name}_{number:04d}"


def choose_institution(number: int) -> Institution:
    """Return where patient `number` is scanned."""
    return INSTITUTIONS[INSTITUTION_CYCLE[number % len(INSTITUTION_CYCLE)]]


def find_real_sequences(number: int) -> tuple[bool, bool, bool]:
    """Return which of pre, FLAIR and post patient `number` has."""
    cycle, phase = divmod(number - FIRST_MISSING, MISSING_PERIOD)
    return phase != 0 or cycle % 2 == 0, True, phase != 0


def generate_patient(params: PhantomParams, number: int) -> SourcePatient:
    """Generate patient `number`, counted from 1, independent of all others."""
    images, masks = _generate_volume(params, number)
    patient_id = name_patient(number)
    slices = [
        SourceSlice(slice_number, f"{patient_id}_{slice_number}.tif", image, mask)
        for slice_number, (image, mask) in enumerate(zip(images, masks, strict=True), start=1)
    ]
    return SourcePatient(
        patient_id, choose_institution(number).name, slices, is_sequence_real=find_real_sequences(number)
    )


def _generate_volume(params: PhantomParams, number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return images `(Z, 3, H, W)` and masks {0, 1} `(Z, H, W)`."""
    streams = np.random.SeedSequence(params.seed, spawn_key=(number,)).spawn(3)
    head, lesions, scanner = (np.random.default_rng(stream) for stream in streams)
    num_slices = max(8, round(params.num_slices * head.uniform(0.8, 1.2)))
    anatomy = build_anatomy(head, num_slices, params.image_size_px)
    # Multiples of the golden ratio spread sizes evenly however few patients there are.
    tumor = grow_tumor(lesions, anatomy, (params.seed % 1000 / 1000 + number * GOLDEN_RATIO) % 1)
    layers = chain(
        draw_layers(head, anatomy),
        draw_mimics(lesions, anatomy, tumor),
        tumor.layers,
        draw_vessels(lesions, anatomy),
    )
    images = render_images(scanner, choose_institution(number), layers, {**TISSUES, **tumor.signals}, tumor.mask.shape)
    for sequence, is_real in enumerate(find_real_sequences(number)):
        if not is_real:
            images[:, sequence] = images[:, FLAIR]
    return images, tumor.mask.astype(np.uint8)


def write_archive(params: PhantomParams, out_dir: Path) -> None:
    """Write the phantom in the public archive's layout, atomically.

    `<out_dir>/kaggle_3m/<patient>/<patient>_<slice>.tif` (RGB: pre, FLAIR, post) and `..._mask.tif` (0 or 255), slices
    numbered from 1 without padding, and `kaggle_3m/data.csv` with a row per patient.

    Args:
        params: What to generate.
        out_dir: Replaced as a whole.
    """
    with atomic_dir(out_dir) as temporary:
        root = temporary / "kaggle_3m"
        root.mkdir()
        rows = ["Patient,institution,is_pre_real,is_post_real"]
        for patient in PhantomSource(params).read_patients():
            folder = root / patient.patient_id
            folder.mkdir()
            for item in patient.slices:
                _write_tiff(folder / item.name, item.image.transpose(1, 2, 0))
                if item.mask is not None:
                    _write_tiff(folder / item.name.replace(".tif", "_mask.tif"), item.mask * np.uint8(255))
            is_real = patient.is_sequence_real or (True, True, True)
            rows.append(f"{patient.patient_id},{patient.institution},{is_real[PRE]:d},{is_real[POST]:d}")
        (root / "data.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def _write_tiff(path: Path, pixels: NDArray[np.uint8]) -> None:
    Image.fromarray(np.ascontiguousarray(pixels)).save(
        path, compression="tiff_deflate", tiffinfo={PREDICTOR_TAG: HORIZONTAL}
    )
