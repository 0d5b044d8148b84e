"""The application behind its own server, in this process; real engines, real sockets."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pandas as pd
import pytest

from cascade_servers import run_service
from products import CONTENT_ID, write_product
from slice_requests import Reply, make_body, make_row, make_volume, send
from tumor_cascade.serving import server as server_module
from tumor_cascade.serving.app import HEADERS
from tumor_cascade.serving.server import open_folder
from tumor_cascade.serving.service import Service

MAX_BODY_BYTES = 200_000


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_product(tmp_path_factory.mktemp("product") / "cascade", gate_threshold=0.0, has_neighbor_slices=True)


@pytest.fixture(scope="module")
def service(product: Path) -> Service:
    service = Service(MAX_BODY_BYTES, max_requests=3)
    service.load(open_folder(product, model_version=4))
    return service


@pytest.fixture(scope="module")
def url(service: Service) -> Iterator[str]:
    with run_service(service) as url:
        yield url


def read_raw(url: str, *parts: bytes, wait_s: float = 0.0) -> bytes:
    """Send bytes as they are over one connection; return all that comes back until it is closed."""
    address = urlsplit(url)
    with socket.create_connection((str(address.hostname), address.port or 0), timeout=30) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(wait_s)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    return received


def require(reply: Reply, status: int, message: str = "") -> None:
    assert reply.status == status, reply.body[:500]
    assert message in reply.body.decode()


def test_invocations__answers_as_mlflows_server_does(url: str) -> None:
    reply = send(url, make_body(make_volume(2), mask="none"))
    require(reply, 200)
    assert [answer["status"] for answer in reply.json["predictions"]] == ["ok", "ok"]
    assert {(answer["content_id"], answer["model_version"]) for answer in reply.json["predictions"]} == {
        (CONTENT_ID, 4)
    }


@pytest.mark.parametrize("content_type", [None, "application/json"])
def test_invocations__json_is_the_default(url: str, content_type: str | None) -> None:
    require(send(url, make_body([make_row()]), content_type), 200)


def test_invocations__takes_csv_and_parquet(url: str) -> None:
    frame = pd.DataFrame(make_volume(3))
    as_json = send(url, make_body(make_volume(3))).json
    assert send(url, frame.to_csv(index=False).encode(), "text/csv").json == as_json
    assert send(url, frame.to_parquet(), "application/vnd.apache.parquet").json == as_json
    without = send(url, frame.to_parquet(), "application/vnd.apache.parquet", path="/invocations?mask=none").json
    assert [answer["mask"] for answer in without["predictions"]] == [None] * 3


def test_invocations__a_bad_request_is_a_clear_400(url: str) -> None:
    reply = send(url, make_body([{"image": "a", "what-was-sent": 1}]))
    require(reply, 400, "unknown columns")
    assert reply.json["error_code"] == "INVALID_PARAMETER_VALUE"
    assert b"what-was-sent" not in reply.body


def test_invocations__other_types_are_415(url: str) -> None:
    require(send(url, b"a=1", "application/x-www-form-urlencoded"), 415, "none of application/json")
    require(send(url, b"x", headers={"Content-Encoding": "gzip"}), 415, "compressed")


@pytest.mark.parametrize("is_chunked", [False, True])
def test_invocations__a_body_that_is_too_large_is_413(url: str, is_chunked: bool) -> None:
    body = b"A" * (10 * MAX_BODY_BYTES)
    parts = (body[start : start + 65536] for start in range(0, len(body), 65536))
    require(send(url, parts if is_chunked else body), 413, "larger than 200000 bytes")


def test_invocations__who_asks_before_sending_too_much_is_told_at_once(url: str) -> None:
    head = b"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\nExpect: 100-continue\r\n\r\n"
    answer = read_raw(url, head)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in answer


def test_invocations__a_body_that_is_cut_short_harms_nobody(url: str) -> None:
    address = urlsplit(url)
    for _ in range(5):
        with socket.create_connection((str(address.hostname), address.port or 0)) as connection:
            connection.sendall(b"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{")
    require(send(url, make_body([make_row()])), 200)


def test_invocations__slow_senders_hold_no_place(url: str, service: Service) -> None:
    address = urlsplit(url)
    slow = [socket.create_connection((str(address.hostname), address.port or 0)) for _ in range(20)]
    for connection in slow:
        connection.sendall(b"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{")
    require(send(url, make_body([make_row()])), 200)
    for connection in slow:
        connection.close()


def test_invocations__a_body_that_never_ends_is_408(product: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(MAX_BODY_BYTES, max_requests=1)
    service.intake.timeout_s = 0.2
    with run_service(service) as url:
        answer = read_raw(url, b"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_invocations__more_requests_than_places_are_503_and_come_again(url: str, service: Service) -> None:
    with service.take_place(), service.take_place(), service.take_place():
        reply = send(url, make_body([make_row()]))
    require(reply, 503, "ask again later")
    assert int(reply.headers["retry-after"]) >= 1
    require(send(url, make_body([make_row()])), 200)


def test_invocations__before_the_cascade_is_loaded_are_503(product: Path) -> None:
    service = Service(MAX_BODY_BYTES, max_requests=1)
    with run_service(service) as url:
        require(send(url, None, path="/livez", method="GET"), 200)
        for path in ("/readyz", "/ping", "/health"):
            reply = send(url, None, path=path, method="GET")
            require(reply, 503)
            assert "retry-after" in reply.headers
        require(send(url, make_body([make_row()])), 503, "not ready")
        require(send(url, None, path="/model", method="GET"), 503, "not ready")
        service.load(open_folder(product))
        require(send(url, None, path="/readyz", method="GET"), 200)
        require(send(url, make_body([make_row()])), 200)


def test_connections__that_send_no_request_are_closed(product: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "HEADER_TIMEOUT_S", 0.3)
    with run_service(Service(MAX_BODY_BYTES, max_requests=1)) as url:
        started = time.monotonic()
        with pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
            read_raw(url, *[b"GET / HTTP/1.1\r\n", *[b"X-Slow: 1\r\n"] * 50], wait_s=0.1)
        assert time.monotonic() - started < 4


def test_connections__there_is_a_limit_to_them(product: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 3)
    with run_service(Service(MAX_BODY_BYTES, max_requests=1)) as url:
        address = urlsplit(url)
        held = [socket.create_connection((str(address.hostname), address.port or 0), timeout=10) for _ in range(6)]
        time.sleep(0.3)
        for connection in held:
            connection.close()
        time.sleep(0.3)
        require(send(url, None, path="/livez", method="GET"), 200)


def test_mistakes__leave_no_trace_in_the_answer(product: Path, capfd: pytest.CaptureFixture[str]) -> None:
    service = Service(MAX_BODY_BYTES, max_requests=1)
    service.load(open_folder(product))
    service.monitor.observe_answers = None  # type: ignore[method-assign,assignment]
    with run_service(service) as url:
        reply = send(url, make_body([make_row()]))
    require(reply, 500, "its log tells which")
    assert b"Traceback" not in reply.body
    assert b".py" not in reply.body
    assert {name: reply.headers.get(name.lower()) for name in HEADERS} == HEADERS
    assert "Traceback" in capfd.readouterr().err


@pytest.mark.parametrize(
    "path", ["/", "/page.css", "/page.js", "/favicon.ico", "/samples", "/openapi.json", "/version"]
)
def test_answers__carry_headers_that_bind_a_browser(url: str, path: str) -> None:
    reply = send(url, None, path=path, method="GET")
    require(reply, 200)
    assert {name: reply.headers[name.lower()] for name in HEADERS} == HEADERS
    assert "server" not in reply.headers


def test_page__names_nothing_from_elsewhere(url: str) -> None:
    for path in ("/", "/page.css", "/page.js"):
        text = send(url, None, path=path, method="GET").body.decode()
        assert "http:" not in text
        assert "https:" not in text
        assert "//cdn" not in text


@pytest.mark.parametrize(
    "path", ["/what-was-sent", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/docs", "/redoc"]
)
def test_routes__others_are_404_and_not_repeated(url: str, path: str) -> None:
    reply = send(url, None, path=path, method="GET")
    require(reply, 404)
    assert b"what-was-sent" not in reply.body
    assert b"root:" not in reply.body


def test_routes__a_wrong_method_is_405(url: str) -> None:
    require(send(url, None, method="GET"), 405)
    require(send(url, b"", path="/livez"), 405)


def test_metrics__count_what_happened(url: str) -> None:
    send(url, make_body([make_row(), {"image": 0}]))
    text = send(url, None, path="/metrics", method="GET").body.decode()
    for name in (
        'requests_total{status="200"}',
        'rows_total{status="error"}',
        "positive_rows_total",
        "batch_slices_bucket",
        "request_seconds_bucket",
    ):
        assert f"tumor_cascade_{name}" in text


def test_model__tells_what_is_served_and_the_limits_of_a_request(url: str) -> None:
    facts = send(url, None, path="/model", method="GET").json
    assert (facts["content_id"], facts["model_version"]) == (CONTENT_ID, 4)
    assert facts["limits"]["max_body_bytes"] == MAX_BODY_BYTES
    assert facts["limits"]["max_rows"] >= 1
    assert facts["settings"]["gate_threshold"] == 0.0
