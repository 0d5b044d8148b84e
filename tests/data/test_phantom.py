from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from tumor_cascade.data.phantom import PhantomSource, find_real_sequences, generate_patient, name_patient, write_archive
from tumor_cascade.data.phantom_fields import sample_field, soften
from tumor_cascade.data.preprocessing import normalize_volume
from tumor_cascade.params import PhantomParams, parse_params, read_yaml

PRE, FLAIR, POST = range(3)
TINY = PhantomParams(num_patients=4, num_slices=8, image_size_px=48, seed=3)
SMOKE = PhantomParams(num_patients=12, num_slices=16, image_size_px=64, seed=20261123)
DEFAULT = parse_params(read_yaml(Path(__file__).parents[2] / "params.yaml"), "params.yaml").ingest_data.phantom

Cohort = dict[int, tuple[NDArray[Any], NDArray[Any]]]  # patient number -> images (Z, 3, H, W), masks (Z, H, W)
both_settings = pytest.mark.parametrize("params", [DEFAULT, SMOKE], ids=["default", "smoke"])


@cache
def generate_cohort(params: PhantomParams) -> Cohort:
    cohort = {}
    for patient in PhantomSource(params).read_patients():
        images = np.stack([one.image for one in patient.slices])
        masks = np.stack([one.mask for one in patient.slices if one.mask is not None])
        assert images.dtype == masks.dtype == np.uint8
        cohort[int(patient.patient_id[-4:])] = images, masks.astype(bool)
    return cohort


def find_best_threshold_dice(values: list[NDArray[Any]], masks: list[NDArray[Any]]) -> tuple[float, float]:
    """Best Dice that one threshold on 0..255 reaches over all volumes: from pooled counts, and as mean over volumes."""
    counts = [
        [np.bincount(voxels, minlength=256)[::-1].cumsum() for voxels in (volume[mask], volume.ravel())]
        for volume, mask in zip(values, masks, strict=True)
    ]
    hits, found = np.array(counts).transpose(1, 0, 2)  # (patients, thresholds), from 255 down
    truth = np.array([[mask.sum()] for mask in masks])
    pooled, per_volume = 2 * hits.sum(0) / (found.sum(0) + truth.sum()), 2 * hits / (found + truth)
    return float(pooled.max()), float(per_volume.mean(0).max())


def test_find_best_threshold_dice__known() -> None:
    # Thresholds at 9 and at 5: 1 of 1 found of 2 tumor pixels, Dice 2/3; 2 of 3 found of 2, Dice 4/5. At 0: 4/6.
    assert find_best_threshold_dice([np.array([9, 5, 5, 0])], [np.array([1, 1, 0, 0], bool)]) == (0.8, 0.8)


def test_generate_patient__alone_or_in_sequence() -> None:
    for patient in PhantomSource(TINY).read_patients():
        alone = generate_patient(TINY, int(patient.patient_id[-4:]))
        more = generate_patient(TINY.model_copy(update={"num_patients": 99}), int(patient.patient_id[-4:]))
        for other in (alone, more):
            assert (other.patient_id, other.institution) == (patient.patient_id, patient.institution)
            assert [(one.slice_number, one.name) for one in other.slices] == [
                (one.slice_number, one.name) for one in patient.slices
            ]
            for one, same in zip(patient.slices, other.slices, strict=True):
                assert np.array_equal(one.image, same.image)
                assert one.mask is not None and same.mask is not None and np.array_equal(one.mask, same.mask)


def test_generate_patient__other_seed() -> None:
    one, other = generate_patient(TINY, 1), generate_patient(TINY.model_copy(update={"seed": 4}), 1)
    assert one.slices[4].image.tobytes() != other.slices[4].image.tobytes()


def test_read_patients__order_and_names() -> None:
    source = PhantomSource(TINY)
    patients = list(source.read_patients())
    assert source.has_patient_ids and source.count_patients() == len(patients) == 4
    # Institutions take turns as PA, PB, PA, PC, PD, from patient 0; patients count from 1.
    assert [one.patient_id for one in patients] == [
        "PHANTOM_PA_0002",
        "PHANTOM_PB_0001",
        "PHANTOM_PC_0003",
        "PHANTOM_PD_0004",
    ]
    assert [one.institution for one in patients] == ["PA", "PB", "PC", "PD"]
    names = [one.name for one in patients[0].slices]
    assert names == [f"PHANTOM_PA_0002_{number}.tif" for number in range(1, len(names) + 1)]
    assert patients[0].slices[0].image.shape == (3, 48, 48)


