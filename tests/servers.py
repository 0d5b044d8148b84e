"""Servers for tests: MLflow on a SQLite file, started and killed at will; MLflow on PostgreSQL and S3; free ports."""

import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from needs import miss
from tumor_cascade.registry.daemons import ServiceError
from tumor_cascade.registry.postgres import find_postgres
from tumor_cascade.registry.services import ENVIRONMENT_NAME, Services, answers, find_weed

START_TIMEOUT_S = 120


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def find_ports(offsets: Sequence[int] = (0,)) -> int:
    """Return a port such that it and those at the offsets from it are free."""
    while True:
        port = random.SystemRandom().randint(20_000, 50_000)
        if all(is_free(port + offset) for offset in offsets):
            return port


class TrackingServer:
    """`mlflow server` as a user starts it, on a database and artifacts in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, find_ports()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env={**os.environ, **quiet}, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not answers(f"{self.url}/health"):
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def kill(self) -> None:
        """Kill it and its workers at once."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, 9)
            self.process.wait()


@contextmanager
def make_services_dir() -> Iterator[Path]:
    """Yield a folder for `tumor-cascade services` that PostgreSQL's own account can enter, unlike pytest's.

    Without PostgreSQL or SeaweedFS the test is skipped.
    """
    for find in (lambda: find_postgres(Path("/nowhere")), find_weed):
        try:
            find()
        except ServiceError as error:
            miss(str(error))
    with tempfile.TemporaryDirectory(prefix="services-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder) / "services"


@contextmanager
def serve_services() -> Iterator[dict[str, str]]:
    """Run MLflow on PostgreSQL and S3; yield the environment of their clients, as `services up` writes it."""
    with make_services_dir() as folder:
        services = Services(folder, find_ports(), find_ports(), find_ports((*range(9), 10_008)))
        try:
            services.up()
            lines = (folder / ENVIRONMENT_NAME).read_text().splitlines()
            yield dict(line.removeprefix("export ").split("=", 1) for line in lines)
        finally:
            services.down()
