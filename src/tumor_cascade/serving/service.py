"""The work behind the application: an engine that comes when it is loaded, a few places, threads, counters."""

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tumor_cascade.serving.batching import BatchObserver
from tumor_cascade.serving.engine import Engine
from tumor_cascade.serving.intake import Intake
from tumor_cascade.serving.monitoring import Monitor
from tumor_cascade.serving.parquet import ParquetReader
from tumor_cascade.serving.payloads import read_payload
from tumor_cascade.serving.rows import BusyError

BODY_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Loaded:
    """What is served.

    Attributes:
        engine: Warm.
        reference: What development data looked like, from the product; None if it does not say.
    """

    engine: Engine
    reference: Mapping[str, Any] | None


# Given what is to be told of every batch.
Load = Callable[[BatchObserver], Loaded]


class Service:
    """Answers bodies.

    Args:
        max_body_bytes: Of a request.
        max_requests: That are answered at the same time; others are told to come again.
    """

    def __init__(self, max_body_bytes: int, max_requests: int) -> None:
        self.intake = Intake(max_body_bytes, BODY_TIMEOUT_S)
        self.monitor = Monitor(max_requests)
        self.threads = ThreadPoolExecutor(max_requests, thread_name_prefix="request")
        self._num_places = max_requests
        self._engine: Engine | None = None
        self._read_parquet: ParquetReader | None = None

    @property
    def is_ready(self) -> bool:
        """Whether predictions are answered."""
        return self._engine is not None and self._engine.is_alive

    def load(self, load: Load) -> None:
        """Get ready."""
        loaded = load(self.monitor.observe_batch)
        if loaded.reference is not None:
            self.monitor.compare(loaded.reference)
        self._read_parquet = ParquetReader(loaded.engine.limits.max_rows, 2 * self.intake.max_body_bytes)
        self._engine = loaded.engine

    def close(self) -> None:
        """Stop."""
        if self._engine is not None:
            self._engine.close()
        if self._read_parquet is not None:
            self._read_parquet.close()
        self.threads.shutdown(cancel_futures=True)

    def require_engine(self) -> Engine:
        """Return the engine.

        Raises:
            BusyError: It is not loaded yet, or stopped.
        """
        if self._engine is None or not self._engine.is_alive:
            raise BusyError("the server is not ready; ask again later.")
        return self._engine

    @contextmanager
    def take_place(self) -> Iterator[None]:
        """Take one of the places while the block runs; only called from the event loop's thread.

        Raises:
            BusyError: All are taken.
        """
        if not self._num_places:
            raise BusyError("as many requests as can be are answered now; ask again later.")
        self._num_places -= 1
        try:
            with self.monitor.in_flight.track_inprogress():
                yield
        finally:
            self._num_places += 1

    def answer(self, body: bytes, content_type: str | None, query: Mapping[str, str]) -> bytes:
        """Return the answer to a body as JSON; runs in a thread.

        Raises:
            MediaError: The body is of a type that is not read here.
            RequestError: The request as a whole is wrong.
            BusyError: It cannot be answered in time.
        """
        engine = self.require_engine()
        assert self._read_parquet is not None
        with self.monitor.request_seconds.time():
            records, params = read_payload(body, content_type, query, self._read_parquet)
            answers = engine.answer(records, params, can_have_pictures=True, observe=self.monitor.observe_volume)
            self.monitor.observe_answers(answers)
            return json.dumps({"predictions": answers}, allow_nan=False).encode()
