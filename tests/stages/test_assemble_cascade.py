import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from trainings import TrainedFolds, write_artifacts
from tumor_cascade.data.cohort import iterate_volumes, read_rows
from tumor_cascade.data.manifest import read_manifest, write_manifest
from tumor_cascade.data.split import read_splits, write_splits
from tumor_cascade.errors import DataError
from tumor_cascade.models.cascade import Cascade, VolumePrediction
from tumor_cascade.params import AssembleCascadeParams
from tumor_cascade.product import load_cascade, load_fold_cascade
from tumor_cascade.stages.assemble_cascade import assemble_cascade, check_networks
from tumor_cascade.storage import hash_file, hash_path

PARAMS: dict[str, Any] = {
    "folds": [0],
    "gate": "classifier",
    "gate_target_sensitivity": 0.95,
    "gate_smoothing_slices": 0.5,
    "slice_score": "combined",
    "target_sensitivity": 0.9,
    "mask_thresholds": [0.3, 0.5, 0.7],
    "has_flip_averaging": True,
    "postprocessing": {"min_component_voxels": 4, "has_only_largest_component": False},
}


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUMOR_CASCADE_DEVICE", "cpu")


@pytest.fixture
def own(trained: TrainedFolds, tmp_path: Path) -> TrainedFolds:
    """Return a copy of the trained folds that a test may change."""
    folder = tmp_path / "own"
    for path in (trained.classifier, trained.segmenter):
        shutil.copytree(path, folder / path.name)
    data = {noun: folder / path.name for noun, path in trained.data.items()}
    for noun, path in trained.data.items():
        (shutil.copytree if path.is_dir() else shutil.copy)(path, data[noun])
    return TrainedFolds(data, folder / trained.classifier.name, folder / trained.segmenter.name)


def assemble(networks: TrainedFolds, out: Path, **changes: Any) -> dict[str, Any]:
    """Assemble into a folder and return the metrics."""
    assemble_cascade(
        AssembleCascadeParams(**{**PARAMS, **changes}),
        classifier=networks.classifier,
        segmenter=networks.segmenter,
        **networks.data,
        out_cascade=out / "cascade",
        out_report=out / "report",
        out_metrics=out / "metrics.json",
    )
    return json.loads((out / "metrics.json").read_text())


def hash_files(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): hash_file(path) for path in folder.rglob("*") if path.is_file()}


def test_assemble_cascade__product_loads_and_predicts(trained: TrainedFolds, tmp_path: Path) -> None:
    metrics = assemble(trained, tmp_path)
    cascade = load_cascade(tmp_path / "cascade")
    assert cascade.settings.temperature == metrics["cascade/temperature"]
    assert cascade.settings.gate_threshold == metrics["cascade/gate_threshold"]
    assert cascade.settings.decision_threshold == metrics["cascade/decision_threshold"]
    assert cascade.settings.smoothing_slices == 0.5
    assert cascade.settings.mask_threshold == metrics["cascade/mask_threshold"]
    assert cascade.settings.has_flip_averaging and cascade.settings.min_component_voxels == 4
    rows = read_rows(trained.data["manifest"], trained.data["splits"])
    for _, volume in iterate_volumes(trained.data["slices"], rows[rows["partition"] == "test"]):
        prediction = cascade.predict_volume(volume.images)
        assert prediction.masks.shape == volume.images[:, 0].shape
    product = json.loads((tmp_path / "cascade" / "cascade.json").read_text())
    assert (product["protocol"], product["is_leaky"], product["has_patient_ids"]) == ("patient_level", False, True)


