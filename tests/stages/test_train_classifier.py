import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_auc_score

from trainings import TrainedFolds, list_outputs, make_classifier_params, write_artifacts
from tumor_cascade.data.cohort import iterate_volumes, read_rows
from tumor_cascade.errors import DataError, ParamsError
from tumor_cascade.models.encoders import build_encoder
from tumor_cascade.models.scoring import score_slices
from tumor_cascade.product import read_network
from tumor_cascade.stages.train_classifier import train_classifier
from tumor_cascade.storage import hash_file
from tumor_cascade.training.published_weights import fetch_imagenet, read_weights


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    monkeypatch.setenv("TUMOR_CASCADE_NUM_THREADS", "1")
    monkeypatch.setenv("TUMOR_CASCADE_DEVICE", "cpu")
    monkeypatch.setenv("TUMOR_CASCADE_CHECKPOINTS", str(tmp_path / "checkpoints"))
    return write_artifacts(tmp_path / "data")


def train_into(folder: Path, data: dict[str, Path], **changes: Any) -> dict[str, Any]:
    """Train for an epoch that moves no learned weight; return the network's content."""
    still = {"max_epochs": 1, "learning_rate": 1e-30, "weight_decay": 0.0}
    params = make_classifier_params(**{**still, **changes})
    train_classifier(params, fold=0, **data, **list_outputs(folder, "classifier"))
    return json.loads((folder / "classifier" / "content.json").read_text())


def make_own_weights(path: Path, network: str = "resnet18", seed: int = 5) -> dict[str, torch.Tensor]:
    """Write the state dict of a backbone with torchvision's names."""
    torch.manual_seed(seed)
    weights = build_encoder(network, 3).state_dict()  # type: ignore[arg-type]
    weights["fc.weight"] = torch.zeros(1000, 512)
    save_file(weights, path)
    return weights


def test_train_classifier__network_gives_the_metrics_again(trained: TrainedFolds) -> None:
    folder = trained.classifier / "fold-0"
    scoring, config = read_network(folder / "classifier")
    assert config["architecture"] == {
        "in_channels": 3,
        "network": "resnet18",
        "dropout": 0.1,
        "head": "linear",
        "input_size_px": 32,
    }
    rows = read_rows(trained.data["manifest"], trained.data["splits"])
    rows = rows[rows["fold"] == 0]
    with torch.inference_mode():
        logits = [
            score_slices(scoring, torch.from_numpy(volume.images), has_flip_averaging=False)
            for _, volume in iterate_volumes(trained.data["slices"], rows)
        ]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["classifier/val_auroc"] == pytest.approx(
        roc_auc_score(rows["has_tumor"], np.concatenate(logits)), abs=0.02
    )
    names = {f"classifier/{split}_{name}" for split in ("train", "val") for name in ("loss", "accuracy")}
    lengths = {"classifier/best_epoch", "classifier/num_epochs"}
    assert set(metrics) == names | lengths | {"classifier/val_auroc"}


def test_train_classifier__starts_from_given_weights(data: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    weights = make_own_weights(path)
    content = train_into(tmp_path / "out", data, initialization=str(path))
    trained = load_file(tmp_path / "out" / "classifier" / "weights.safetensors")
    for name in ("conv1.weight", "layer4.1.conv2.weight"):
        torch.testing.assert_close(trained[f"backbone.{name}"], weights[name])
    assert content["params"]["initialization_sha256"] == hash_file(path)


def test_train_classifier__other_weights_are_other_content(data: dict[str, Path], tmp_path: Path) -> None:
    path, ids = tmp_path / "own.safetensors", set()
    for seed in (1, 2):
        make_own_weights(path, seed=seed)
        ids.add(train_into(tmp_path / "out", data, initialization=str(path))["content_id"])
    assert len(ids) == 2


def test_train_classifier__weights_of_another_network(data: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    make_own_weights(path, "resnet50")
    with pytest.raises(DataError, match=r"(?s)weights own\.safetensors are none of a resnet18 .*Give others"):
        train_into(tmp_path / "out", data, initialization=str(path))
    assert not (tmp_path / "out").exists()


def test_train_classifier__missing_weights(data: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"train_classifier\.initialization is '/nowhere/w\.pth'; must be none"):
        train_into(tmp_path / "out", data, initialization="/nowhere/w.pth")
    assert not (tmp_path / "out").exists() and not (tmp_path / "checkpoints").exists()


def test_train_classifier__unreachable_download_is_no_random_start(
    data: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUMOR_CASCADE_WEIGHTS", str(tmp_path / "cache"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(DataError, match=r"ImageNet weights: https://download\.pytorch\.org.* cannot be reached"):
        train_into(tmp_path / "out", data, initialization="imagenet")
    assert not (tmp_path / "out").exists()


def test_train_classifier__neighbors_and_dropout(data: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    make_own_weights(path)
    train_into(tmp_path / "out", data, initialization=str(path), has_neighbor_slices=True, dropout=0.5)
    _, config = read_network(tmp_path / "out" / "classifier")
    assert (config["architecture"]["in_channels"], config["architecture"]["dropout"]) == (5, 0.5)
    assert config["preprocessing"]["has_neighbor_slices"]


def test_train_classifier__lite0_from_its_package(data: dict[str, Path], tmp_path: Path) -> None:
    content = train_into(tmp_path / "out", data, network="efficientnet_lite0", initialization="imagenet")
    assert content["params"]["initialization_sha256"].startswith("579344248a93e230")
    trained = load_file(tmp_path / "out" / "classifier" / "weights.safetensors")
    published = read_weights(fetch_imagenet("efficientnet_lite0")[0])
    for name in ("_conv_stem.weight", "_blocks.15._project_conv.weight"):
        torch.testing.assert_close(trained[f"backbone.{name}"], published[name])
