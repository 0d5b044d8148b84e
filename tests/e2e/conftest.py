"""One run of the whole pipeline on the `smoke` preset, shared by the tests of what it leaves."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from candidates import write_candidate
from cascade_servers import CHAMPION, PredictionServer, run_server, serve_cascade
from champions import Champion, promote_smoke
from object_server import serve_objects
from workplaces import Workplace, make_workplace


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A repository in which `dvc repro` has run all stages of `smoke` and dvc.lock is committed."""
    workplace = make_workplace(tmp_path_factory.mktemp("smoke"), "smoke")
    output = workplace.run("dvc", "repro")
    assert workplace.find_runs(output) == [
        "ingest_data",
        "validate_data",
        "split_data",
        "train_classifier@0",
        "train_segmenter@0",
        "assemble_cascade",
        "evaluate_cascade",
    ]
    workplace.run("git", "add", "dvc.lock")
    workplace.run("git", "commit", "--quiet", "--message", "A run")
    return workplace


@pytest.fixture(scope="session")
def endpoint_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real S3 server with one bucket."""
    with serve_objects(tmp_path_factory.mktemp("seaweedfs")) as url:
        yield url


@pytest.fixture(scope="session")
def promoted(smoke: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Champion]:
    """That product as champion on MLflow with PostgreSQL and S3. Tests may add versions, but leave it champion."""
    with promote_smoke(smoke, tmp_path_factory.mktemp("promoted") / "work") as champion:
        yield champion


@pytest.fixture(scope="session")
def champion_server(promoted: Champion, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PredictionServer]:
    """`tumor-cascade serve` of that champion."""
    arguments = ["-m", "tumor_cascade.cli", "serve", "--model", CHAMPION, "--port", "{port}"]
    with run_server(tmp_path_factory.mktemp("champion"), arguments, "/readyz", **promoted.environment) as server:
        yield server


@pytest.fixture(scope="session")
def served_cascade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed cascade of fresh weights, under which every slice is segmented and positive."""
    folder = tmp_path_factory.mktemp("served") / "cascade"
    return write_candidate(folder, "served", gate_threshold=0.0, has_neighbor_slices=True)


@pytest.fixture(scope="session")
def prediction_server(served_cascade: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PredictionServer]:
    """`tumor-cascade serve` of that cascade."""
    with serve_cascade(tmp_path_factory.mktemp("server"), served_cascade) as server:
        yield server
