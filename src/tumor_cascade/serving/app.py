"""The application: `/invocations` as MLflow's server has it, hardened; probes, metrics and a page for people.

A request passes, in this order: its body is read, within bounds; it takes one of a few places; a thread parses and
answers it. No answer holds a trace, a path, or what was sent, ids apart.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tumor_cascade import RESEARCH_USE, __version__
from tumor_cascade.errors import TumorCascadeError
from tumor_cascade.serving.intake import BodyError
from tumor_cascade.serving.page import ASSETS, list_samples
from tumor_cascade.serving.payloads import MediaError
from tumor_cascade.serving.rows import BusyError, RequestError
from tumor_cascade.serving.service import Service

JSON = "application/json"
RETRY_AFTER_S = 1
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
# Names of MLflow's error codes, which its clients know.
CODES = {
    400: "INVALID_PARAMETER_VALUE",
    404: "ENDPOINT_NOT_FOUND",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
}


def build_app(service: Service) -> FastAPI:
    """Return the application around a service, which may still be loading."""
    app = FastAPI(title="tumor-cascade", version=__version__, description=RESEARCH_USE, docs_url=None, redoc_url=None)
    app.add_middleware(SafeHeaders)
    app.add_exception_handler(TumorCascadeError, refuse)
    app.add_exception_handler(HTTPException, refuse_route)
    app.add_exception_handler(Exception, fail)
    invoke = make_invocations(service)
    for path in ("/invocations", "/predict"):
        app.post(path, openapi_extra=DESCRIPTION, summary="Find tumors in slices.")(invoke)
    add_probes(app, service)
    add_page(app)
    return app


def make_invocations(service: Service) -> Callable[[Request], Awaitable[Response]]:
    """Return the handler of prediction requests."""

    async def invocations(request: Request) -> Response:
        status = 500
        try:
            if request.headers.get("content-encoding", "identity") != "identity":
                raise MediaError("compressed bodies are not read here; send the body as it is.")
            async with service.intake.read(request) as body:
                content_type, query = request.headers.get("content-type"), dict(request.query_params)
                with service.take_place():
                    answer = await asyncio.get_running_loop().run_in_executor(
                        service.threads, service.answer, body, content_type, query
                    )
            status = 200
            return Response(answer, media_type=JSON)
        except TumorCascadeError as error:
            status = find_status(error)
            raise
        finally:
            service.monitor.requests.labels(status).inc()

    return invocations


def add_probes(app: FastAPI, service: Service) -> None:
    """Add what orchestrators and Prometheus ask, and what MLflow's server answers besides predictions."""

    @app.get("/livez", summary="Is the process alive?")
    async def livez() -> Response:
        return Response("ok\n", media_type="text/plain")

    @app.get("/readyz", summary="Does it answer predictions?")
    async def readyz() -> Response:
        if service.is_ready:
            return Response("ready\n", media_type="text/plain")
        return Response("not ready\n", 503, {"Retry-After": str(RETRY_AFTER_S)}, "text/plain")

    for path in ("/ping", "/health"):
        app.get(path, include_in_schema=False)(readyz)

    @app.get("/metrics", summary="Metrics for Prometheus.")
    async def metrics() -> Response:
        return Response(service.monitor.render(), media_type="text/plain; version=0.0.4")

    @app.get("/version", summary="Version of this package.")
    async def version() -> Response:
        return Response(__version__, media_type=JSON)

    @app.get("/model", summary="What is served, its numbers, and the limits of a request.")
    async def model() -> Response:
        engine = service.require_engine()
        limits = {**asdict(engine.limits), "max_body_bytes": service.intake.max_body_bytes}
        facts = {
            **asdict(engine.identity),
            "settings": engine.cascade.settings.to_json(),
            "limits": limits,
            "intended_use": RESEARCH_USE,
        }
        return Response(json.dumps(facts), media_type=JSON)


def add_page(app: FastAPI) -> None:
    """Add the page and its samples."""
    for path, (content, media_type) in ASSETS.items():
        app.get(path, include_in_schema=False)(make_static(content, media_type))

    @app.get("/samples", summary="Made-up slices to try.")
    async def samples() -> Response:
        return Response(await asyncio.to_thread(list_samples), media_type=JSON)


def make_static(content: bytes, media_type: str) -> Callable[[], Awaitable[Response]]:
    """Return a handler that always gives the same content."""

    async def give() -> Response:
        return Response(content, media_type=media_type)

    return give


def find_status(error: Exception) -> int:
    """Return the HTTP status of an error."""
    if isinstance(error, BodyError):
        return error.status
    kinds = {RequestError: 400, MediaError: 415, BusyError: 503}
    return next((status for kind, status in kinds.items() if isinstance(error, kind)), 500)


async def refuse(request: Request, error: Exception) -> Response:
    """Answer a request that cannot be answered, with what is wrong and what to do."""
    return answer_error(find_status(error), str(error))


async def refuse_route(request: Request, error: Exception) -> Response:
    """Answer a request for something that is not here."""
    status = error.status_code if isinstance(error, HTTPException) else 404
    return answer_error(status, f"{HTTPStatus(status).phrase}: see /openapi.json for what is here.")


async def fail(request: Request, error: Exception) -> Response:
    """Answer where this code is wrong; the traceback goes to the log alone."""
    response = answer_error(500, "the server has made a mistake; its log tells which.")
    response.headers.update(HEADERS)  # sent from outside of `SafeHeaders`
    return response


def answer_error(status: int, message: str) -> Response:
    """Return an error as MLflow's clients read it."""
    code = CODES.get(status, HTTPStatus(status).name)
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else {}
    if status in (408, 413):
        headers["Connection"] = "close"  # what is left of the body is not waited for
    return Response(json.dumps({"error_code": code, "message": message}), status, headers, JSON)


class SafeHeaders:
    """Adds headers that keep a browser from doing more than it should to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""

        async def send_safe(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await self.app(scope, receive, send_safe)


_ROW = {
    "type": "object",
    "required": ["image"],
    "properties": {
        "image": {"type": "string", "format": "byte", "description": "base64 of a PNG, TIFF or NPY file"},
        "id": {"type": "string"},
        "volume_id": {"type": "string"},
        "slice_index": {"type": "integer", "minimum": 0},
    },
}
_EXAMPLE: dict[str, Any] = {"dataframe_records": [{"image": "iVBORw0KGgo...", "id": "a"}], "params": {"mask": "none"}}
DESCRIPTION = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {
                "schema": {
                    "type": "object",
                    "properties": {
                        "dataframe_records": {"type": "array", "items": _ROW},
                        "params": {"type": "object"},
                    },
                },
                "example": _EXAMPLE,
            },
            "text/csv": {"schema": {"type": "string"}},
            "application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
