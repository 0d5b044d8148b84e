import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from outputs import read_content_id, write_outputs
from tumor_cascade.params import read_yaml
from tumor_cascade.registry.executions import Execution, find_execution, read_execution
from tumor_cascade.registry.recipe import Recipe
from tumor_cascade.registry.stage_log import record_execution, start_tracker, stop_tracker

RUNS = Path("runs/split_data")


@pytest.fixture
def flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Of `split_data`, whose outputs are there."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    artifacts = write_outputs(tmp_path)
    data = artifacts / "ingest_data"
    out = artifacts / "split_data"
    outputs = {"out_splits": out / "splits", "out_metrics": out / "metrics.json"}
    return {"manifest": data / "manifest.parquet", "slices": data / "slices", **outputs}


@pytest.fixture
def params(flags: dict[str, Any]) -> dict[str, Any]:
    return read_yaml(Path("params.yaml"))


def test_record_execution__says_who_made_an_output_when_and_from_what(
    flags: dict[str, Any], params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUMOR_CASCADE_IMAGE_DIGEST", "sha256:1234")
    monkeypatch.setenv("MLFLOW_RUN_ID", "f00")
    with record_execution("split_data", params, flags):
        running = read_execution(RUNS / f"running-{os.getpid()}.json")
        assert running is not None
        assert running.status == "running"
    content_id = read_content_id(Path("artifacts"), "split_data")
    record = find_execution("split_data", content_id)
    assert record is not None
    assert (record.status, record.content_id, record.injected_run_id) == ("finished", content_id, "f00")
    assert record.image_digest == "sha256:1234"
    assert record.ended is not None
    assert record.ended >= record.started
    assert record.recipe == Recipe.of_today(params, flags["manifest"])
    assert record.paths["out_splits"] == str(flags["out_splits"])
    assert [path.name for path in RUNS.iterdir()] == [f"{content_id}.json"]


def test_record_execution__a_failed_stage_keeps_its_error_and_leaves_no_record(
    flags: dict[str, Any], params: dict[str, Any]
) -> None:
    with pytest.raises(ZeroDivisionError), record_execution("split_data", params, flags):
        raise ZeroDivisionError
    assert not list(RUNS.iterdir())


def test_record_execution__other_ranks_of_a_training_record_nothing(
    flags: dict[str, Any], params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    with record_execution("split_data", params, flags):
        pass
    assert not RUNS.exists()


def test_record_execution__a_folder_that_cannot_be_written_is_a_warning(
    flags: dict[str, Any], params: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("runs").write_text("in the way")
    with record_execution("split_data", params, flags):
        pass
    assert "split_data: not recorded" in capsys.readouterr().err


def test_record_execution__a_server_that_is_away_is_a_warning(
    flags: dict[str, Any], params: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with record_execution("split_data", params, flags):
        pass
    assert (
        "split_data: not in MLflow yet (see runs/tracking.log); later: tumor-cascade track" in capsys.readouterr().err
    )
    assert "http://127.0.0.1:9 does not answer" in Path("runs/tracking.log").read_text()
    assert find_execution("split_data", read_content_id(Path("artifacts"), "split_data")) is not None


def test_record_execution__sweeps_what_a_killed_stage_left(flags: dict[str, Any], params: dict[str, Any]) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    RUNS.mkdir(parents=True)
    facts = Execution("split_data", None, 0.0, ended.pid, {}, os.uname().nodename)
    left = RUNS / f"running-{ended.pid}.json"
    left.write_text(json.dumps(facts.__dict__))
    with record_execution("split_data", params, flags):
        assert not left.exists()


def test_stop_tracker__ends_at_once(flags: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    RUNS.mkdir(parents=True)
    record = RUNS / "running-1.json"
    record.write_text(json.dumps(Execution("train_segmenter", 0, 0.0, os.getpid(), {}, "desk").__dict__))
    tracker = start_tracker(record, "--watch")
    assert tracker.poll() is None
    stop_tracker(tracker)
    assert tracker.poll() is not None


def test_read_execution__nothing_that_can_be_read(tmp_path: Path) -> None:
    assert read_execution(tmp_path / "missing.json") is None
    (tmp_path / "other.json").write_text('{"stage": "split_data", "surprise": 1}')
    assert read_execution(tmp_path / "other.json") is None
