"""A registered version is loaded as it was registered, or not at all."""

import contextlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException

from archives import make_archive
from candidates import judge_as, write_candidate
from slice_requests import make_row, make_volume
from tumor_cascade.errors import DataError, ParamsError
from tumor_cascade.prediction import LINES_NAME
from tumor_cascade.registry.entries import PolicyRef
from tumor_cascade.registry.ledger import name_entry
from tumor_cascade.registry.location import DEFAULT_NAME, LEDGER_VARIABLE
from tumor_cascade.registry.promotion import promote
from tumor_cascade.registry.served_version import (
    check_version,
    checked_version,
    open_version,
    read_version_number,
)
from tumor_cascade.registry.shared import open_shared
from tumor_cascade.serving.answers import KEYS
from tumor_cascade.storage import hash_file
from tumor_cascade.stored_prediction import predict_stored

CHAMPION = "models:/tumor-cascade@champion"
WEIGHTS = "artifacts/cascade/classifiers/fold-0/weights.safetensors"


@pytest.fixture(scope="module")
def home(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a registry of one champion, its ledger in `promotions`, and its files in `version`."""
    folder = tmp_path_factory.mktemp("registry")
    shutil.copyfile(empty_database, folder / "mlflow.db")
    cascade = write_candidate(folder / "cascade", "served", gate_threshold=0.0)
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        for name in [name for name in os.environ if name.startswith(("MLFLOW_RUN", "MLFLOW_EXPERIMENT"))]:
            patch.delenv(name)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        shared = open_shared()
        policy = PolicyRef(name="paper", sha256="4" * 64)
        promote(shared.registry, shared.store, cascade, policy, lambda *_: judge_as("promote"))
        (folder / "fetched").mkdir()
        Path(download_artifacts(artifact_uri=CHAMPION, dst_path=str(folder / "fetched"))).rename(folder / "version")
        yield folder


@pytest.fixture
def version(home: Path, tmp_path: Path) -> Path:
    """A copy of the champion's files, as MLflow fetches them."""
    return shutil.copytree(home / "version", tmp_path / "version")


def flip_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_check_version__an_untouched_version_is_what_the_ledger_knows(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = check_version(home / "version")
    assert len(manifest["content_id"]) == 64
    assert read_version_number(home / "version") == 1
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "edit", "fault"),
    [
        (WEIGHTS, flip_bit, "weights.safetensors was edited"),
        (
            "artifacts/cascade/cascade.json",
            lambda path: path.write_text(path.read_text() + " "),
            "cascade.json was edited",
        ),
        ("artifacts/cascade/segmenters/fold-0/config.json", Path.unlink, "config.json is missing"),
        ("artifacts/golden/golden.safetensors", flip_bit, "golden.safetensors was edited"),
        ("shim.py", lambda path: path.write_text("import os\n"), "shim.py was edited"),
        (
            "artifacts/cascade/classifiers/fold-1",
            lambda path: shutil.copytree(path.with_name("fold-0"), path),
            "fold-1/weights.safetensors was added",
        ),
        ("more.py", lambda path: path.write_text("import os\n"), "more.py was added"),
    ],
)
def test_check_version__an_edited_version_is_refused(
    version: Path, name: str, edit: Callable[[Path], None], fault: str
) -> None:
    edit(version / name)
    with pytest.raises(DataError, match=r"not what was registered, nothing of it was loaded") as caught:
        check_version(version)
    assert fault in str(caught.value)


def test_check_version__an_edit_that_the_manifest_hides_is_seen_by_the_ledger(version: Path) -> None:
    before = hash_file(version / WEIGHTS)
    flip_bit(version / WEIGHTS)
    manifest = version / "artifacts/version.json"
    manifest.write_text(manifest.read_text().replace(before, hash_file(version / WEIGHTS)))
    with pytest.raises(DataError, match="not what the ledger knows") as caught:
        check_version(version)
    assert "weights.safetensors was edited" in str(caught.value)
    assert "version.json was edited" in str(caught.value)


def test_check_version__files_with_another_content_id_are_no_version_that_the_ledger_knows(version: Path) -> None:
    for name in ("artifacts/version.json", "artifacts/cascade/content.json"):
        path = version / name
        path.write_text(re.sub(r'"content_id": "[0-9a-f]{64}"', f'"content_id": "{"7" * 64}"', path.read_text()))
    manifest = version / "artifacts/version.json"
    facts = json.loads(manifest.read_text())
    facts["files"]["artifacts/cascade/content.json"] = hash_file(version / "artifacts/cascade/content.json")
    manifest.write_text(json.dumps(facts))
    with pytest.raises(DataError, match="not what the ledger knows"):
        check_version(version)


def test_check_version__a_copy_under_another_name_is_known_by_its_content(version: Path) -> None:
    meta = version / "registered_model_meta"
    meta.write_text("model_name: production\nmodel_version: '7'\n")
    check_version(version)
    meta.write_text("model_name: tumor-cascade\nmodel_version: '1'\n")
    check_version(version)


def test_check_version__mlflows_own_files_are_checked_by_the_ledger(version: Path) -> None:
    (version / "MLmodel").write_text((version / "MLmodel").read_text().replace("shim.py", "other.py"))
    with pytest.raises(DataError, match="MLmodel was edited"):
        check_version(version)


