import os
import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from tumor_cascade.cli import main
from tumor_cascade.errors import ParamsError
from tumor_cascade.registry import postgres
from tumor_cascade.registry.daemons import Daemon, ServiceError, start_daemon, stop_daemon
from tumor_cascade.registry.postgres import check_account, find_postgres
from tumor_cascade.registry.services import Services, read_keys, warn_of_full_disk


def test_services__ports_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUMOR_CASCADE_MLFLOW_PORT", "5001")
    services = Services.open(tmp_path)
    assert (services.tracking_uri, services.s3_url) == ("http://127.0.0.1:5001", "http://127.0.0.1:8333")
    monkeypatch.setenv("TUMOR_CASCADE_S3_PORT", "eighty")
    with pytest.raises(ParamsError, match="TUMOR_CASCADE_S3_PORT is 'eighty'; must be a port from 1 to 65535"):
        Services.open(tmp_path)


def test_read_keys__drawn_once_and_kept_for_the_owner(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys = read_keys(path)
    assert len({*keys.values()}) == 3
    assert read_keys(path) == keys
    assert path.stat().st_mode & 0o777 == 0o600


def test_find_postgres__is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(postgres, "DEBIAN_POSTGRES", tmp_path)
    with pytest.raises(ServiceError, match=r"On Debian: apt-get install postgresql$"):
        find_postgres(tmp_path / "data")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PG_VERSION").write_text("15\n")
    with pytest.raises(ServiceError, match=r"PostgreSQL 15, which made .*data.* apt-get install postgresql-15$"):
        find_postgres(tmp_path / "data")


def test_find_postgres__version_that_made_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(postgres, "DEBIAN_POSTGRES", tmp_path)
    for version in ("9", "15", "17"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin" / "postgres").touch()
    assert find_postgres(tmp_path / "data") == tmp_path / "17" / "bin"
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PG_VERSION").write_text("15\n")
    assert find_postgres(tmp_path / "data") == tmp_path / "15" / "bin"


def test_check_account__folder_is_closed_to_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(ServiceError, match=f"who cannot enter .*{tmp_path}.*; name another folder with --data"):
        check_account("root", tmp_path / "." if os.name else tmp_path)
    with pytest.raises(ServiceError, match="the account nobody-at-all does not exist; make it: useradd"):
        check_account("nobody-at-all", tmp_path)


@pytest.mark.parametrize(("free", "expected"), [(9, "DISK FULL: 0.9% of "), (10, "")])
def test_warn_of_full_disk__below_one_percent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, expected: str
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(total=1000, used=0, free=free))
    assert "".join(warn_of_full_disk(tmp_path))[: len("DISK FULL: 0.9% of ")] == expected


def test_status__nothing_runs(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["services", "status", "--data", str(tmp_path / "services")])
    assert done.exit_code == 1
    assert done.output.split() == ["mlflow", "down", "s3", "down", "postgres", "down"]
    done = CliRunner().invoke(main, ["services", "down", "--data", str(tmp_path / "services")])
    assert done.output == "Stopped: nothing ran\n"


def test_status__shows_the_address_that_a_server_listens_on(tmp_path: Path) -> None:
    processes = tmp_path / "services" / "processes"
    stand_in = [sys.executable, "-c", "import time; time.sleep(600)"]
    start_daemon(Daemon("mlflow", stand_in, [], lambda: True, host="127.0.0.2"), processes, 10)
    try:
        status = ["services", "status", "--data", str(tmp_path / "services")]
        shown = CliRunner().invoke(main, status, env={"TUMOR_CASCADE_MLFLOW_PORT": "5001"}).output
        given = CliRunner().invoke(main, [*status, "--host", "127.0.0.3"]).output
    finally:
        stop_daemon("mlflow", signal.SIGTERM, processes, 10)
    assert "mlflow   http://127.0.0.2:5001  pid" in shown
    assert "export MLFLOW_TRACKING_URI=http://127.0.0.2:5001" in shown
    assert "export MLFLOW_TRACKING_URI=http://127.0.0.3:5000" in given
