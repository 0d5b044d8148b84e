"""Servers that outlive the command that starts them: found again by process id and start time, stopped with care."""

import errno
import json
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tumor_cascade.errors import TumorCascadeError
from tumor_cascade.storage import write_json

LOG_TAIL_LINES = 15
START_TIME_TOLERANCE_S = 2.0  # the system's boot time, from which it is computed, is a whole second
POLL_S = 0.2


class ServiceError(TumorCascadeError):
    """A server that cannot be started, does not answer, or whose programs are missing."""


@dataclass(frozen=True)
class Daemon:
    """One server.

    Attributes:
        name: In messages and file names.
        command: Program and arguments.
        ports: All that it will listen on.
        is_ready: Asks the server; must not take longer than a few seconds.
        environment: Added to this process's own.
        user: Account to run as; None for the caller's.
        stop_signal: Asks for a clean end.
        host: Address that it will listen on.
    """

    name: str
    command: list[str]
    ports: list[int]
    is_ready: Callable[[], bool]
    environment: dict[str, str] = field(default_factory=dict)
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    host: str = "127.0.0.1"


def start_daemon(daemon: Daemon, folder: Path, timeout_s: float) -> bool:
    """Start a server unless it runs, and wait until it is ready.

    Args:
        daemon: What to start.
        folder: Of process records (`<name>.json`) and logs (`<name>.log`).
        timeout_s: For the server to become ready.

    Returns:
        Whether it was started; False where it ran already.

    Raises:
        ServiceError: A port is taken, it runs on another address, the server ended, or it was not ready in time. One
            that was started is stopped.
    """
    process = find_process(daemon.name, folder)
    is_new = process is None
    if process is None:
        check_ports(daemon)
        process = _spawn(daemon, folder)
    else:
        check_host(daemon, folder)
    deadline = time.monotonic() + timeout_s
    while not daemon.is_ready():
        has_ended = not is_alive(process)
        if has_ended or time.monotonic() > deadline:
            if is_new:
                stop_daemon(daemon.name, daemon.stop_signal, folder, timeout_s=10)
            reason = "ended at once" if has_ended else f"did not answer within {timeout_s:g} s"
            log = _log_path(daemon.name, folder)
            raise ServiceError(f"{daemon.name} {reason}; the end of {log}:\n{_read_tail(log)}")
        time.sleep(POLL_S)
    return is_new


def _spawn(daemon: Daemon, folder: Path) -> psutil.Process:
    folder.mkdir(parents=True, exist_ok=True)
    account = {} if daemon.user is None else {"user": daemon.user, "group": daemon.user, "extra_groups": []}
    with _log_path(daemon.name, folder).open("ab") as log:
        started = subprocess.Popen(
            daemon.command,
            env={**os.environ, **daemon.environment},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **account,  # type: ignore[call-overload]
        )
    process = psutil.Process(started.pid)
    record = {"pid": process.pid, "started": process.create_time(), "ports": daemon.ports, "host": daemon.host}
    write_json(_record_path(daemon.name, folder), record)
    return process


def stop_daemon(name: str, stop_signal: signal.Signals, folder: Path, timeout_s: float) -> bool:
    """Stop a server that `start_daemon` has started, cleanly, or by force after a timeout; say whether it ran."""
    process = find_process(name, folder)
    if process is not None:
        family = [process, *process.children(recursive=True)]
        process.send_signal(stop_signal)
        _, alive = psutil.wait_procs(family, timeout=timeout_s)
        for one in alive:
            one.kill()
        psutil.wait_procs(alive, timeout=5)
    _record_path(name, folder).unlink(missing_ok=True)
    return process is not None


def find_process(name: str, folder: Path) -> psutil.Process | None:
    """Return the process that a record names; None where it has ended, also if another one has its number now."""
    try:
        record = json.loads(_record_path(name, folder).read_text(encoding="utf-8"))
        process = psutil.Process(record["pid"])
        is_same = abs(process.create_time() - record["started"]) < START_TIME_TOLERANCE_S
    except (OSError, ValueError, KeyError, psutil.NoSuchProcess):
        return None
    return process if is_same and is_alive(process) else None


def find_host(name: str, folder: Path) -> str | None:
    """Return the address that a server listens on; None where it does not run, or its record does not say."""
    if find_process(name, folder) is None:
        return None
    host: str | None = json.loads(_record_path(name, folder).read_text(encoding="utf-8")).get("host")
    return host


def is_alive(process: psutil.Process) -> bool:
    """Say whether a process runs; one that only waits to be collected by its parent does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def check_ports(daemon: Daemon) -> None:
    """Refuse to start a server on ports that others use.

    Raises:
        ServiceError: Naming them, or the address if this machine has none such.
    """
    taken = []
    for port in daemon.ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((daemon.host, port))
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL:
                    raise ServiceError(
                        f"{daemon.name}: {daemon.host} is no address of this machine; `ip address` lists them."
                    ) from error
                taken.append(str(port))
    if taken:
        raise ServiceError(
            f"{daemon.name}: port {', '.join(taken)} on {daemon.host} is taken; stop what uses it, or choose another "
            "(`tumor-cascade services --help` names the settings)."
        )


def check_host(daemon: Daemon, folder: Path) -> None:
    """Refuse a server that runs on another address than it is wanted on.

    Raises:
        ServiceError: Naming both.
    """
    host = find_host(daemon.name, folder) or daemon.host
    if host != daemon.host:
        raise ServiceError(
            f"{daemon.name} listens on {host} and is wanted on {daemon.host}; stop it first: tumor-cascade services "
            f"down --data {folder.parent}. Its data stay."
        )


def _record_path(name: str, folder: Path) -> Path:
    return folder / f"{name}.json"


def _log_path(name: str, folder: Path) -> Path:
    return folder / f"{name}.log"


def _read_tail(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    return "\n".join(f"  {line}" for line in lines[-LOG_TAIL_LINES:]) or "  (empty)"


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner may read, at no moment anyone else, atomically."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:  # noqa: PTH123
        stream.write(text)
    temporary.replace(path)
