"""A training's log: a line of JSON per epoch beside its checkpoint, for people and trackers; part of no artifact."""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch

PROGRESS_NAME = "progress.jsonl"


class ProgressLog:
    """Appends to the log of one training. A kill may leave an epoch twice: the last line counts.

    Args:
        folder: Of the training's checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / PROGRESS_NAME
        self.started = time.monotonic()

    def start(self, facts: dict[str, Any]) -> None:
        """Write who trains what; a resumed training writes it again."""
        self._append({**facts, "time": time.time()})

    def start_epoch(self) -> None:
        """Take the time."""
        self.started = time.monotonic()

    def end_epoch(self, metrics: dict[str, float], num_images: int, device: torch.device) -> None:
        """Write an epoch's metrics, seconds, images/s (training and validation together) and peak memory."""
        seconds = time.monotonic() - self.started
        facts = {
            "time": time.time(),
            "seconds": round(seconds, 3),
            "images_per_s": round(num_images / seconds, 2),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "peak_memory_bytes": measure_peak_memory(device),
        }
        self._append({**metrics, **facts})

    def _append(self, line: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(line, sort_keys=True) + "\n")


def measure_peak_memory(device: torch.device) -> int:
    """Return the most memory used so far in bytes: the GPU's where one trains, else the process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
