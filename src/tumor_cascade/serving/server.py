"""`tumor-cascade serve`: the application behind uvicorn, with connections that cannot be held for nothing."""

import asyncio
import socket
import threading
from pathlib import Path

import torch
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from tumor_cascade.errors import ParamsError
from tumor_cascade.product import CASCADE_NAME, load_cascade, read_artifact_json
from tumor_cascade.serving.answers import Identity
from tumor_cascade.serving.app import build_app
from tumor_cascade.serving.batching import BatchObserver
from tumor_cascade.serving.engine import Engine
from tumor_cascade.serving.limits import Limits
from tumor_cascade.serving.service import Load, Loaded, Service
from tumor_cascade.settings import choose_device
from tumor_cascade.storage import CONTENT_NAME

MAX_CONNECTIONS = 256
HEADER_TIMEOUT_S = 10.0
REQUEST_TIMEOUT_S = 120.0  # from the first header to the last byte of the answer that the client takes
KEEP_ALIVE_S = 5
MAX_HEADER_BYTES = 16 * 1024
STOP_TIMEOUT_S = 30


class BoundedProtocol(H11Protocol):
    """HTTP of a connection that is closed unless requests come and answers are taken within a time."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, as long as there are not too many."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        self._set_timer(HEADER_TIMEOUT_S)

    def data_received(self, data: bytes) -> None:
        """Take bytes; a request that has begun has its own time, one whose header is not complete that of headers."""
        was_waiting = self._is_waiting()
        super().data_received(data)
        if was_waiting and not self._is_waiting():
            self._set_timer(REQUEST_TIMEOUT_S)
        elif self._timer is None:
            self._set_timer(HEADER_TIMEOUT_S)

    def on_response_complete(self) -> None:
        """Leave the connection to the keep-alive time, or to the request that came behind."""
        self._set_timer(None)
        super().on_response_complete()
        if not self._is_waiting():
            self._set_timer(REQUEST_TIMEOUT_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._set_timer(None)
        super().connection_lost(exc)

    def _is_waiting(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _set_timer(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self.transport.abort)


def open_folder(cascade: Path, model_version: int | None = None) -> Load:
    """Return what loads a packed cascade.

    Args:
        cascade: Packed product.
        model_version: In the registry, where it comes from there.
    """

    def load(observe_batch: BatchObserver) -> Loaded:
        content_id = str(read_artifact_json(cascade / CONTENT_NAME).get("content_id"))
        loaded = load_cascade(cascade).to(torch.device(choose_device()))
        engine = Engine(loaded, Identity(content_id, model_version), Limits(), observe_batch)
        return Loaded(engine, read_artifact_json(cascade / CASCADE_NAME).get("reference"))

    return load


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        ParamsError: It cannot.
    """
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ParamsError(f"{host}:{port} cannot be listened on ({error.strerror}); choose another --port.") from error


def build_server(service: Service) -> uvicorn.Server:
    """Return a server of the application around a service; it takes its socket when it runs."""
    return uvicorn.Server(
        uvicorn.Config(
            build_app(service),
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=STOP_TIMEOUT_S,
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        )
    )


def serve(load: Load, host: str, port: int, max_body_bytes: int, max_requests: int) -> None:
    """Serve until stopped; the server listens at once and says that it is ready once the cascade is loaded.

    Args:
        load: Loads what is served.
        host: Address to listen on.
        port: To listen on.
        max_body_bytes: Of a request.
        max_requests: That are answered at the same time.

    Raises:
        ParamsError: Somebody else listens there.
        TumorCascadeError: What is served cannot be loaded.
    """
    listener = listen(host, port)
    service = Service(max_body_bytes, max_requests)
    server = build_server(service)
    failures: list[BaseException] = []

    def get_ready() -> None:
        try:
            service.load(load)
        except BaseException as error:
            failures.append(error)
            server.should_exit = True

    loader = threading.Thread(target=get_ready, name="load", daemon=True)
    loader.start()
    try:
        server.run(sockets=[listener])
    finally:
        service.close()
    if failures:
        raise failures[0]
