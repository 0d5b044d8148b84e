"""Micro-batching: one worker thread lets the networks see slices of several requests at a time.

Requests take turns, a volume each, so a request of many volumes does not hold up one of a single slice.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from tumor_cascade.models.cascade import VolumePrediction
from tumor_cascade.serving.forward import Volume
from tumor_cascade.serving.limits import Limits
from tumor_cascade.serving.rows import BusyError

Forward = Callable[[Sequence[Volume]], list[VolumePrediction]]
Answer = Future[VolumePrediction]
# Number of slices, seconds.
BatchObserver = Callable[[int, float], None]


class Batcher:
    """Collects volumes of concurrent requests and computes them together.

    Args:
        forward: Predicts several volumes; called from one thread alone.
        limits: Size of a batch, and how long one that is not full waits.
        observe: Told of every batch.
    """

    def __init__(self, forward: Forward, limits: Limits, observe: BatchObserver) -> None:
        self._forward, self._limits, self._observe = forward, limits, observe
        self._requests: deque[deque[tuple[Volume, Answer]]] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._worker = threading.Thread(target=self._work, name="forward", daemon=True)
        self._worker.start()

    @property
    def is_alive(self) -> bool:
        """Whether volumes are still computed."""
        return self._worker.is_alive() and not self._is_closed

    @property
    def num_waiting(self) -> int:
        """Slices that wait for their turn."""
        with self._changed:
            return sum(len(volume.images) for request in self._requests for volume, _ in request)

    def submit(self, volumes: Sequence[Volume]) -> list[Answer]:
        """Queue the volumes of one request; one that is given up is cancelled by its `Future.cancel`.

        Raises:
            BusyError: The batcher is closed.
        """
        request: deque[tuple[Volume, Answer]] = deque((volume, Future()) for volume in volumes)
        answers = [answer for _, answer in request]
        with self._changed:
            if self._is_closed:
                raise BusyError("the server is stopping; ask again later.")
            if request:
                self._requests.append(request)
                self._changed.notify()
        return answers

    def close(self) -> None:
        """Stop; volumes that still wait are given up."""
        with self._changed:
            self._is_closed = True
            for request in self._requests:
                for _, answer in request:
                    answer.cancel()
            self._requests.clear()
            self._changed.notify()
        self._worker.join()

    def _work(self) -> None:
        while batch := self._collect():
            started = time.perf_counter()
            self._compute(batch)
            self._observe(sum(len(volume.images) for volume, _ in batch), time.perf_counter() - started)

    def _collect(self) -> list[tuple[Volume, Answer]]:
        """Return the next batch; an empty one once the batcher is closed."""
        batch: list[tuple[Volume, Answer]] = []
        deadline = None
        with self._changed:
            while not self._is_closed:
                while self._requests and (not batch or self._measure([*batch, self._requests[0][0]]) <= 1):
                    request = self._requests.popleft()
                    volume, answer = request.popleft()
                    if request:
                        self._requests.append(request)
                    if answer.set_running_or_notify_cancel():
                        batch.append((volume, answer))
                if not batch:
                    self._changed.wait()
                    continue
                deadline = deadline or time.monotonic() + self._limits.window_s
                if self._requests or self._measure(batch) >= 1 or not self._changed.wait(deadline - time.monotonic()):
                    break
        return batch

    def _measure(self, batch: list[tuple[Volume, Answer]]) -> float:
        """Return how much of a batch some volumes are: 1 is a full one."""
        images = [volume.images for volume, _ in batch]
        num_slices, num_px = sum(map(len, images)), sum(one[:, 0].size for one in images)
        return max(num_slices / self._limits.max_batch_slices, num_px / self._limits.max_batch_px)

    def _compute(self, batch: list[tuple[Volume, Answer]]) -> None:
        """Answer a batch; where it cannot be computed as a whole, each volume by itself, so that none fails others."""
        try:
            predictions = self._forward([volume for volume, _ in batch])
        except Exception as error:
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
            for one in batch:
                self._compute([one])
            return
        for (_, answer), prediction in zip(batch, predictions, strict=True):
            answer.set_result(prediction)
