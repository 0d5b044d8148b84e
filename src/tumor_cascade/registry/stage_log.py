"""Around each stage of the command line: its record, and a tracker beside it. Nothing in here may fail a stage.

Where MLFLOW_TRACKING_URI is set, a process of its own follows each training, and another one completes the picture at
each stage's end. The stage waits for that one, but not long; what is missing then is added by `tumor-cascade track`.
"""

import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from tumor_cascade.errors import ParamsError
from tumor_cascade.registry.checkout import describe_checkout
from tumor_cascade.registry.executions import Execution, Status, is_running, read_execution
from tumor_cascade.registry.recipe import Recipe
from tumor_cascade.settings import get_fact, get_runs_dir
from tumor_cascade.storage import CONTENT_NAME, write_json

TRACKER_LOG_NAME = "tracking.log"
FINAL_TIMEOUT_S, STOP_TIMEOUT_S = 60.0, 3.0


@contextlib.contextmanager
def record_execution(stage: str, params: dict[str, Any], flags: Mapping[str, Any]) -> Iterator[None]:
    """Record the stage that runs inside, and let a tracker follow it where MLFLOW_TRACKING_URI names a server.

    Args:
        stage: Its name.
        params: Sections of the params file as plain values, its own among them.
        flags: Paths and fold, by the names of the stage's function.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0" or os.environ.get("RANK", "0") != "0":
        yield  # another process of the same training, which records for all
        return
    log = StageLog(stage, params, flags)
    log.start()
    try:
        yield
    except BaseException:
        log.end("failed")
        raise
    log.end("finished")


class StageLog:
    """What `record_execution` does before and after a stage; no method raises."""

    def __init__(self, stage: str, params: dict[str, Any], flags: Mapping[str, Any]) -> None:
        self.stage, self.params, self.flags = stage, params, flags
        self.folder = get_runs_dir() / stage
        self.running_path = self.folder / f"running-{os.getpid()}.json"
        self.execution: Execution | None = None
        self.tracker: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Write the first record; start a tracker beside a training."""
        with harmless(self.stage):
            self.execution = self.describe()
            self.sweep()
            write_json(self.running_path, asdict(self.execution))
            if is_tracking() and self.execution.fold is not None:
                self.tracker = start_tracker(self.running_path, "--watch")

    def end(self, status: Status) -> None:
        """Write the last record and have it tracked, within `FINAL_TIMEOUT_S`."""
        with harmless(self.stage):
            if self.tracker is not None:
                stop_tracker(self.tracker)
        with harmless(self.stage):
            if self.execution is None:
                return
            execution = self.complete(self.execution, status)
            path = self.running_path
            if execution.content_id is not None:
                path = self.folder / f"{execution.content_id}.json"
            write_json(path, asdict(execution))
            if is_tracking():
                finish_tracking(self.stage, path)
        with contextlib.suppress(OSError):
            self.running_path.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what killed executions of this stage left on this machine."""
        for path in self.folder.glob("running-*.json"):
            left = read_execution(path)
            if left is not None and left.host == socket.gethostname() and not is_running(left.pid):
                path.unlink(missing_ok=True)

    def describe(self) -> Execution:
        """Return what is known before the stage runs."""
        checkout = describe_checkout()
        paths = {name: str(path.absolute()) for name, path in self.flags.items() if isinstance(path, Path)}
        execution = Execution(
            stage=self.stage,
            fold=self.flags.get("fold"),
            started=time.time(),
            pid=os.getpid(),
            paths=paths,
            host=socket.gethostname(),
            commit=checkout.commit,
            is_dirty=None if checkout.commit is None else bool(checkout.changed),
            image_digest=get_fact("IMAGE_DIGEST"),
            injected_run_id=os.environ.get("MLFLOW_RUN_ID"),
            params=self.params[self.stage],
        )
        return replace(execution, pipeline=self.describe_pipeline(paths.get("manifest")))

    def describe_pipeline(self, manifest: str | None) -> dict[str, Any] | None:
        """Return the recipe as it stands now; None before data are ingested, or where it cannot be known."""
        try:
            recipe = Recipe.of_today(self.params, Path(manifest)) if manifest and Path(manifest).is_file() else None
        except ParamsError:  # in a section that this stage does not need
            return None
        return None if recipe is None else asdict(recipe)

    def complete(self, execution: Execution, status: Status) -> Execution:
        """Return what is known after the stage has run."""
        outputs = [Path(path) for name, path in execution.paths.items() if name.startswith("out_")]
        contents = [path / CONTENT_NAME for path in outputs if (path / CONTENT_NAME).is_file()]
        content_id = json.loads(contents[0].read_text(encoding="utf-8"))["content_id"] if contents else None
        usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        pipeline = execution.pipeline
        if status == "finished" and self.stage == "ingest_data":
            pipeline = self.describe_pipeline(execution.paths["out_manifest"])
        return replace(
            execution,
            ended=time.time(),
            status=status,
            content_id=content_id if status == "finished" else None,
            pipeline=pipeline,
            device=describe_device(),
            peak_memory_bytes=usage * (1 if sys.platform == "darwin" else 1024),
        )


@contextlib.contextmanager
def harmless(stage: str) -> Iterator[None]:
    """Turn any error into a warning."""
    try:
        yield
    except Exception as error:
        click.secho(
            f"{stage}: not recorded ({type(error).__name__}: {error}); its results stand.", err=True, fg="yellow"
        )


def is_tracking() -> bool:
    """Say whether the environment names a tracking server."""
    return bool(os.environ.get("MLFLOW_TRACKING_URI"))


def start_tracker(record: Path, *flags: str) -> subprocess.Popen[bytes]:
    """Start a process that projects a record, and what it names, into MLflow."""
    command = [sys.executable, "-m", "tumor_cascade.cli", "track", "--record", str(record), *flags]
    with (get_runs_dir() / TRACKER_LOG_NAME).open("ab") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )  # of its own session: an interrupt from the keyboard is the stage's alone


def stop_tracker(tracker: subprocess.Popen[bytes]) -> None:
    """End a tracker at once; what it has not done is done by the next one."""
    tracker.terminate()
    try:
        tracker.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        tracker.kill()
        tracker.wait()


def finish_tracking(stage: str, record: Path) -> None:
    """Project a finished stage, within a time limit; say so where that fails."""
    tracker = start_tracker(record)
    try:
        is_tracked = tracker.wait(FINAL_TIMEOUT_S) == 0
    except subprocess.TimeoutExpired:
        is_tracked = False
    finally:
        if tracker.poll() is None:
            stop_tracker(tracker)
    if not is_tracked:
        text = f"{stage}: not in MLflow yet (see {get_runs_dir() / TRACKER_LOG_NAME}); later: tumor-cascade track"
        click.secho(text, err=True, fg="yellow")


def describe_device() -> str:
    """Return the GPU's name if networks can have run on one, else `cpu`; without torch none has."""
    torch = sys.modules.get("torch")
    has_used = torch is not None and torch.cuda.is_initialized()
    return str(torch.cuda.get_device_name()) if torch is not None and has_used else "cpu"
