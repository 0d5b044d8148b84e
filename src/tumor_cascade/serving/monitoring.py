"""What Prometheus is told: requests, batches, positives, and how far inputs are from what the cascade was made with."""

import statistics
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from tumor_cascade.data.manifest import SEQUENCES
from tumor_cascade.models.cascade import VolumePrediction

PREFIX = "tumor_cascade"
NUM_RECENT = 500  # slices that drift is measured on
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
SLICES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
# Grey levels, quantiles of a reference -> how they differ.
Measure = Callable[[list[float], Mapping[float, float]], float]


class Monitor:
    """Counts what happens; its methods may be called from any thread.

    Args:
        max_requests: That are answered at the same time.
    """

    def __init__(self, max_requests: int) -> None:
        self.registry = CollectorRegistry()
        made: dict[str, Any] = {"namespace": PREFIX, "registry": self.registry}
        self.requests = Counter("requests", "Requests for predictions, by HTTP status.", ["status"], **made)
        self.request_seconds = Histogram(
            "request_seconds", "From the whole body to the answer.", buckets=SECONDS, **made
        )
        self.in_flight = Gauge("requests_in_flight", "Requests that are answered now.", **made)
        Gauge("requests_limit", "Requests that are answered at the same time.", **made).set(max_requests)
        self.rows = Counter("rows", "Rows answered, by status.", ["status"], **made)
        self.positives = Counter("positive_rows", "Rows that were called positive.", **made)
        self.batch_slices = Histogram("batch_slices", "Slices that networks see at a time.", buckets=SLICES, **made)
        self.batch_seconds = Histogram("batch_seconds", "Seconds that a batch takes.", buckets=SECONDS, **made)
        self._recent: deque[tuple[NDArray[np.float64], bool]] = deque(maxlen=NUM_RECENT)

    def observe_batch(self, num_slices: int, seconds: float) -> None:
        """Count a batch."""
        self.batch_slices.observe(num_slices)
        self.batch_seconds.observe(seconds)

    def observe_volume(self, images: NDArray[np.uint8], prediction: VolumePrediction) -> None:
        """Remember the mean grey levels of the slices of a volume `(Z, 3, H, W)`, and how they were called."""
        self._recent.extend(zip(images.mean(axis=(2, 3)), prediction.is_positive.tolist(), strict=True))

    def observe_answers(self, answers: list[dict[str, Any]]) -> None:
        """Count the rows of an answer."""
        for answer in answers:
            self.rows.labels(answer["status"]).inc()
        self.positives.inc(sum(bool(answer["is_positive"]) for answer in answers))

    def compare(self, reference: Mapping[str, Any]) -> None:
        """Tell from now on how recent inputs differ from a product's `reference`; see `assemble_cascade`."""
        made: dict[str, Any] = {"namespace": PREFIX, "registry": self.registry}
        recent = Gauge("recent_slices", f"Slices that drift is measured on, at most {NUM_RECENT}.", **made)
        recent.set_function(lambda: len(self._recent))
        rate = Gauge("positive_rate", "Share of recent slices that were called positive.", **made)
        rate.set_function(lambda: mean_or_nan([is_positive for _, is_positive in list(self._recent)]))
        Gauge("reference_positive_rate", "Share of the development slices that show tumor.", **made).set(
            reference["positive_rate"]
        )
        shift = Gauge(
            "input_shift",
            "Median grey level of recent slices minus that of development, in interquartile ranges of development.",
            ["sequence"],
            **made,
        )
        outside = Gauge(
            "input_outside_share",
            "Share of recent slices darker or brighter than 98 % of development; 0.02 is as expected.",
            ["sequence"],
            **made,
        )
        for channel, name in enumerate(SEQUENCES):
            quantiles = {float(q): value for q, value in reference["quantiles"][f"{name}_mean"].items()}
            shift.labels(name).set_function(partial(self._measure, measure_shift, channel, quantiles))
            outside.labels(name).set_function(partial(self._measure, measure_outside, channel, quantiles))

    def render(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def _measure(self, measure: Measure, channel: int, quantiles: Mapping[float, float]) -> float:
        return measure([float(levels[channel]) for levels, _ in list(self._recent)], quantiles)


def measure_shift(levels: list[float], quantiles: Mapping[float, float]) -> float:
    """Return how far the median of some levels is from a reference's, in its interquartile ranges; NaN without any."""
    spread = quantiles[0.75] - quantiles[0.25]
    if not levels or spread == 0:
        return float("nan")
    return (statistics.median(levels) - quantiles[0.5]) / spread


def measure_outside(levels: list[float], quantiles: Mapping[float, float]) -> float:
    """Return the share of levels outside a reference's 1st to 99th percentile; NaN without any."""
    return mean_or_nan([not quantiles[0.01] <= level <= quantiles[0.99] for level in levels])


def mean_or_nan(values: list[bool]) -> float:
    """Return the share of true values; NaN without any."""
    return sum(values) / len(values) if values else float("nan")
