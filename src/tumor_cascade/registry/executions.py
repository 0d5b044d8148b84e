"""Records of executed stages: facts that are no part of any artifact, for trackers and for who asks later.

`runs/<stage>/<content_id>.json` says when and where an output was made and from which commit. While a stage runs, its
record is `runs/<stage>/running-<pid>.json`.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tumor_cascade.registry.recipe import Recipe
from tumor_cascade.settings import get_runs_dir

Status = Literal["running", "finished", "failed"]


@dataclass(frozen=True)
class Execution:
    """One execution of a stage.

    Attributes:
        stage: Its name.
        fold: Of a training.
        started: Unix time in seconds.
        ended: The same; None while it runs.
        status: How it stands.
        pid: Process id on `host`.
        paths: Flag -> absolute path, as `slices`, `out_report`.
        content_id: Of the output; None until there is one.
        pipeline: What the whole pipeline is made of, where that is known.
        commit: Of the code; None where it is in no repository.
        is_dirty: Whether files that make results differ from the commit; params.yaml and dvc.lock, which commands write
            and every output records, apart. None where there is no commit.
        image_digest: Of the container image, where the environment names it.
        host: Name of the machine.
        device: Where networks ran, `cpu` or the GPU's name.
        peak_memory_bytes: Of the process.
        injected_run_id: MLflow run that the caller had opened already.
    """

    stage: str
    fold: int | None
    started: float
    pid: int
    paths: dict[str, str]
    host: str
    status: Status = "running"
    ended: float | None = None
    content_id: str | None = None
    pipeline: dict[str, Any] | None = None
    commit: str | None = None
    is_dirty: bool | None = None
    image_digest: str | None = None
    device: str | None = None
    peak_memory_bytes: int | None = None
    injected_run_id: str | None = None
    params: dict[str, Any] = field(default_factory=dict)

    @property
    def recipe(self) -> Recipe | None:
        """Return the pipeline as an object."""
        return None if self.pipeline is None else Recipe(**self.pipeline)


def is_running(pid: int) -> bool:
    """Say whether a process of this machine lives."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def read_execution(path: Path) -> Execution | None:
    """Return a record, or None where there is none that can be read."""
    try:
        return Execution(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def find_execution(stage: str, content_id: str) -> Execution | None:
    """Return the record of what made an output on this machine, if there is one."""
    return read_execution(get_runs_dir() / stage / f"{content_id}.json")
