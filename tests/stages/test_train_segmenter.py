import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from trainings import list_outputs, make_segmenter_params, write_artifacts
from tumor_cascade.data.cohort import iterate_volumes, read_rows
from tumor_cascade.data.split import write_splits
from tumor_cascade.data.volumes import volume_path
from tumor_cascade.errors import DataError
from tumor_cascade.models.scoring import score_masks
from tumor_cascade.product import read_network
from tumor_cascade.stages.train_segmenter import train_segmenter
from tumor_cascade.storage import hash_file
from tumor_cascade.training.published_weights import fetch_imagenet, read_weights


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    monkeypatch.setenv("TUMOR_CASCADE_NUM_THREADS", "1")
    monkeypatch.setenv("TUMOR_CASCADE_DEVICE", "cpu")
    monkeypatch.setenv("TUMOR_CASCADE_CHECKPOINTS", str(tmp_path / "checkpoints"))
    return write_artifacts(tmp_path / "data")


def train_into(folder: Path, data: dict[str, Path], fold: int = 0, **changes: Any) -> dict[str, Any]:
    """Train and return the network's content."""
    train_segmenter(make_segmenter_params(**changes), fold=fold, **data, **list_outputs(folder, "segmenter"))
    return json.loads((folder / "segmenter" / "content.json").read_text())


def hash_files(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): hash_file(path) for path in folder.rglob("*") if path.is_file()}


def test_train_segmenter__writes_network_report_and_metrics(data: dict[str, Path], tmp_path: Path) -> None:
    train_into(tmp_path / "out", data)
    assert set(hash_files(tmp_path / "out")) == {
        *(f"segmenter/{name}" for name in ("weights.safetensors", "config.json", "content.json")),
        *(f"report/{name}" for name in ("curves.csv", "curves.png")),
        "metrics.json",
    }
    curves = pd.read_csv(tmp_path / "out" / "report" / "curves.csv")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert curves["epoch"].tolist() == [0, 1, 2]
    assert set(metrics) == {
        *(f"segmenter/{split}_{name}" for split in ("train", "val") for name in ("loss", "dice")),
        "segmenter/best_epoch",
        "segmenter/num_epochs",
    }
    best = curves.loc[metrics["segmenter/best_epoch"]]
    assert metrics["segmenter/val_dice"] == pytest.approx(best["val_dice"], rel=1e-5) == curves["val_dice"].max()


def test_train_segmenter__network_gives_the_metrics_again(data: dict[str, Path], tmp_path: Path) -> None:
    train_into(tmp_path / "out", data, max_epochs=5, early_stopping_patience=5)
    scoring, config = read_network(tmp_path / "out" / "segmenter")
    assert config["fold"] == 0 and config["protocol"] == "patient_level" and not config["is_leaky"]
    rows = read_rows(data["manifest"], data["splits"])
    scores = []
    for _, volume in iterate_volumes(data["slices"], rows[rows["fold"] == 0]):
        with torch.inference_mode():
            answer = score_masks(scoring, torch.from_numpy(volume.images), np.arange(8), has_flip_averaging=False)
            found = answer.mask_probabilities > 0.5
        assert volume.masks is not None
        scores.append(2 * (found & (volume.masks == 1)).sum() / (found.sum() + volume.masks.sum()))
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["segmenter/val_dice"] == pytest.approx(np.mean(scores), abs=1e-3)
    assert metrics["segmenter/val_dice"] > 0.5


