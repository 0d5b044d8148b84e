import json
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tumor_cascade.registry.daemons import Daemon, ServiceError, find_process, start_daemon, stop_daemon, write_secret
from tumor_cascade.registry.services import answers


def find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A web server on a free port."""
    port = find_port()
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    daemon = Daemon("web", command, [port], lambda: answers(f"http://127.0.0.1:{port}/"))
    yield daemon
    stop_daemon("web", daemon.stop_signal, tmp_path, 5)


def test_start_daemon__twice_is_once_and_stop_ends_it(daemon: Daemon, tmp_path: Path) -> None:
    assert start_daemon(daemon, tmp_path, 30)
    first = find_process("web", tmp_path)
    assert first is not None
    assert not start_daemon(daemon, tmp_path, 30)
    assert find_process("web", tmp_path) == first
    assert stop_daemon("web", daemon.stop_signal, tmp_path, 10)
    assert find_process("web", tmp_path) is None
    assert not daemon.is_ready()
    assert not stop_daemon("web", daemon.stop_signal, tmp_path, 10)


def test_start_daemon__runs_on_another_address(daemon: Daemon, tmp_path: Path) -> None:
    start_daemon(daemon, tmp_path, 30)
    with pytest.raises(ServiceError, match=r"web listens on 127\.0\.0\.1 and is wanted on 127\.0\.0\.2; stop it first"):
        start_daemon(replace(daemon, host="127.0.0.2"), tmp_path, 30)


def test_start_daemon__no_address_of_this_machine(daemon: Daemon, tmp_path: Path) -> None:
    with pytest.raises(
        ServiceError, match=r"web: 192\.0\.2\.1 is no address of this machine"
    ):  # of documentation alone
        start_daemon(replace(daemon, host="192.0.2.1"), tmp_path, 30)


def test_start_daemon__ended_at_once_shows_the_end_of_its_log(daemon: Daemon, tmp_path: Path) -> None:
    broken = replace(daemon, command=[sys.executable, "-c", "raise SystemExit('no such database')"])
    with pytest.raises(ServiceError, match=r"web ended at once; the end of .*web\.log:\n  no such database"):
        start_daemon(broken, tmp_path, 30)


def test_start_daemon__never_ready_is_stopped_again(daemon: Daemon, tmp_path: Path) -> None:
    deaf = replace(daemon, is_ready=lambda: False)
    with pytest.raises(ServiceError, match=r"web did not answer within 0\.5 s"):
        start_daemon(deaf, tmp_path, 0.5)
    assert find_process("web", tmp_path) is None


def test_start_daemon__port_is_taken(daemon: Daemon, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", daemon.ports[0]))
        other.listen()
        with pytest.raises(ServiceError, match=f"web: port {daemon.ports[0]} on 127.0.0.1 is taken; stop what uses it"):
            start_daemon(daemon, tmp_path, 5)


def test_find_process__another_process_with_its_number(tmp_path: Path) -> None:
    mine = psutil.Process()
    (tmp_path / "web.json").write_text(json.dumps({"pid": mine.pid, "started": mine.create_time() - 60}))
    assert find_process("web", tmp_path) is None
    assert not stop_daemon("web", psutil.signal.SIGKILL, tmp_path, 1)
    time.sleep(0)  # still here


def test_write_secret__for_its_owner_alone(tmp_path: Path) -> None:
    write_secret(tmp_path / "key", "secret")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
