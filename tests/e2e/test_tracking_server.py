"""Tracking against real servers: killed during a training, and MLflow on PostgreSQL and S3."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient

from outputs import write_outputs
from servers import TrackingServer, find_ports, make_services_dir
from tumor_cascade.cli import main
from tumor_cascade.registry.client import connect
from workplaces import Workplace, make_workplace

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NUM_EPOCHS = 14
TIMEOUT_S = 300
DATA = ("--slices", "artifacts/ingest_data/slices", "--manifest", "artifacts/ingest_data/manifest.parquet")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TrackingServer]:
    server = TrackingServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def split(tmp_path: Path) -> Workplace:
    """A repository whose data are ingested and split, with a segmenter that trains for some seconds."""
    place = make_workplace(tmp_path / "work", "smoke", [f"train_segmenter.max_epochs={NUM_EPOCHS}"])
    place.run(
        "tumor-cascade",
        "ingest_data",
        "--raw",
        "data/raw",
        *(f"--out-{one[2:]}" if one[:2] == "--" else one for one in DATA),
    )
    outputs = ("--out-splits", "artifacts/split_data/splits", "--out-metrics", "artifacts/split_data/metrics.json")
    place.run("tumor-cascade", "split_data", *DATA, *outputs)
    return place


def read_curves(client: MlflowClient) -> dict[str, list[int]]:
    """Return the epochs of each curve of the segmenter's run; none before there is a run."""
    experiment = client.get_experiment_by_name("tumor-cascade")
    runs = (
        [] if experiment is None else client.search_runs([experiment.experiment_id], "tags.stage = 'train_segmenter'")
    )
    assert len(runs) <= 1
    return {
        key: sorted(point.step for point in client.get_metric_history(run.info.run_id, key))
        for run in runs
        for key in run.data.metrics
        if key.startswith("curves/")
    }


def count_epochs(place: Workplace) -> int:
    logs = list((place.folder / "checkpoints").glob("train_segmenter/*/progress.jsonl"))
    return sum(log.read_text().count('"epoch"') for log in logs)


def wait_for(is_reached, process: subprocess.Popen[bytes]) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + TIMEOUT_S
    while not is_reached():
        assert process.poll() is None, "the training has ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_server_killed_during_training__nothing_is_lost(
    server: TrackingServer, split: Workplace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = "artifacts/train_segmenter/fold-0"
    outputs = (
        "--out-segmenter",
        f"{out}/segmenter",
        "--out-report",
        f"{out}/report",
        "--out-metrics",
        f"{out}/metrics.json",
    )
    command = [
        "tumor-cascade",
        "train_segmenter",
        "--fold",
        "0",
        *DATA,
        "--splits",
        "artifacts/split_data/splits",
        *outputs,
    ]
    environment = {
        **split.environment,
        "MLFLOW_TRACKING_URI": server.url,
        "TUMOR_CASCADE_NUM_THREADS": "1",
    }
    client = connect(server.url)
    training = subprocess.Popen(command, cwd=split.folder, env=environment)
    wait_for(lambda: read_curves(client), training)
    server.kill()
    at_kill = count_epochs(split)
    wait_for(lambda: count_epochs(split) >= min(at_kill + 2, NUM_EPOCHS - 1), training)
    server.start()
    at_return = count_epochs(split)
    assert training.wait(TIMEOUT_S) == 0
    with capsys.disabled():
        print(f"\n  server killed after epoch {at_kill} of {NUM_EPOCHS}, back after epoch {at_return}", end="")
    if at_return == NUM_EPOCHS:  # too late for the stage's own tracker
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
        split.run("tumor-cascade", "track")
    curves = read_curves(client)
    assert set(curves) >= {"curves/train_dice", "curves/val_dice", "curves/val_loss"}
    assert all(steps == list(range(NUM_EPOCHS)) for steps in curves.values()), curves


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    with make_services_dir() as folder:
        yield folder


def run_services(data: Path, command: str) -> Result:
    done = CliRunner().invoke(main, ["services", command, "--data", str(data)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    return done


def test_services__up_keep_runs_over_a_restart(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUMOR_CASCADE_MLFLOW_PORT", str(find_ports()))
    monkeypatch.setenv("TUMOR_CASCADE_POSTGRES_PORT", str(find_ports()))
    monkeypatch.setenv("TUMOR_CASCADE_S3_PORT", str(find_ports((*range(9), 10_008))))
    monkeypatch.chdir(tmp_path)
    artifacts = write_outputs(tmp_path)
    try:
        assert run_services(data, "up").output.startswith("Started: postgres, s3, mlflow\n")
        assert run_services(data, "up").output.startswith("Started: nothing, all run\n")
        lines = run_services(data, "status").output.splitlines()
        (export,) = [line for line in lines if line.startswith("export ")]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", export.partition("=")[2])
        done = CliRunner().invoke(main, ["track", "--artifacts", str(artifacts)])
        assert done.exit_code == 0, done.output
        assert run_services(data, "down").output == "Stopped: mlflow, s3, postgres\n"
        assert run_services(data, "status").exit_code == 1
        assert run_services(data, "up").exit_code == 0
        client = connect()
        experiment = client.get_experiment_by_name("tumor-cascade")
        assert experiment is not None
        assert experiment.artifact_location.startswith("mlflow-artifacts:/")
        runs = client.search_runs([experiment.experiment_id])
        assert len(runs) == 8
        (evaluation,) = [run for run in runs if run.data.tags["stage"] == "evaluate_cascade"]
        path = client.download_artifacts(evaluation.info.run_id, "report/per_patient.csv", str(tmp_path))
        assert Path(path).read_text() == "patient_id,dice\nAA_0000,0.7\n"
        check_secrets(data)
    finally:
        run_services(data, "down")


def check_secrets(data: Path) -> None:
    """The keys stand in files for their owner alone and in no log."""
    secrets = json.loads((data / "keys.json").read_text()).values()
    for path in data.iterdir():
        if path.is_file() and any(secret in path.read_text() for secret in secrets):
            assert path.stat().st_mode & 0o077 == 0, path
    for path in (data / "processes").iterdir():
        assert not any(secret in path.read_text(errors="replace") for secret in secrets), path
