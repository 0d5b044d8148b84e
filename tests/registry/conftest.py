"""An empty MLflow database, made once and copied for each test: making one takes seconds."""

import os
import shutil
from pathlib import Path

import pytest

from tumor_cascade.registry.client import connect


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    connect(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def workplace(empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a tracking database of its own that the environment names."""
    for name in [name for name in os.environ if name.startswith(("MLFLOW_RUN", "MLFLOW_EXPERIMENT"))]:
        monkeypatch.delenv(name)
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    return tmp_path
