"""Time per slice."""

from pathlib import Path

import numpy as np

from products import write_product
from tumor_cascade.evaluation.gate_costs import time_networks
from tumor_cascade.product import load_cascade


def test_time_networks__is_some_time(tmp_path: Path) -> None:
    cascade = load_cascade(write_product(tmp_path / "cascade", gate_threshold=0.0))
    costs = time_networks(cascade, np.zeros((3, 3, 40, 40), dtype=np.uint8), num_repeats=2)
    assert 0 < costs.classifier_ms < 10_000 and 0 < costs.segmenter_ms < 10_000
