"""The manifests as files. UPDATE_GOLDEN=1 writes deploy/kserve and deploy/trainer again."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipelines.cli import main
from pipelines.golden import IMAGE, REFERENCE
from tumor_cascade.configuration import configure
from tumor_cascade.object_store import FolderStore
from tumor_cascade.registry.client import connect
from tumor_cascade.registry.entries import VersionRef
from tumor_cascade.registry.ledger import append_entry, read_chain
from workplaces import ROOT

CONTENT_ID = "c0ffee" + 58 * "0"


def write(folder: Path, *arguments: str) -> tuple[str, str]:
    """Return the manifests that a command writes, and what it says."""
    out = folder / "manifests.yaml"
    done = CliRunner().invoke(main, [*arguments, "--image", IMAGE, "--out", str(out)], catch_exceptions=False)
    return (out.read_text(encoding="utf-8") if out.exists() else ""), done.output


def require_golden(text: str, name: str) -> None:
    path = ROOT / "deploy" / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text, f"{path} is stale; UPDATE_GOLDEN=1 writes it again"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A registry whose version 2 is champion."""
    folder = tmp_path_factory.mktemp("registry")
    uri = f"sqlite:///{folder}/mlflow.db"
    client = connect(uri)
    client.create_registered_model("tumor-cascade")
    for content_id in (64 * "0", CONTENT_ID):
        client.create_model_version("tumor-cascade", str(folder), tags={"content_id": content_id})
    client.set_registered_model_alias("tumor-cascade", "champion", "2")
    return uri


def test_trainjob__of_the_honest_recipe_on_two_nodes(tmp_path: Path) -> None:
    configure("honest", tmp_path / "params.yaml")
    (tmp_path / "data.json").write_text(REFERENCE.model_dump_json())
    inputs = ("--params", str(tmp_path / "params.yaml"), "--reference", str(tmp_path / "data.json"))
    text, _ = write(tmp_path, "trainjob", "train_segmenter", "--fold", "0", *inputs)
    require_golden(text, "trainer/train_segmenter.yaml")


def test_trainjob__data_that_are_no_reference_are_refused(tmp_path: Path) -> None:
    configure("smoke", tmp_path / "params.yaml")
    (tmp_path / "data.json").write_text("no JSON", encoding="utf-8")
    inputs = ("--params", str(tmp_path / "params.yaml"), "--reference", str(tmp_path / "data.json"))
    text, said = write(tmp_path, "trainjob", "train_segmenter", "--fold", "0", *inputs)
    assert not text and "data.json" in said
    _, said = write(tmp_path, "trainjob", "train_segmenter", "--fold", "0", *inputs, "--raw", "s3://bucket/raw")
    assert "name different data; give one of them" in said


def test_kserve__pins_the_version_that_the_alias_points_to(
    registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry)
    text, said = write(tmp_path, "kserve")
    assert "champion: version 2, content c0ffee000000" in said
    require_golden(text, "kserve/inference_service.yaml")


def test_kserve__without_such_an_alias_is_refused(
    registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry)
    text, said = write(tmp_path, "kserve", "--alias", "challenger")
    assert not text
    assert "tumor-cascade has no alias challenger in this registry; it has: champion" in said


def test_kserve__an_alias_that_was_moved_by_hand_is_refused(
    registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion, store = VersionRef(version=1, content_id=64 * "0"), FolderStore(tmp_path / "ledger")
    append_entry(store, read_chain(store), "promote", champion, {}, why="it is better")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry)
    monkeypatch.setenv("TUMOR_CASCADE_LEDGER", str(tmp_path / "ledger"))
    text, said = write(tmp_path, "kserve")
    assert not text
    assert "tumor-cascade@champion is version 2 in the registry; by the ledger, which decides, it is 1" in said