def test_read_patients__numbers_of_slices() -> None:
    counts = [len(images) for images, _ in generate_cohort(DEFAULT).values()]
    # Uniform within 20 % of 24: 19 to 29 slices, on average 24 (standard error 0.4 over 48 patients).
    assert min(counts) >= 19 and max(counts) <= 29 and len(set(counts)) > 5
    assert np.mean(counts) == pytest.approx(24, abs=1.2)


@both_settings
def test_generate_patient__one_tumor(params: PhantomParams) -> None:
    for images, masks in generate_cohort(params).values():
        assert images.shape[0] == masks.shape[0]
        positive = np.flatnonzero(masks.any(axis=(1, 2)))
        assert len(positive) >= 3 and positive[0] > 0
        assert len(positive) == positive[-1] - positive[0] + 1  # one contiguous run
        assert ndimage.label(masks, np.ones((3, 3, 3)))[1] == 1
        assert not masks[:, [0, -1]].any() and not masks[:, :, [0, -1]].any()


@both_settings
def test_generate_patient__cohort_statistics(params: PhantomParams) -> None:
    masks = [masks for _, masks in generate_cohort(params).values()]
    areas = np.concatenate([one.sum(axis=(1, 2)) for one in masks])
    share = areas / params.image_size_px**2
    assert 0.25 <= (areas > 0).mean() <= 0.45
    assert 0.005 <= share.mean() <= 0.02
    # As shares of the image the archive's tenth and ninetieth percentile are 0.5 % and 7 %.
    assert np.percentile(share[areas > 0], 10) < 0.006 and np.percentile(share[areas > 0], 90) > 0.04
    assert areas[areas > 0].min() < 30


@both_settings
def test_generate_patient__one_threshold_is_not_enough(params: PhantomParams) -> None:
    images, masks = (list(part) for part in zip(*generate_cohort(params).values(), strict=True))
    raw = [one[:, FLAIR] for one in images]
    normalized = [
        (normalize_volume(torch.from_numpy(one), "volume_percentile").numpy()[:, FLAIR] * 255).astype(np.uint8)
        for one in images
    ]
    assert max(find_best_threshold_dice(raw, masks)) < 0.4
    assert max(find_best_threshold_dice(normalized, masks)) < 0.4


