"""Servers of predictions as users start them: `tumor-cascade serve` and `mlflow models serve`."""

import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from servers import find_ports
from tumor_cascade.serving.server import build_server, listen
from tumor_cascade.serving.service import Service

CHAMPION = "models:/tumor-cascade@champion"
START_TIMEOUT_S = 180
STOP_TIMEOUT_S = 30
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class PredictionServer:
    """A server that runs.

    Attributes:
        url: Of the server.
        process: The one that was started.
        log: All that it has printed.
    """

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def measure_peak_mb(self) -> float:
        """Return the most memory that any process of the server has used since `forget_peak`."""
        return max(read_peak_mb(pid) for pid in list_family(self.process.pid))

    def forget_peak(self) -> None:
        """Let the memory that is in use now be the most that has been used."""
        for pid in list_family(self.process.pid):
            Path(f"/proc/{pid}/clear_refs").write_text("5")


@contextmanager
def run_server(folder: Path, arguments: Sequence[str], probe: str, **environment: str) -> Iterator[PredictionServer]:
    """Start a server on a free port and wait until it answers; stop it with all that it started.

    Args:
        folder: To run in.
        arguments: Of Python; `{port}` stands for the port.
        probe: Path that answers 200 once the server is ready.
        environment: More variables.
    """
    port, log = find_ports(), folder / "server.log"
    command = [sys.executable, *(argument.replace("{port}", str(port)) for argument in arguments)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **QUIET, "PATH": path, **environment},
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    server = PredictionServer(f"http://127.0.0.1:{port}", process, log)
    try:
        wait_for(server, probe)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            kill_group(process.pid)


def wait_for(server: PredictionServer, probe: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        assert server.process.poll() is None, server.log.read_text()
        assert time.monotonic() < deadline, server.log.read_text()
        try:
            with urllib.request.urlopen(server.url + probe, timeout=5):
                return
        except OSError:
            time.sleep(0.2)


def kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


@contextmanager
def run_service(service: Service) -> Iterator[str]:
    """Run the server around a service in a thread of this process; yield its URL."""
    listener = listen("127.0.0.1", 0)
    server = build_server(service)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        service.close()


@contextmanager
def serve_cascade(folder: Path, cascade: Path, *flags: str) -> Iterator[PredictionServer]:
    """Run `tumor-cascade serve` of a packed cascade."""
    arguments = ["-m", "tumor_cascade.cli", "serve", "--cascade", str(cascade), "--port", "{port}", *flags]
    with run_server(folder, arguments, "/readyz") as server:
        yield server


@contextmanager
def serve_with_mlflow(folder: Path, model: str, **environment: str) -> Iterator[PredictionServer]:
    """Run `mlflow models serve` of a model."""
    arguments = ["-m", "mlflow", "models", "serve", "-m", model, "--env-manager", "local", "-p", "{port}"]
    with run_server(folder, arguments, "/ping", **environment) as server:
        yield server


def list_family(pid: int) -> list[int]:
    """Return a process and all that it has started, that still run."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += list_family(int(child))
    return found


def read_peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)
