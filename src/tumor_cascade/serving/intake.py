"""Bodies as they come in: bounded in size, in time, and all together, before any of them takes a place in the queue."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request

from tumor_cascade.errors import TumorCascadeError
from tumor_cascade.serving.rows import BusyError

# A client that sends before it reads never sees an early answer, so what is too much is read and dropped up to here.
MAX_DROPPED_BYTES = 256 * 2**20
HELD_BODIES = 16  # as many of the largest size may be held at the same time


class BodyError(TumorCascadeError):
    """A body that is not taken.

    Args:
        text: What is wrong, the rule, what to do.
        status: Of HTTP.
    """

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class Intake:
    """Reads bodies.

    Args:
        max_body_bytes: Of one.
        timeout_s: For one, however slowly it comes.
    """

    def __init__(self, max_body_bytes: int, timeout_s: float) -> None:
        self.max_body_bytes, self.timeout_s = max_body_bytes, timeout_s
        self._held = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """Yield the body of a request; it counts as held until the block is left.

        Raises:
            BodyError: Too large (413), too slow (408), or cut short (400).
            BusyError: Too many are held already.
        """
        parts: list[bytes] = []
        try:
            try:
                async with asyncio.timeout(self.timeout_s):
                    await self._fill(parts, request)
            except TimeoutError as error:
                raise BodyError(f"the body took longer than {self.timeout_s:g} s; send it faster.", 408) from error
            except ClientDisconnect as error:
                raise BodyError("the body was cut short.", 400) from error
            parts[:] = [b"".join(parts)]
            yield parts[0]
        finally:
            self._held -= sum(map(len, parts))

    async def _fill(self, parts: list[bytes], request: Request) -> None:
        refusal = BodyError(
            f"the body is larger than {self.max_body_bytes} bytes; send fewer rows at a time, or write images as PNG.",
            413,
        )
        declared = int(request.headers.get("content-length", "0"))  # h11 has judged it
        is_too_large = declared > self.max_body_bytes
        if is_too_large and ("expect" in request.headers or declared > MAX_DROPPED_BYTES):
            raise refusal
        num_bytes = 0
        async for chunk in request.stream():
            num_bytes += len(chunk)
            is_too_large = is_too_large or num_bytes > self.max_body_bytes
            if num_bytes > MAX_DROPPED_BYTES:
                break
            if is_too_large:
                self._held -= sum(map(len, parts))
                parts.clear()
                continue
            parts.append(chunk)
            self._held += len(chunk)
            if self._held > HELD_BODIES * self.max_body_bytes:
                raise BusyError("too many requests at a time; ask again later.")
        if is_too_large:
            raise refusal
