"""Records of executed stages: facts that are no part of any artifact, for trackers; and trackers beside a stage.

`runs/<stage>/<content_id>.json` says when and where an output was made and from which commit. While a stage runs, its
record is `runs/<stage>/running-<pid>.json`. Nothing in here may fail a stage: what goes wrong becomes a warning.
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
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import click

from tumor_cascade.errors import ParamsError
from tumor_cascade.registry.checkout import describe_checkout
from tumor_cascade.registry.recipe import Recipe
from tumor_cascade.settings import get_fact, get_runs_dir
from tumor_cascade.storage import CONTENT_NAME, write_json

Status = Literal["running", "finished", "failed"]
TRACKER_LOG_NAME = "tracking.log"
FINAL_TIMEOUT_S, STOP_TIMEOUT_S = 60.0, 3.0


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


def read_execution(path: Path) -> Execution | None:
    """Return a record, or None where there is none that can be read."""
    try:
        return Execution(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def find_execution(stage: str, content_id: str) -> Execution | None:
    """Return the record of what made an output on this machine, if there is one."""
    return read_execution(get_runs_dir() / stage / f"{content_id}.json")


@contextlib.contextmanager
def record_execution(stage: str, params_path: Path, params: dict[str, Any], flags: Mapping[str, Any]) -> Iterator[None]:
    """Record the stage that runs inside, and let a tracker follow it where MLFLOW_TRACKING_URI names a server.

    Args:
        stage: Its name.
        params_path: Params file.
        params: The stage's section, as plain values.
        flags: Paths and fold, by the names of the stage's function.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0" or os.environ.get("RANK", "0") != "0":
        yield  # another process of the same training, which records for all
        return
    log = StageLog(stage, params_path, params, flags)
    log.start()
    try:
        yield
    except BaseException:
        log.end("failed")
        raise
    log.end("finished")


class StageLog:
    """What `record_execution` does before and after a stage; no method raises."""

    def __init__(self, stage: str, params_path: Path, params: dict[str, Any], flags: Mapping[str, Any]) -> None:
        self.stage, self.params_path, self.params, self.flags = stage, params_path, params, flags
        self.folder = get_runs_dir() / stage
        self.running_path = self.folder / f"running-{os.getpid()}.json"
        self.execution: Execution | None = None
        self.tracker: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Write the first record; start a tracker beside a training."""
        with harmless(self.stage):
            self.execution = self.describe()
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
            params=self.params,
        )
        return replace(execution, pipeline=self.describe_pipeline(paths))

    def describe_pipeline(self, paths: dict[str, str]) -> dict[str, Any] | None:
        """Return the recipe as it stands now; None before data are ingested, or where it cannot be known."""
        manifest = Path(paths.get("manifest") or paths.get("out_manifest", ""))
        try:
            recipe = Recipe.of_today(self.params_path, manifest) if manifest.is_file() else None
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
            pipeline = self.describe_pipeline(execution.paths)
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
