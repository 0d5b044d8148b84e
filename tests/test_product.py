import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from products import write_product
from tumor_cascade.errors import DataError
from tumor_cascade.models.resunet import ResUNet
from tumor_cascade.network_folder import write_network
from tumor_cascade.product import (
    find_networks,
    list_folds,
    load_cascade,
    load_fold_cascade,
    read_artifact_json,
    read_network,
    read_seen_patients,
)

VOLUME = np.random.default_rng(0).integers(0, 256, (3, 3, 40, 40), dtype=np.uint8)


@pytest.fixture
def product(tmp_path: Path) -> Path:
    return write_product(
        tmp_path / "cascade", gate_threshold=0.0, training_patients=["A", "B"], validation_patients=["C"]
    )


@pytest.fixture
def segmenter(product: Path) -> Path:
    return product / "segmenters" / "fold-0"


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_read_network__scores_as_the_one_that_was_written(segmenter: Path) -> None:
    scoring, config = read_network(segmenter)
    torch.manual_seed(0)
    original = ResUNet(3, [4, 8], "residual", False, False).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(scoring.network(images), original(images))
    assert not scoring.network.training
    assert config["role"] == "segmenter" and scoring.preprocessing.input_size_px == 32


def test_write_network__same_weights_same_bytes_whatever_their_strides(tmp_path: Path) -> None:
    weights = {"a": torch.arange(24.0).view(1, 2, 3, 4), "b": torch.ones(2)}
    for name, given in (
        ("plain", weights),
        ("strided", {"b": weights["b"], "a": weights["a"].contiguous(memory_format=torch.channels_last)}),
    ):
        (tmp_path / name).mkdir()
        write_network(tmp_path / name, {"role": "segmenter"}, given, {"content_id": "1"})
    for file in ("weights.safetensors", "config.json", "content.json"):
        assert (tmp_path / "plain" / file).read_bytes() == (tmp_path / "strided" / file).read_bytes()


def test_read_network__missing_file(segmenter: Path) -> None:
    (segmenter / "weights.safetensors").unlink()
    with pytest.raises(DataError, match=r"network fold-0: cannot be loaded \(FileNotFoundError.*make it again"):
        read_network(segmenter)
    (segmenter / "config.json").unlink()
    with pytest.raises(DataError, match=r"fold-0/config\.json cannot be read \(FileNotFoundError\)"):
        read_network(segmenter)


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\xff" * 100])
def test_read_network__damaged_weights(segmenter: Path, content: bytes) -> None:
    (segmenter / "weights.safetensors").write_bytes(content)
    with pytest.raises(DataError, match="network fold-0: cannot be loaded"):
        read_network(segmenter)


def test_read_network__truncated_weights(segmenter: Path) -> None:
    path = segmenter / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"network fold-0: cannot be loaded \(SafetensorError"):
        read_network(segmenter)


def test_read_network__weights_of_another_architecture(segmenter: Path) -> None:
    path = segmenter / "weights.safetensors"
    weights = load_file(path)
    weights.pop("head.bias")
    save_file(weights, path)
    with pytest.raises(DataError, match=r"(?s)RuntimeError.*Missing key.*head\.bias"):
        read_network(segmenter)


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": {"in_channels": 3}},
        {"architecture": {"in_channels": 3, "widths": [4, 8], "depth": 2}},
        {"architecture": None},
        {"role": "classifier"},
        {"preprocessing": {"input_size_px": 32}},
        {"preprocessing": {"input_size_px": 32, "normalization": "x", "has_neighbor_slices": False, "window": 1}},
    ],
)
def test_read_network__config_that_does_not_fit(segmenter: Path, changes: dict[str, object]) -> None:
    edit_json(segmenter / "config.json", **changes)
    with pytest.raises(DataError, match="network fold-0: cannot be loaded"):
        read_network(segmenter)


def test_load_cascade__predicts(product: Path) -> None:
    prediction = load_cascade(product).predict_volume(VOLUME)
    assert prediction.masks.shape == (3, 40, 40) and prediction.gate_is_open.all()


