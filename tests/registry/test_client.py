"""Which servers count as there, and what of their addresses is printed."""

import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tumor_cascade.registry.client import TrackingError, connect, does_answer, hide_login, open_experiment


@contextmanager
def serve(status: int, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Answer every request with a status; yield host and port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def untrusted(tmp_path: Path) -> ssl.SSLContext:
    """A certificate that nobody has signed."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@pytest.mark.parametrize(
    ("status", "expected"), [(200, True), (401, True), (403, True), (404, False), (502, False), (503, False)]
)
def test_does_answer__by_status(status: int, expected: bool) -> None:
    with serve(status) as address:
        assert does_answer(f"http://{address}") is expected
        assert does_answer(f"http://me:p@ss@{address}/") is expected


def test_does_answer__a_certificate_that_python_does_not_trust(untrusted: ssl.SSLContext) -> None:
    with serve(200, untrusted) as address:
        assert does_answer(f"https://{address}")


@pytest.mark.parametrize("address", ["127.0.0.1:9", "me:secret@nowhere.invalid", "nowhere.invalid:no-port"])
def test_does_answer__nobody_is_there(address: str) -> None:
    assert not does_answer(f"http://{address}")


def test_connect__the_message_holds_no_password() -> None:
    with pytest.raises(TrackingError, match=r"^http://127\.0\.0\.1:9/path does not answer; start it"):
        connect("http://me:secret@127.0.0.1:9/path")


@pytest.mark.usefixtures("workplace")
def test_open_experiment__a_server_that_refuses_says_which_login_is_missing() -> None:
    with serve(401) as address:
        client = connect(f"http://me:secret@{address}")
        with pytest.raises(TrackingError, match=r"failed with error code 401 .* MLFLOW_TRACKING_USERNAME") as caught:
            open_experiment(client)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("http://me:p@ss@host:5000/a@b", "http://host:5000/a@b"),
        ("https://host/a", "https://host/a"),
        ("sqlite:////data/me@home/mlflow.db", "sqlite:////data/me@home/mlflow.db"),
    ],
)
def test_hide_login(uri: str, expected: str) -> None:
    assert hide_login(uri) == expected