def test_train_segmenter__two_runs_in_two_places_write_the_same_bytes(
    data: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_into(tmp_path / "first", data, ema_decay=0.9)
    monkeypatch.setenv("TUMOR_CASCADE_CHECKPOINTS", str(tmp_path / "elsewhere"))
    train_into(tmp_path / "second" / "deep", write_artifacts(tmp_path / "copy"), ema_decay=0.9)
    assert hash_files(tmp_path / "first") == hash_files(tmp_path / "second" / "deep")
    assert str(tmp_path).encode() not in b"".join(
        path.read_bytes() for path in (tmp_path / "first").rglob("*") if path.is_file()
    )


def test_train_segmenter__finished_training_is_not_run_again(data: dict[str, Path], tmp_path: Path) -> None:
    train_into(tmp_path / "out", data)
    before = hash_files(tmp_path / "out")
    (checkpoint,) = (tmp_path / "checkpoints").glob("train_segmenter/*/last.ckpt")
    modified = checkpoint.stat().st_mtime_ns
    train_into(tmp_path / "out", data)
    assert hash_files(tmp_path / "out") == before
    assert checkpoint.stat().st_mtime_ns == modified


def test_train_segmenter__other_content_other_checkpoint(data: dict[str, Path], tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [{}, {"seed": 2}, {"fold": 1}, {"fn_weight": 0.8}]
    contents = [train_into(tmp_path / str(i), data, max_epochs=1, **change) for i, change in enumerate(changes)]
    ids = [content["content_id"] for content in contents]
    assert len(set(ids)) == 4
    checkpoints = {path.parent.name for path in (tmp_path / "checkpoints").glob("*/*/last.ckpt")}
    assert checkpoints == {content_id[:16] for content_id in ids}
    weights = [hash_file(tmp_path / str(i) / "segmenter" / "weights.safetensors") for i in range(4)]
    assert len(set(weights)) == 4


def test_train_segmenter__test_patients_have_no_influence(data: dict[str, Path], tmp_path: Path) -> None:
    # A pixel of a test patient could be wrong and nobody in training would look at it.
    train_into(tmp_path / "first", data, max_epochs=1)
    rows = read_rows(data["manifest"], data["splits"])
    for patient in rows.loc[rows["partition"] == "test", "patient_id"].unique():
        volume_path(data["slices"], patient).unlink()
    (checkpoint,) = (tmp_path / "checkpoints").glob("*/*/last.ckpt")
    checkpoint.unlink()
    train_into(tmp_path / "second", data, max_epochs=1)
    assert hash_files(tmp_path / "first") == hash_files(tmp_path / "second")


@pytest.mark.parametrize(
    "changes",
    [
        {"training_slices": "positive"},
        {"slice_head_weight": 0.3, "deep_supervision_weight": 0.5},
        {"encoder": "efficientnet_lite0", "widths": [4, 4, 8, 8, 16], "precision": "bf16-mixed"},
        {"encoder": "resnet50", "widths": [4, 4, 8, 8, 16], "slice_head_weight": 0.3, "batch_size": 16},
        {"has_neighbor_slices": True},
        {"normalization": "slice_zscore", "augmentation": {"max_gamma_change": 0.0}},
        {"normalization": "volume_percentile", "precision": "bf16-mixed"},
        {"loss": "focal_tversky", "reduction": "per_batch", "optimizer": "adam", "adam_epsilon": 0.1},
        {"input_size_px": 48, "gradient_clip_norm": 0.0, "monitor": "loss", "batch_size": 1},
    ],
)
def test_train_segmenter__every_kind_of_training_runs(
    data: dict[str, Path], tmp_path: Path, changes: dict[str, Any]
) -> None:
    defaults = make_segmenter_params().model_dump()
    if "augmentation" in changes:
        changes = {**changes, "augmentation": {**defaults["augmentation"], **changes["augmentation"]}}
    train_into(tmp_path / "out", data, max_epochs=1, **changes)
    scoring, config = read_network(tmp_path / "out" / "segmenter")
    assert config["architecture"]["in_channels"] == scoring.preprocessing.num_channels
    assert scoring.preprocessing.normalization == changes.get("normalization", defaults["normalization"])


def test_train_segmenter__damaged_data_leave_no_output(data: dict[str, Path], tmp_path: Path) -> None:
    volume_path(data["slices"], "AA_0000").write_bytes(b"")
    with pytest.raises(DataError, match=r"AA_0000\.npy cannot be read"):
        train_into(tmp_path / "out", data)
    assert not (tmp_path / "out").exists()


def test_train_segmenter__a_fold_that_the_split_does_not_have(data: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="fold 4 is none of the split's, 0 to 1"):
        train_into(tmp_path / "out", data, fold=4)


def test_train_segmenter__slice_level_split_is_marked(data: dict[str, Path], tmp_path: Path) -> None:
    rows = read_rows(data["manifest"], data["splits"])
    fold = np.where(rows["slice_index"] % 4 == 3, -1, rows["slice_index"] % 2)
    splits = rows[["patient_id", "slice_index"]].assign(
        partition=np.where(fold < 0, "test", "development"), fold=fold.astype(np.int32)
    )
    write_splits(data["splits"], splits, {"protocol": "slice_level", "is_leaky": True})
    train_into(tmp_path / "out", data, max_epochs=1)
    config = json.loads((tmp_path / "out" / "segmenter" / "config.json").read_text())
    assert config["protocol"] == "slice_level" and config["is_leaky"]
    assert len(config["training_patients"]) == len(config["validation_patients"]) == 10


LITE0 = {"encoder": "efficientnet_lite0", "widths": [4, 4, 8, 8, 16], "max_epochs": 1}


def test_train_segmenter__starts_from_imagenet(data: dict[str, Path], tmp_path: Path) -> None:
    still = {**LITE0, "learning_rate": 1e-30, "weight_decay": 0.0}
    content = train_into(tmp_path / "out", data, initialization="imagenet", has_neighbor_slices=True, **still)
    assert content["params"]["initialization_sha256"].startswith("579344248a93e230")
    trained = load_file(tmp_path / "out" / "segmenter" / "weights.safetensors")
    first = read_weights(fetch_imagenet("efficientnet_lite0")[0])["_conv_stem.weight"]
    torch.testing.assert_close(trained["encoder._conv_stem.weight"][:, :3], first * 3 / 5)


def test_train_segmenter__starts_from_the_same_folds_network_alone(data: dict[str, Path], tmp_path: Path) -> None:
    train_into(tmp_path / "fold-0", data, **LITE0)
    path = str(tmp_path / "fold-0" / "segmenter")
    train_into(tmp_path / "again", data, initialization=path.replace("fold-0", "fold-{fold}"), **LITE0)
    with pytest.raises(DataError, match="segmenter have seen 4 of this fold's validation and test patients"):
        train_into(tmp_path / "other", data, fold=1, initialization=path, **LITE0)
    assert not (tmp_path / "other").exists()


def test_train_segmenter__slice_head_is_measured(data: dict[str, Path], tmp_path: Path) -> None:
    train_into(tmp_path / "out", data, max_epochs=1, slice_head_weight=0.5, deep_supervision_weight=0.5)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    scoring, config = read_network(tmp_path / "out" / "segmenter")
    assert 0 <= metrics["segmenter/val_slice_auroc"] <= 1
    assert config["architecture"] == {
        "in_channels": 3,
        "widths": [8, 16, 32],
        "encoder": "residual",
        "has_slice_head": True,
        "has_deep_supervision": True,
    }
    masks, slices = scoring.network.forward_slices(torch.rand(2, 3, 32, 32))  # type: ignore[operator]
    assert masks.shape == (2, 1, 32, 32) and slices.shape == (2,)
