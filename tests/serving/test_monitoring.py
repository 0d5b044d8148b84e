import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tumor_cascade.data.manifest import SEQUENCES
from tumor_cascade.serving.monitoring import Monitor, measure_outside, measure_shift

QUANTILES = {0.01: 10.0, 0.25: 20.0, 0.5: 25.0, 0.75: 30.0, 0.99: 40.0}
REFERENCE: dict[str, Any] = {
    "positive_rate": 0.4,
    "quantiles": {f"{name}_mean": {str(q): value for q, value in QUANTILES.items()} for name in SEQUENCES},
}


def test_measure_shift__is_in_interquartile_ranges() -> None:
    assert measure_shift([25.0], QUANTILES) == 0
    assert measure_shift([30.0, 35.0, 100.0], QUANTILES) == 1  # (35 - 25) / (30 - 20)
    assert math.isnan(measure_shift([], QUANTILES))
    assert math.isnan(measure_shift([1.0], dict.fromkeys(QUANTILES, 5.0)))


def test_measure_outside__counts_what_98_percent_of_the_reference_are_not() -> None:
    assert measure_outside([10.0, 40.0, 9.9, 40.1], QUANTILES) == 0.5
    assert math.isnan(measure_outside([], QUANTILES))


def test_monitor__tells_how_recent_inputs_differ_from_development() -> None:
    monitor = Monitor(max_requests=8)
    monitor.compare(REFERENCE)
    images = np.stack([np.full((4, 4), level, np.uint8) for level in (25, 35, 50)])[None].repeat(4, axis=0)
    prediction: Any = SimpleNamespace(is_positive=np.array([True, False, False, False]))
    monitor.observe_volume(images, prediction)

    def read(name: str, **labels: str) -> float | None:
        return monitor.registry.get_sample_value(f"tumor_cascade_{name}", labels)

    assert read("recent_slices") == 4
    assert read("positive_rate") == 0.25
    assert read("reference_positive_rate") == 0.4
    assert [read("input_shift", sequence=name) for name in SEQUENCES] == [0, 1, 2.5]
    assert [read("input_outside_share", sequence=name) for name in SEQUENCES] == [0, 0, 1]


def test_monitor__counts_batches_rows_and_positives() -> None:
    monitor = Monitor(max_requests=8)
    monitor.observe_batch(3, 0.2)
    monitor.observe_answers(
        [
            {"status": "ok", "is_positive": True},
            {"status": "ok", "is_positive": False},
            {"status": "error", "is_positive": None},
        ]
    )
    text = monitor.render().decode()
    for line in (
        'tumor_cascade_batch_slices_bucket{le="4.0"} 1.0',
        "tumor_cascade_batch_seconds_sum 0.2",
        'tumor_cascade_rows_total{status="ok"} 2.0',
        'tumor_cascade_rows_total{status="error"} 1.0',
        "tumor_cascade_positive_rows_total 1.0",
        "tumor_cascade_requests_limit 8.0",
    ):
        assert line in text


def test_monitor__without_a_reference_tells_of_no_drift() -> None:
    assert "input_shift" not in Monitor(max_requests=8).render().decode()


@pytest.mark.parametrize("name", ["requests_total", "request_seconds_bucket", "requests_in_flight"])
def test_monitor__knows_requests(name: str) -> None:
    monitor = Monitor(max_requests=8)
    monitor.requests.labels(200).inc()
    assert f"tumor_cascade_{name}" in monitor.render().decode()
