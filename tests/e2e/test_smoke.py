"""What the whole pipeline on the `smoke` preset must reach, and bugs that it must show."""

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from tumor_cascade.data.cohort import iterate_volumes, read_rows
from tumor_cascade.data.split import TEST
from tumor_cascade.models.cascade import Cascade
from tumor_cascade.product import load_cascade
from workplaces import Workplace

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

MARGIN = 0.2  # volume Dice by which the cascade has to beat the best threshold on FLAIR


@pytest.fixture(scope="module")
def cascade(smoke: Workplace) -> Cascade:
    return load_cascade(smoke.folder / "artifacts/assemble_cascade/cascade")


@pytest.fixture(scope="module")
def volumes(smoke: Workplace) -> list[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
    """Images and masks of the test patients."""
    artifacts = smoke.folder / "artifacts"
    rows = read_rows(artifacts / "ingest_data/manifest.parquet", artifacts / "split_data/splits")
    found = iterate_volumes(artifacts / "ingest_data/slices", rows[rows["partition"] == TEST])
    return [(volume.images, volume.masks.astype(bool)) for _, volume in found if volume.masks is not None]


def score(masks: list[NDArray[np.bool_]], truths: list[NDArray[np.bool_]]) -> float:
    """Mean volume Dice."""
    pairs = zip(masks, truths, strict=True)
    return float(np.mean([2 * (mask & truth).sum() / (mask.sum() + truth.sum()) for mask, truth in pairs]))


@pytest.fixture(scope="module")
def threshold_dice(volumes: list[tuple[NDArray[np.uint8], NDArray[np.bool_]]]) -> float:
    """Best mean volume Dice of one threshold on FLAIR, chosen on the very patients it is scored on."""
    truths = [masks for _, masks in volumes]
    return max(score([images[:, 1] >= level for images, _ in volumes], truths) for level in range(1, 256))


def test_smoke__beats_the_best_threshold(smoke: Workplace, threshold_dice: float) -> None:
    reached = smoke.read_json("artifacts/evaluate_cascade/metrics.json")["cascade/test_volume_dice"]
    print(f"cascade {reached:.3f}, best threshold on FLAIR {threshold_dice:.3f}")
    assert threshold_dice < 0.4
    assert reached > threshold_dice + MARGIN


def test_smoke__gate_is_better_than_chance(smoke: Workplace) -> None:
    assert smoke.read_json("artifacts/evaluate_cascade/metrics.json")["cascade/test_auroc"] > 0.65


def test_smoke__masks_shifted_by_8_px_are_seen(
    cascade: Cascade, volumes: list[tuple[NDArray[np.uint8], NDArray[np.bool_]]], threshold_dice: float
) -> None:
    predicted = [cascade.predict_volume(images).masks for images, _ in volumes]
    truths = [masks for _, masks in volumes]
    shifted = [np.roll(masks, 8, axis=2) for masks in predicted]
    assert score(predicted, truths) > threshold_dice + MARGIN > score(shifted, truths)


def test_smoke__swapped_sequences_are_seen(
    cascade: Cascade, volumes: list[tuple[NDArray[np.uint8], NDArray[np.bool_]]], threshold_dice: float
) -> None:
    truths = [masks for _, masks in volumes]
    swapped = [cascade.predict_volume(images[:, [1, 0, 2]]).masks for images, _ in volumes]
    assert score(swapped, truths) < threshold_dice + MARGIN


def test_smoke__metrics_are_those_of_the_product(
    smoke: Workplace, cascade: Cascade, volumes: list[tuple[NDArray[np.uint8], NDArray[np.bool_]]]
) -> None:
    predicted = [cascade.predict_volume(images).masks for images, _ in volumes]
    reported = smoke.read_json("artifacts/evaluate_cascade/metrics.json")["cascade/test_volume_dice"]
    assert score(predicted, [masks for _, masks in volumes]) == pytest.approx(reported, abs=1e-3)


def test_smoke__report_and_product_are_complete(smoke: Workplace) -> None:
    report = smoke.folder / "artifacts/evaluate_cascade/report"
    assert "Research use only" in (report / "report.html").read_text(encoding="utf-8")
    table = pd.read_csv(report / "per_patient.csv")
    assert len(table) == smoke.read_json("artifacts/evaluate_cascade/metrics.json")["cascade/test_num_patients"]
    product = smoke.folder / "artifacts/assemble_cascade/cascade"
    assert {path.suffix for path in product.rglob("*") if path.is_file()} == {".json", ".safetensors"}