def test_load_cascade__finds_all_networks_of_a_role(product: Path) -> None:
    one = load_cascade(product).predict_volume(VOLUME, is_every_slice_segmented=True)
    for role in ("classifiers", "segmenters"):
        shutil.copytree(product / role / "fold-0", product / role / "fold-1")
    cascade = load_cascade(product)
    assert len(cascade.classifiers) == len(cascade.segmenters) == 2
    twice = cascade.predict_volume(VOLUME, is_every_slice_segmented=True)
    np.testing.assert_allclose(twice.probabilities, one.probabilities, rtol=1e-6)


@pytest.mark.parametrize("role", ["classifiers", "segmenters"])
def test_load_cascade__a_role_is_missing(product: Path, role: str) -> None:
    shutil.rmtree(product / role)
    with pytest.raises(DataError, match=r"cascade cascade: cascade\.json does not fit .*at least one network per role"):
        load_cascade(product)


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"settings": 3}', '{"settings": {"temperature": 1}}', "{}"])
def test_load_cascade__damaged_settings(product: Path, content: str) -> None:
    (product / "cascade.json").write_text(content)
    with pytest.raises(DataError, match=r"cascade\.json (cannot be read|holds no JSON object|does not fit)"):
        load_cascade(product)


def test_load_cascade__empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cascade\.json cannot be read \(FileNotFoundError\); make it again"):
        load_cascade(tmp_path)


def test_load_fold_cascade__networks_and_settings_of_one_fold(product: Path) -> None:
    shutil.copytree(product / "classifiers" / "fold-0", product / "classifiers" / "fold-1")
    shutil.copytree(product / "segmenters" / "fold-0", product / "segmenters" / "fold-1")
    settings = read_artifact_json(product / "cascade.json")["settings"]
    own = {str(fold): {**settings, "gate_threshold": 0.25 * fold} for fold in (1, 0)}
    edit_json(product / "cascade.json", out_of_fold_settings=own)
    assert list_folds(product) == [0, 1]
    cascade = load_fold_cascade(product, 1)
    assert len(cascade.classifiers) == len(cascade.segmenters) == 1
    assert cascade.settings.gate_threshold == 0.25
    with pytest.raises(DataError, match=r"cascade\.json does not fit \('2'\)"):
        load_fold_cascade(product, 2)


def test_read_seen_patients__of_one_fold(product: Path) -> None:
    shutil.copytree(product / "segmenters" / "fold-0", product / "segmenters" / "fold-1")
    edit_json(product / "segmenters" / "fold-1" / "config.json", training_patients=["x"])
    assert len(read_seen_patients(product, 0)[0]) == 2
    assert read_seen_patients(product, 1)[0] == {"x"}


def test_read_seen_patients__joins_all_networks(product: Path) -> None:
    training, validation = read_seen_patients(product)
    assert len(training) == 2 and len(validation) == 1 and not training & validation
    edit_json(product / "segmenters" / "fold-0" / "config.json", training_patients=["x"])
    assert len(read_seen_patients(product)[0]) == 3
    edit_json(product / "segmenters" / "fold-0" / "config.json", training_patients=None)
    with pytest.raises(DataError, match="does not say whom it has learned from"):
        read_seen_patients(product)


def make_trained(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text("{}")
    return folder


def test_find_networks__in_the_order_asked_for(tmp_path: Path) -> None:
    folder = make_trained(tmp_path, "fold-0/segmenter", "fold-1/segmenter", "fold-10/segmenter")
    found = find_networks(folder, [10, 0])
    assert [path.relative_to(folder).as_posix() for path in found] == ["fold-10/segmenter", "fold-0/segmenter"]


def test_find_networks__passes_over_what_a_killed_write_left(tmp_path: Path) -> None:
    folder = make_trained(tmp_path, "fold-0/.segmenter.abc.tmp", "fold-0/.segmenter.abc.old.tmp", "fold-0/segmenter")
    assert find_networks(folder, [0]) == [folder / "fold-0" / "segmenter"]


def test_find_networks__names_every_missing_fold(tmp_path: Path) -> None:
    folder = make_trained(tmp_path, "fold-0/segmenter", "fold-1/.segmenter.abc.tmp")
    with pytest.raises(DataError, match=r"has no network of fold 1, 3; train it, or change assemble_cascade\.folds"):
        find_networks(folder, [0, 1, 3])


def test_read_artifact_json__says_which_file(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "a.json").write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"part/a\.json cannot be read \(UnicodeDecodeError\)"):
        read_artifact_json(tmp_path / "part" / "a.json")