@both_settings
def test_generate_patient__slice_position_is_not_enough(params: PhantomParams) -> None:
    labels = [masks.any(axis=(1, 2)) for _, masks in generate_cohort(params).values()]
    has_tumor = np.concatenate(labels)
    bins = np.concatenate([np.arange(len(one)) * 10 // len(one) for one in labels])
    rates = np.array([has_tumor[bins == tenth].mean() for tenth in range(10)])  # of this very cohort: optimistic
    assert roc_auc_score(has_tumor, rates[bins]) < 0.85


def test_generate_patient__tumor_differs_from_its_surroundings() -> None:
    brighter, darker = [], []
    for number, (images, masks) in generate_cohort(DEFAULT).items():
        grown = ndimage.binary_dilation(masks, np.ones((1, 9, 9)))
        ring = grown & ~masks & (images[:, FLAIR] > 10)
        brighter.append(images[:, FLAIR][masks].mean() > images[:, FLAIR][ring].mean())
        if find_real_sequences(number)[PRE]:
            darker.append(images[:, PRE][masks].mean() < images[:, PRE][ring].mean())
    assert np.mean(brighter) > 0.9 and np.mean(darker) > 0.9


def test_generate_patient__head_on_black_background() -> None:
    for images, _ in generate_cohort(DEFAULT).values():
        assert images[:, :, :8, :8].mean() < 2 and np.median(images) == 0
        middle = images[len(images) // 2, FLAIR]
        assert 0.3 < (middle > 10).mean() < 0.7


def test_generate_patient__brightness_varies_between_patients() -> None:
    means = [images.mean() for images, _ in generate_cohort(DEFAULT).values()]
    assert max(means) > 3 * min(means) and max(means) < 60


def test_generate_patient__institutions_differ() -> None:
    contrast: dict[str, list[float]] = {}
    noise: dict[str, list[float]] = {}
    for number, (images, _) in generate_cohort(DEFAULT).items():
        institution = name_patient(number).split("_")[1]
        middle = images[len(images) // 2].astype(float)
        if find_real_sequences(number)[PRE]:
            low, high = np.percentile(middle[PRE][middle[PRE] > 10], [25, 75])
            contrast.setdefault(institution, []).append(high / low)
        flair = middle[FLAIR]
        steps = np.abs(np.diff(flair))[flair[:, 1:] > 10]
        noise.setdefault(institution, []).append(np.median(steps) / np.median(flair[flair > 10]))
    assert {name: len(ratios) for name, ratios in noise.items()} == {"PA": 19, "PB": 10, "PC": 10, "PD": 9}
    # Exponents on the pre-contrast signal: PB 0.7, PA 1.0, PC 1.3. Noise: PC 0.015, PA 0.020, PD 0.040.
    assert np.median(contrast["PB"]) < np.median(contrast["PA"]) < np.median(contrast["PC"])
    assert np.median(noise["PC"]) < np.median(noise["PA"]) < np.median(noise["PD"])


def test_find_real_sequences__one_in_sixteen_lacks_post() -> None:
    missing = {number: find_real_sequences(number) for number in range(1, 49) if not all(find_real_sequences(number))}
    assert missing == {5: (True, True, False), 21: (False, True, False), 37: (True, True, False)}


def test_generate_patient__missing_sequences_are_flair() -> None:
    for number, (images, _) in generate_cohort(DEFAULT).items():
        is_copy = tuple(np.array_equal(images[:, sequence], images[:, FLAIR]) for sequence in (PRE, POST))
        is_real = find_real_sequences(number)
        assert is_copy == (not is_real[PRE], not is_real[POST])
    assert generate_patient(SMOKE, 5).is_sequence_real == (True, True, False)


def test_write_archive__round_trip(tmp_path: Path) -> None:
    out = tmp_path / "raw"
    out.mkdir()
    (out / "old.txt").touch()
    write_archive(TINY, out)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]
    assert [path.name for path in out.iterdir()] == ["kaggle_3m"]
    names = {"data.csv"}
    for patient in PhantomSource(TINY).read_patients():
        folder = out / "kaggle_3m" / patient.patient_id
        names.add(folder.name)
        for one in patient.slices:
            with Image.open(folder / one.name) as image, Image.open(folder / f"{one.name[:-4]}_mask.tif") as mask:
                assert (image.mode, mask.mode, image.format) == ("RGB", "L", "TIFF")
                assert np.array_equal(np.asarray(image), one.image.transpose(1, 2, 0))
                assert one.mask is not None and np.array_equal(np.asarray(mask), one.mask * 255)
        assert len(list(folder.iterdir())) == 2 * len(patient.slices)
    assert {path.name for path in (out / "kaggle_3m").iterdir()} == names
    assert (out / "kaggle_3m" / "data.csv").read_text().splitlines()[:2] == [
        "Patient,institution,is_pre_real,is_post_real",
        "PHANTOM_PA_0002,PA,1,1",
    ]


def test_sample_field__same_at_any_resolution() -> None:
    coarse = sample_field(np.random.default_rng(1), (6, 20, 20), (3, 4))
    fine = sample_field(np.random.default_rng(1), (18, 60, 60), (3, 4))
    # With three voxels for one, every second of three fine voxels has the center of a coarse one.
    assert np.allclose(coarse, fine[1::3, 1::3, 1::3], atol=1e-5)


def test_sample_field__unit_variance() -> None:
    field = sample_field(np.random.default_rng(1), (24, 96, 96), (12, 40))
    assert field.dtype == np.float32
    # The standard error of the mean over 12 x 40 x 40 cells, with the spline's gain of 3, is 0.02.
    assert field.mean() == pytest.approx(0, abs=0.07) and field.std() == pytest.approx(1, abs=0.05)


def test_soften__half_on_the_surface() -> None:
    distance = np.array([-1.0, -0.5, 0.0, 0.25, 3.0], np.float32)
    assert soften(distance, 1.0).tolist() == [0.0, 0.0, 0.5, 0.75, 1.0]
