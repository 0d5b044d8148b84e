import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from tumor_cascade.cli import main
from tumor_cascade.errors import DataError, ParamsError
from tumor_cascade.serving.server import listen, open_folder, serve


def test_serve__what_cannot_be_loaded_ends_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        serve(open_folder(tmp_path / "nothing"), "127.0.0.1", 0, max_body_bytes=1000, max_requests=1)


def test_listen__a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ParamsError, match=f"127.0.0.1:{port} cannot be listened on .* another --port"):
            listen("127.0.0.1", port)


def test_command__warns_where_other_machines_may_ask(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["serve", "--cascade", str(tmp_path), "--host", "0.0.0.0", "--port", "1"])
    assert "without a login" in result.stderr
    assert result.exit_code in (2, 3)  # port 1 is not for everybody; where it is, there is no cascade


def test_command__what_cannot_be_loaded_is_said_without_a_trace(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    result = CliRunner().invoke(main, ["serve", "--cascade", str(tmp_path), "--port", str(port)])
    assert result.exit_code == 3
    assert "cannot be read" in result.stderr
    assert f"http://127.0.0.1:{port}/" in result.stdout
