"""Reading the log that a training writes beside its checkpoint, also while it is being written."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tumor_cascade.settings import get_checkpoints_dir

PROGRESS_NAME, ID_LENGTH = "progress.jsonl", 16  # as `training` names them, whose modules would bring torch along
SUMMARY_KEYS = ("time", "seconds", "images_per_s", "device", "peak_memory_bytes")


@dataclass(frozen=True)
class Progress:
    """How far a training has come.

    Attributes:
        header: Who trains what: `stage`, `fold`, `content_id`, `time` of the last start.
        started: Unix time of the first start.
        epochs: Per epoch `epoch`, `SUMMARY_KEYS` and its metrics; of one that was computed twice the last.
    """

    header: dict[str, Any]
    started: float
    epochs: list[dict[str, Any]]

    @property
    def content_id(self) -> str:
        """Name of the content that is trained."""
        return str(self.header["content_id"])

    def list_metrics(self) -> list[tuple[str, float, float, int]]:
        """Return all curves as (metric, value, Unix time, epoch)."""
        return [
            (name, float(value), float(epoch["time"]), int(epoch["epoch"]))
            for epoch in self.epochs
            for name, value in sorted(epoch.items(), key=_order_metric)
            if name not in (*SUMMARY_KEYS, "epoch")
        ]

    def summarize(self) -> dict[str, Any]:
        """Return median speed, device, peak memory and length of all epochs together; {} without any."""
        if not self.epochs:
            return {}
        speeds = sorted(float(epoch["images_per_s"]) for epoch in self.epochs)
        return {
            "images_per_s": speeds[len(speeds) // 2],
            "device": self.epochs[-1]["device"],
            "peak_memory_bytes": max(int(epoch["peak_memory_bytes"]) for epoch in self.epochs),
            "seconds": round(sum(float(epoch["seconds"]) for epoch in self.epochs), 1),
        }


def _order_metric(item: tuple[str, Any]) -> tuple[bool, str]:
    """Sort validation first: MLflow's comparison opens with the metric that was logged first."""
    return (not item[0].startswith("val_"), item[0])


def read_progress(path: Path) -> Progress | None:
    """Return a training's log, or None where it has none; a line that is just being written is left out."""
    lines = []
    try:
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                continue
    except OSError:
        return None
    headers = [line for line in lines if "content_id" in line]
    if not headers:
        return None
    epochs = {line["epoch"]: line for line in lines if "epoch" in line}
    return Progress(headers[-1], headers[0]["time"], [epochs[number] for number in sorted(epochs)])


def find_progress(stage: str, content_id: str) -> Progress | None:
    """Return the log of the training of a content, if it is on this machine."""
    return read_progress(get_checkpoints_dir() / stage / content_id[:ID_LENGTH] / PROGRESS_NAME)


def find_running(stage: str, fold: int | None, since: float) -> Progress | None:
    """Return the log of the training that started last, at or after a Unix time."""
    paths = (get_checkpoints_dir() / stage).glob(f"*/{PROGRESS_NAME}")
    found = [progress for path in paths if (progress := read_progress(path)) is not None]
    found = [one for one in found if one.header.get("fold") == fold and one.header["time"] >= since]
    return max(found, key=lambda one: float(one.header["time"]), default=None)