def test_assemble_cascade__holds_no_pickle(trained: TrainedFolds, tmp_path: Path) -> None:
    assemble(trained, tmp_path)
    files = [path for path in (tmp_path / "cascade").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    # A pickle starts with its protocol (80 02 to 80 05), a torch file with a zip's PK.
    assert not [path for path in files if path.read_bytes()[:1] == b"\x80" or path.read_bytes()[:2] == b"PK"]


def test_assemble_cascade__two_runs_in_two_places_write_the_same_bytes(
    trained: TrainedFolds, own: TrainedFolds, tmp_path: Path
) -> None:
    assemble(trained, tmp_path / "first", folds=[0, 1])
    assemble(own, tmp_path / "second" / "deep", folds=[0, 1])
    assert hash_files(tmp_path / "first") == hash_files(tmp_path / "second" / "deep")
    assert str(tmp_path).encode() not in b"".join(
        path.read_bytes() for path in (tmp_path / "first").rglob("*") if path.is_file()
    )


def test_assemble_cascade__what_is_not_asked_for_has_no_influence(
    trained: TrainedFolds, own: TrainedFolds, tmp_path: Path
) -> None:
    assemble(trained, tmp_path / "first")
    # Another fold less, what a killed write left, and a report more.
    shutil.rmtree(own.segmenter / "fold-1")
    shutil.copytree(own.classifier / "fold-1" / "classifier", own.classifier / "fold-0" / ".classifier.abc.tmp")
    (own.classifier / "fold-0" / "report" / "notes.txt").write_text("remark")
    assemble(own, tmp_path / "second")
    assert hash_files(tmp_path / "first") == hash_files(tmp_path / "second")


def predict_validation(
    trained: TrainedFolds, cascade: Cascade, fold: int = 0
) -> Iterator[tuple[Any, VolumePrediction]]:
    """Yield the masks of a fold's validation patients and what a cascade says of them."""
    rows = read_rows(trained.data["manifest"], trained.data["splits"])
    for _, volume in iterate_volumes(trained.data["slices"], rows[rows["fold"] == fold]):
        assert volume.masks is not None
        yield volume.masks.astype(bool), cascade.predict_volume(volume.images)


@pytest.mark.parametrize("slice_score", ["classifier", "segmenter", "combined"])
def test_assemble_cascade__product_keeps_what_was_promised(
    trained: TrainedFolds, tmp_path: Path, slice_score: str
) -> None:
    # A threshold is the probability of one validation slice: the product must call this very slice positive.
    for target in (0.5, 0.9, 1.0):
        gate = {"gate_target_sensitivity": max(target, 0.95), "slice_score": slice_score}
        metrics = assemble(trained, tmp_path, target_sensitivity=target, **gate)
        found = list(predict_validation(trained, load_cascade(tmp_path / "cascade")))
        has_tumor = np.concatenate([masks.any(axis=(1, 2)) for masks, _ in found])
        is_open = np.concatenate([prediction.gate_is_open for _, prediction in found])
        is_positive = np.concatenate([prediction.is_positive for _, prediction in found])
        assert is_open[has_tumor].mean() >= max(target, 0.95)
        assert is_positive[has_tumor].mean() == metrics["cascade/val_sensitivity"] >= target
        assert 1 - is_positive[~has_tumor].mean() == pytest.approx(metrics["cascade/val_specificity"])
        assert is_open.mean() == pytest.approx(metrics["cascade/val_segmented_share"])


def test_assemble_cascade__mask_threshold_is_the_best_of_those_offered(trained: TrainedFolds, tmp_path: Path) -> None:
    metrics = assemble(trained, tmp_path)
    table = pd.read_csv(tmp_path / "report" / "mask_thresholds.csv")
    assert table["mask_threshold"].tolist() == [0.3, 0.5, 0.7]
    assert metrics["segmenter/val_volume_dice"] == pytest.approx(table["val_volume_dice"].max(), abs=1e-5)
    chosen = table.loc[table["mask_threshold"] == metrics["cascade/mask_threshold"], "val_volume_dice"]
    assert chosen.item() == pytest.approx(table["val_volume_dice"].max(), abs=1e-5)


def test_assemble_cascade__val_dice_is_that_of_the_product(trained: TrainedFolds, tmp_path: Path) -> None:
    # Without post-processing: a component that the gate cuts in two may lose its smaller part in use alone.
    plain = {"min_component_voxels": 0, "has_only_largest_component": False}
    metrics = assemble(trained, tmp_path, postprocessing=plain)
    assert metrics["cascade/val_volume_dice"] >= metrics["segmenter/val_volume_dice"]
    found = predict_validation(trained, load_cascade(tmp_path / "cascade"))
    pairs = [(truth, prediction.masks) for truth, prediction in found]
    dice = [2 * (truth & masks).sum() / (truth.sum() + masks.sum()) for truth, masks in pairs]
    assert metrics["cascade/val_volume_dice"] == pytest.approx(np.mean(dice), abs=1e-6)


def test_assemble_cascade__every_number_is_out_of_fold(trained: TrainedFolds, tmp_path: Path) -> None:
    rows, tables = read_rows(trained.data["manifest"], trained.data["splits"]), {}
    for folds in ((0,), (1,), (0, 1)):
        assemble(trained, tmp_path, folds=list(folds))
        table = tables[folds] = pd.read_csv(tmp_path / "report" / "slices.csv")
        expected = rows[rows["fold"].isin(folds)]
        assert len(table) == len(expected)
        assert set(table["patient_id"]) == set(expected["patient_id"])
        assert not table.duplicated(["patient_id", "slice_index"]).any()
    # In the ensemble each slice keeps the scores of the networks that have not learned from its patient.
    both = pd.concat([tables[0,], tables[1,]]).set_index(["patient_id", "slice_index"]).sort_index()
    together = tables[0, 1].set_index(["patient_id", "slice_index"]).sort_index()
    for name in ("classifier_logit", "segmenter_score"):
        pd.testing.assert_series_equal(together[name], both[name])


def test_assemble_cascade__folds_are_judged_by_settings_of_the_others(trained: TrainedFolds, tmp_path: Path) -> None:
    alone = {}
    for fold in (0, 1):
        assemble(trained, tmp_path, folds=[fold])
        product = json.loads((tmp_path / "cascade" / "cascade.json").read_text())
        alone[fold] = product["settings"]
        assert product["out_of_fold_settings"] == {str(fold): alone[fold]}
        assert product["is_cross_fitted"] is False
    assemble(trained, tmp_path, folds=[0, 1])
    product = json.loads((tmp_path / "cascade" / "cascade.json").read_text())
    assert product["is_cross_fitted"] is True
    assert product["out_of_fold_settings"] == {"0": alone[1], "1": alone[0]}
    table = pd.read_csv(tmp_path / "report" / "slices.csv")
    for fold in (0, 1):
        found = predict_validation(trained, load_fold_cascade(tmp_path / "cascade", fold), fold)
        decisions = np.concatenate([prediction.is_positive for _, prediction in found])
        np.testing.assert_array_equal(table.loc[table["fold"] == fold, "is_positive"], decisions)


def test_assemble_cascade__ensemble_holds_the_networks_of_all_folds(trained: TrainedFolds, tmp_path: Path) -> None:
    assemble(trained, tmp_path, folds=[1, 0])
    cascade = load_cascade(tmp_path / "cascade")
    assert len(cascade.classifiers) == len(cascade.segmenters) == 2


def test_assemble_cascade__no_gate(trained: TrainedFolds, tmp_path: Path) -> None:
    metrics = assemble(trained, tmp_path, gate="none")
    assert metrics["cascade/gate_threshold"] == 0
    assert metrics["cascade/val_segmented_share"] == 1


def test_assemble_cascade__argmax_gate_decides_alone(trained: TrainedFolds, tmp_path: Path) -> None:
    study = {"gate": "argmax", "slice_score": "classifier", "gate_smoothing_slices": 0.0, "mask_thresholds": [0.5]}
    metrics = assemble(trained, tmp_path, **study)
    assert (metrics["cascade/temperature"], metrics["cascade/gate_threshold"]) == (1, 0.5)
    table = pd.read_csv(tmp_path / "report" / "slices.csv")
    for name in ("gate_is_open", "is_positive"):
        np.testing.assert_array_equal(table[name], table["classifier_logit"] > 0)


def test_assemble_cascade__reference_is_of_development_alone(trained: TrainedFolds, tmp_path: Path) -> None:
    assemble(trained, tmp_path)
    reference = json.loads((tmp_path / "cascade" / "cascade.json").read_text())["reference"]
    assert reference["num_slices"] == 64 and reference["positive_rate"] == 3 / 8  # 8 of 10 patients, 3 of 8 slices
    assert set(reference["quantiles"]) >= {"flair_mean", "post_p99", "foreground_share"}
    assert set(reference["quantiles"]["flair_mean"]) == {"0.01", "0.25", "0.5", "0.75", "0.99"}


def test_assemble_cascade__missing_fold(trained: TrainedFolds, own: TrainedFolds, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train_classifier has no network of fold 2, 3; train it, or change"):
        assemble(trained, tmp_path / "out", folds=[0, 2, 3])
    shutil.rmtree(own.segmenter / "fold-1")
    with pytest.raises(DataError, match="train_segmenter has no network of fold 1"):
        assemble(own, tmp_path / "out", folds=[0, 1])
    assert not (tmp_path / "out").exists()


def test_assemble_cascade__networks_of_another_split(own: TrainedFolds, tmp_path: Path) -> None:
    # Dealt otherwise, patients that a network has learned from would judge it.
    splits = read_splits(own.data["splits"])
    splits.loc[splits["fold"] >= 0, "fold"] = 1 - splits["fold"]
    write_splits(own.data["splits"], splits, {"protocol": "patient_level", "is_leaky": False})
    with pytest.raises(DataError) as raised:
        assemble(own, tmp_path / "out", folds=[0, 1])
    assert raised.value.violations == [
        f"{role}/fold-{fold} was trained on other splits than today's. Train it again."
        for role in ("classifiers", "segmenters")
        for fold in (0, 1)
    ]
    assert not (tmp_path / "out").exists()


def test_assemble_cascade__networks_of_other_data(own: TrainedFolds, tmp_path: Path) -> None:
    rows = read_manifest(own.data["manifest"])
    write_manifest(rows.assign(spacing_mm=1.0), own.data["manifest"])
    with pytest.raises(DataError, match="classifiers/fold-0 was trained on other manifest than today's"):
        assemble(own, tmp_path / "out")


def test_assemble_cascade__network_in_the_folder_of_another_fold(own: TrainedFolds, tmp_path: Path) -> None:
    shutil.rmtree(own.segmenter / "fold-0")
    shutil.copytree(own.segmenter / "fold-1", own.segmenter / "fold-0")
    with pytest.raises(DataError, match="segmenters/fold-0 was trained for fold 1; its folder must say so"):
        assemble(own, tmp_path / "out")


def test_check_networks__lets_fitting_networks_pass(trained: TrainedFolds) -> None:
    digests = {noun: hash_path(trained.data[noun]) for noun in ("manifest", "splits")}
    roles = {
        "classifiers": trained.classifier / "fold-0/classifier",
        "segmenters": trained.segmenter / "fold-0/segmenter",
    }
    check_networks({f"{role}/fold-0": path for role, path in roles.items()}, digests)


def test_assemble_cascade__networks_in_each_other_s_place(trained: TrainedFolds, tmp_path: Path) -> None:
    swapped = TrainedFolds(trained.data, classifier=trained.segmenter, segmenter=trained.classifier)
    with pytest.raises(DataError) as raised:
        assemble(swapped, tmp_path / "out")
    assert raised.value.violations == [
        "classifiers/fold-0 is a segmenter; must be a classifier. Name what train_classifier wrote in --classifier.",
        "segmenters/fold-0 is a classifier; must be a segmenter. Name what train_segmenter wrote in --segmenter.",
    ]


def test_assemble_cascade__damaged_network_leaves_what_was_there(own: TrainedFolds, tmp_path: Path) -> None:
    assemble(own, tmp_path / "out")
    before = hash_files(tmp_path / "out")
    (own.segmenter / "fold-0" / "segmenter" / "weights.safetensors").write_bytes(b"")
    with pytest.raises(DataError, match="network segmenter: cannot be loaded"):
        assemble(own, tmp_path / "out")
    assert hash_files(tmp_path / "out") == before


def test_assemble_cascade__leaky_split_marks_the_product(own: TrainedFolds, tmp_path: Path) -> None:
    facts = own.data["splits"] / "splits.json"
    facts.write_text(json.dumps({"protocol": "slice_level", "is_leaky": True}))
    with pytest.raises(DataError, match="trained on other splits"):  # a mark cannot be put on or taken off afterwards
        assemble(own, tmp_path / "out")


def test_write_artifacts__is_deterministic(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_artifacts(tmp_path / name)
    assert hash_files(tmp_path / "a") == hash_files(tmp_path / "b")
