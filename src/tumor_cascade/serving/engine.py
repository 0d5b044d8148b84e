"""Rows in, answers out: images are decoded apart, put into volumes, predicted in batches and answered row by row."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tumor_cascade.data.phantom import generate_patient
from tumor_cascade.models.cascade import Cascade, VolumePrediction
from tumor_cascade.models.decision import CascadeSettings
from tumor_cascade.params import PhantomParams
from tumor_cascade.serving.answers import Identity, describe_row, describe_volume
from tumor_cascade.serving.batching import Batcher, BatchObserver
from tumor_cascade.serving.forward import Volume, predict_volumes
from tumor_cascade.serving.limits import Limits
from tumor_cascade.serving.rows import THRESHOLDS, BusyError, Options, RequestError, read_options, read_rows
from tumor_cascade.serving.volumes import decode_rows, group_volumes

WARM_UP = PhantomParams(num_patients=4, num_slices=8, image_size_px=256, seed=1)
WARM_UP_SLICES = 4
SHARE_OF_TIMEOUT = 0.5  # that the largest request may take when nobody else asks
# The images of a volume, uint8 `(Z, 3, H, W)`, and what was said of them.
VolumeObserver = Callable[[NDArray[np.uint8], VolumePrediction], None]


class Engine:
    """Answers requests from any number of threads.

    Args:
        cascade: On its device.
        identity: Stands in each answer.
        limits: Of requests.
        observe_batch: Told of every batch.

    Attributes:
        limits: With the number of rows that this machine answers in time.
    """

    def __init__(
        self,
        cascade: Cascade,
        identity: Identity,
        limits: Limits,
        observe_batch: BatchObserver = lambda num_slices, seconds: None,
    ) -> None:
        self.cascade, self.identity = cascade, identity
        self.seconds_per_slice = warm_up(cascade)
        affordable = int(SHARE_OF_TIMEOUT * limits.timeout_s / self.seconds_per_slice)
        self.limits = replace(limits, max_rows=max(1, min(limits.max_rows, affordable)))
        self._decoders = ThreadPoolExecutor(limits.num_decoders, thread_name_prefix="decode")
        self._batcher = Batcher(lambda volumes: predict_volumes(cascade, volumes), limits, observe_batch)

    @property
    def is_alive(self) -> bool:
        """Whether requests are answered."""
        return self._batcher.is_alive

    def close(self) -> None:
        """Stop answering."""
        self._batcher.close()
        self._decoders.shutdown(cancel_futures=True)

    def answer(
        self,
        records: object,
        params: object,
        *,
        can_have_pictures: bool = False,
        observe: VolumeObserver = lambda images, prediction: None,
    ) -> list[dict[str, Any]]:
        """Return an answer per row, in the order of the rows.

        Args:
            records: As `read_rows` takes them.
            params: As `read_options` takes them.
            can_have_pictures: See there.
            observe: Told of every volume that was predicted.

        Raises:
            RequestError: The request as a whole is wrong.
            BusyError: It cannot be answered in time.
        """
        deadline = time.monotonic() + self.limits.timeout_s
        options = read_options(params, can_have_pictures=can_have_pictures)
        rows = read_rows(records, self.limits.max_rows)
        if options.has_pictures and len(rows) > self.limits.max_picture_rows:
            raise RequestError(
                f"pictures are drawn of at most {self.limits.max_picture_rows} rows; send fewer at a time."
            )
        found, places = group_volumes(decode_rows(rows, self.limits, self._decoders))
        stacks = [np.stack([image for place in one if (image := found[place].image) is not None]) for one in places]
        answers = [describe_row(one.row, self.identity, status="error", error=one.fault) for one in found]
        predictions = self._predict(stacks, override(self.cascade.settings, options), deadline)
        for one, images, prediction in zip(places, stacks, predictions, strict=True):
            observe(images, prediction)
            told = describe_volume([rows[place] for place in one], images, prediction, self.identity, options)
            for place, answer in zip(one, told, strict=True):
                answers[place] = answer
        return answers

    def _predict(
        self, stacks: Sequence[NDArray[np.uint8]], settings: CascadeSettings, deadline: float
    ) -> list[VolumePrediction]:
        if self._batcher.num_waiting * self.seconds_per_slice > self.limits.timeout_s:
            raise BusyError("too many slices are waiting; ask again later.")
        answers = self._batcher.submit([Volume(images, settings) for images in stacks])
        late = wait(answers, timeout=max(0.0, deadline - time.monotonic())).not_done
        for answer in late:
            answer.cancel()
        if late:
            raise BusyError("the answer took too long; send fewer rows at a time, or ask again later.")
        try:
            return [answer.result() for answer in answers]
        except CancelledError as error:
            raise BusyError("the server is stopping; ask again later.") from error


def override(settings: CascadeSettings, options: Options) -> CascadeSettings:
    """Return a product's settings with the thresholds that a request asks for."""
    given = {name: getattr(options, name) for name in THRESHOLDS}
    return replace(settings, **{name: value for name, value in given.items() if value is not None})


def warm_up(cascade: Cascade) -> float:
    """Run a cascade on made-up slices, every one segmented; return the seconds that one takes once all is warm."""
    images = np.stack([one.image for one in generate_patient(WARM_UP, 1).slices[:WARM_UP_SLICES]])
    volumes = [Volume(one[None], replace(cascade.settings, gate_threshold=0.0)) for one in images]
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        predict_volumes(cascade, volumes)
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:]) / len(volumes)