def test_check_version__an_edited_ledger_vouches_for_nothing(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = shutil.copytree(home / DEFAULT_NAME, tmp_path / DEFAULT_NAME)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setenv(LEDGER_VARIABLE, str(ledger))
    check_version(home / "version")
    entry = ledger / name_entry(1)
    entry.write_text(entry.read_text().replace('"kind": "promote"', '"kind": "rollback"'))
    with pytest.raises(DataError, match="does not hold together"):
        check_version(home / "version")


def test_check_version__without_a_ledger_it_says_so(
    version: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with caplog.at_level(logging.WARNING):
        check_version(version)
    assert "no ledger can be reached: the version's files were checked against its own manifest alone" in caplog.text


def test_check_version__a_tracking_server_that_is_away_does_not_stop_it(
    version: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with caplog.at_level(logging.WARNING):
        check_version(version)
    assert "the registry cannot be asked for its ledger: http://127.0.0.1:9 does not answer" in caplog.text
    assert "no ledger can be reached: the version's files were checked against its own manifest alone" in caplog.text


def test_check_version__a_ledger_that_the_environment_names_is_asked_though_the_tracking_server_is_away(
    home: Path, version: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv(LEDGER_VARIABLE, str(home / DEFAULT_NAME))
    check_version(version)
    assert "checked against its own manifest alone" not in caplog.text
    (version / "MLmodel").write_text((version / "MLmodel").read_text() + "\n")
    with pytest.raises(DataError, match="not what the ledger knows"):
        check_version(version)


def test_check_version__a_ledger_folder_that_is_not_there_is_no_edited_ledger(
    home: Path, version: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (home / DEFAULT_NAME).rename(home / "unmounted")
    try:
        check_version(version)
    finally:
        (home / "unmounted").rename(home / DEFAULT_NAME)
    assert f"the ledger cannot be reached: [Errno 2] No such file or directory: '{home / DEFAULT_NAME}" in caplog.text
    assert "no ledger can be reached: the version's files were checked against its own manifest alone" in caplog.text


def test_check_version__entries_that_are_gone_from_a_ledger_are_noticed(home: Path, version: Path) -> None:
    entry = home / DEFAULT_NAME / name_entry(1)
    entry.rename(home / "entry")
    try:
        with pytest.raises(DataError, match="ledger entry 1 is gone: the registry remembers it"):
            check_version(version)
    finally:
        (home / "entry").rename(entry)


def test_open_version__loads_the_champion_for_our_own_server(home: Path) -> None:
    loaded = open_version(CHAMPION)(lambda num_slices, seconds: None)
    (answer,) = loaded.engine.answer([make_row(1)], None)
    assert (answer["status"], answer["model_version"]) == ("ok", 1)
    loaded.engine.close()


def test_checked_version__an_alias_that_was_moved_by_hand_is_refused(workplace: Path) -> None:
    shared, policy = open_shared(), PolicyRef(name="paper", sha256="4" * 64)
    for verdict in ("promote", "refuse"):
        cascade = write_candidate(workplace / verdict, verdict, gate_threshold=0.0)
        promote(shared.registry, shared.store, cascade, policy, lambda *_, verdict=verdict: judge_as(verdict))
    with checked_version(CHAMPION) as folder:
        assert read_version_number(folder) == 1
    shared.registry.set_alias("champion", 2)
    refusal = "champion is version 2 in the registry; by the ledger, which decides, it is 1: .* registry recover"
    with pytest.raises(DataError, match=refusal):
        open_version(CHAMPION)(lambda num_slices, seconds: None)
    with checked_version("models:/tumor-cascade/2") as folder:
        assert read_version_number(folder) == 2


def test_checked_version__predict_asks_the_champion_as_it_asks_its_folder(home: Path, tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "raw")
    by_folder = predict_stored(archive, home / "cascade", None, tmp_path / "folder", is_overwrite=False)
    by_version = predict_stored(archive, Path("missing"), CHAMPION, tmp_path / "version", is_overwrite=False)
    assert by_version == by_folder
    assert by_version.num_positive > 0
    lines = [(tmp_path / name / LINES_NAME).read_bytes() for name in ("folder", "version")]
    assert lines[0] == lines[1]


def test_open_version__one_that_is_not_there_is_named(home: Path) -> None:
    with pytest.raises(ParamsError, match="tumor-cascade@nobody cannot be fetched"):
        open_version("models:/tumor-cascade@nobody")(lambda num_slices, seconds: None)


def test_served_model__answers_tables_and_refuses_as_mlflow_does(home: Path) -> None:
    model = mlflow.pyfunc.load_model(CHAMPION)
    answers = model.predict(pd.DataFrame(make_volume(3)), params={"mask": "none"})
    assert [list(answer) for answer in answers] == [list(KEYS)] * 3
    assert {(answer["status"], answer["has_context"], answer["mask"]) for answer in answers} == {("ok", True, None)}
    lone = model.predict(pd.DataFrame([make_row(1), {"image": "AAAA"}]))
    assert [answer["status"] for answer in lone] == ["ok", "error"]
    with pytest.raises(MlflowException, match="mask is not one of") as caught:
        model.predict(pd.DataFrame([make_row(1)]), params={"mask": "gif"})
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    model.unwrap_python_model().engine.close()
    with pytest.raises(MlflowException, match=r"stopping|made a mistake") as caught:
        model.predict(pd.DataFrame([make_row(1)]))
    assert caught.value.error_code in ("TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR")


def test_served_model__its_own_example_is_answered(version: Path) -> None:
    model = mlflow.pyfunc.load_model(str(version))
    example = mlflow.models.Model.load(str(version)).load_input_example(str(version))
    answers = model.predict(example)
    assert [(answer["status"], answer["has_context"]) for answer in answers] == [("ok", True)] * 2
    assert all(np.isfinite(answer["probability"]) for answer in answers)
    model.unwrap_python_model().engine.close()


def test_served_model__an_edited_version_is_not_loaded(version: Path) -> None:
    flip_bit(version / WEIGHTS)
    with pytest.raises(DataError, match=r"weights\.safetensors was edited"):
        mlflow.pyfunc.load_model(str(version))
