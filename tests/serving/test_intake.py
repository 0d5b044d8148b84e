import asyncio

import pytest
from starlette.requests import Request
from starlette.types import Message

from tumor_cascade.serving import intake as intake_module
from tumor_cascade.serving.intake import BodyError, Intake


def make_request(num_chunks: int, chunk: bytes) -> Request:
    """Return a request whose body comes in chunks, of a length that its head does not name."""
    messages = [{"type": "http.request", "body": chunk, "more_body": n + 1 < num_chunks} for n in range(num_chunks)]
    rest = iter(messages)

    async def receive() -> Message:
        return next(rest)

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


async def read(intake: Intake, request: Request) -> bytes:
    async with intake.read(request) as body:
        return body


@pytest.mark.parametrize("max_body_bytes", [500, 1000])
def test_read__what_is_longer_than_would_be_dropped_is_never_taken_as_whole(
    max_body_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "MAX_DROPPED_BYTES", 1000)
    intake = Intake(max_body_bytes, timeout_s=5)
    assert len(asyncio.run(read(intake, make_request(5, b"a" * 100)))) == 500
    for num_chunks in (11, 20):
        with pytest.raises(BodyError, match="larger than") as caught:
            asyncio.run(read(intake, make_request(num_chunks, b"a" * 100)))
        assert caught.value.status == 413
