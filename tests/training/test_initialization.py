import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tumor_cascade.errors import DataError, ParamsError
from tumor_cascade.models.classifier import TumorClassifier
from tumor_cascade.models.encoders import build_encoder
from tumor_cascade.models.resunet import ResUNet
from tumor_cascade.network_folder import hash_patient, write_network
from tumor_cascade.storage import hash_file
from tumor_cascade.training.initialization import StartingWeights, check_patients, find_start, start_encoder

PARTS = {"classifier": "backbone", "segmenter": "encoder"}


def build_network(role: str) -> torch.nn.Module:
    if role == "classifier":
        return TumorClassifier(3, "efficientnet_lite0", 0.0, "linear", 32)
    return ResUNet(3, [4, 4, 4, 4, 4], "efficientnet_lite0", True, False)


def write_folder(folder: Path, role: str) -> torch.nn.Module:
    """Write a network of EfficientNet-Lite0 that has learned from patient A and was chosen by patient B."""
    network = build_network(role)
    seen = {"training_patients": [hash_patient("A")], "validation_patients": [hash_patient("B")]}
    folder.mkdir(parents=True)
    write_network(folder, {"role": role, **seen}, network.state_dict(), {})
    return network


def find(initialization: Path | str, fold: int = 0) -> StartingWeights:
    start = find_start(str(initialization), "efficientnet_lite0", "segmenter", fold)
    assert start is not None
    return start


def test_find_start__none_is_a_random_start() -> None:
    assert find_start("none", "resnet50", "classifier", 0) is None


def test_find_start__imagenet_as_a_package() -> None:
    start = find("imagenet")
    assert start.sha256 == hash_file(start.path) and start.training_patients == frozenset()
    start_encoder(build_encoder("efficientnet_lite0", 5), start, "efficientnet_lite0")


def test_find_start__file(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    assert find(path) == StartingWeights(path, hash_file(path), {})


def test_find_start__folder_of_a_fold(tmp_path: Path) -> None:
    for fold in (0, 1):
        write_folder(tmp_path / f"fold-{fold}" / "segmenter", "segmenter")
    starts = [find(tmp_path / "fold-{fold}" / "segmenter", fold) for fold in (0, 1)]
    assert [start.path.parent.parent.name for start in starts] == ["fold-0", "fold-1"]
    assert starts[0].sha256 != starts[1].sha256
    assert starts[0].training_patients == {hash_patient("A")}


@pytest.mark.parametrize("name", ["missing.pth", "", "."])
def test_find_start__missing_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(ParamsError, match=r"train_segmenter\.initialization is .*none, imagenet, an existing file or"):
        find(tmp_path / name)


@pytest.mark.parametrize("changes", [{"role": "gate"}, {"training_patients": None}])
def test_find_start__folder_that_does_not_say_whom_it_has_seen(tmp_path: Path, changes: dict[str, Any]) -> None:
    write_folder(tmp_path / "segmenter", "segmenter")
    path = tmp_path / "segmenter" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(DataError, match=r"network segmenter: config\.json does not say what it is and whom"):
        find(tmp_path / "segmenter")


@pytest.mark.parametrize("source", PARTS)
@pytest.mark.parametrize("target", PARTS)
def test_start_encoder__a_network_of_either_role_starts_the_other(tmp_path: Path, source: str, target: str) -> None:
    trained, fresh = write_folder(tmp_path / source, source), build_network(target)
    encoder = getattr(fresh, PARTS[target])
    start_encoder(encoder, find(tmp_path / source), "efficientnet_lite0")
    expected, found = getattr(trained, PARTS[source]).state_dict(), encoder.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items()) and len(found) == len(expected)


def test_start_encoder__another_kind_of_encoder(tmp_path: Path) -> None:
    write_folder(tmp_path / "segmenter", "segmenter")
    with pytest.raises(DataError, match=r"(?s)weights segmenter are none of a resnet18 .*Give others"):
        start_encoder(build_encoder("resnet18", 3), find(tmp_path / "segmenter"), "resnet18")


def test_start_encoder__a_network_file_without_its_folder_is_refused(tmp_path: Path) -> None:
    # The folder's config says whom it has seen; past it no weights of ours come in.
    write_folder(tmp_path / "segmenter", "segmenter")
    start = find(tmp_path / "segmenter" / "weights.safetensors")
    with pytest.raises(DataError, match=r"(?s)weights weights\.safetensors are none of a efficientnet_lite0"):
        start_encoder(build_encoder("efficientnet_lite0", 3), start, "efficientnet_lite0")


@pytest.mark.parametrize(
    ("validation", "test", "is_refused"),
    [
        (["B"], ["C"], False),  # the same split, the same fold
        (["C"], ["D"], False),
        (["A", "B"], ["C"], True),  # it was trained on who validates now
        (["C"], ["A"], True),  # on a test patient
        (["C"], ["B"], True),  # a test patient chose its best epoch
    ],
)
def test_check_patients__weights_of_ours(
    tmp_path: Path, validation: list[str], test: list[str], is_refused: bool
) -> None:
    write_folder(tmp_path / "segmenter", "segmenter")
    start = find(tmp_path / "segmenter")
    if is_refused:
        with pytest.raises(DataError, match="weights segmenter have seen 1 of this fold's validation and test"):
            check_patients(start, validation, test)
    else:
        check_patients(start, validation, test)


def test_check_patients__other_weights_have_seen_nobody() -> None:
    check_patients(find("imagenet"), ["A"], ["B"])
