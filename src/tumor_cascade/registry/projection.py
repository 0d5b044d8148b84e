"""Facts of one run, and writing them into MLflow: only what is missing, so that any number of repeats adds nothing."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tumor_cascade.registry.runs import PIPELINE, STAGE_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

BATCH = {"metrics": 1000, "params": 100, "tags": 100}  # MLflow's limits
MAX_VALUE_LENGTH, MAX_DIGEST_LENGTH = 5000, 36
MAX_FILE_BYTES = 20 * 2**20  # a tracker is no data store; what is larger stands in DVC's
NOTE_TAG = "mlflow.note.content"
RunStatus = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class Point:
    """One value of a metric; time in Unix milliseconds."""

    key: str
    value: float
    time_ms: int
    step: int = 0


@dataclass(frozen=True)
class DatasetFacts:
    """The data of a run.

    Attributes:
        name: Of the data set.
        sha256: Of its manifest.
        source: Where the data are kept, JSON.
        profile: Counts, JSON.
        context: What they were used for.
    """

    name: str
    sha256: str
    source: str
    profile: str
    context: str


@dataclass(frozen=True)
class RunFacts:
    """Everything that a run shows.

    Attributes:
        params: Key -> value as text.
        tags: The same.
        points: Headlines at step 0, and curves.
        files: (local file, folder in the run) of its artifacts.
        documents: Name -> JSON object, small artifacts that stand in no file.
        dataset: Its data, where known.
        status: How it stands.
        ended_ms: Unix time; None while it runs.
    """

    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    files: list[tuple[Path, str]] = field(default_factory=list)
    documents: dict[str, Any] = field(default_factory=dict)
    dataset: DatasetFacts | None = None
    status: RunStatus = "FINISHED"
    ended_ms: int | None = None


def project(client: "MlflowClient", run: "Run", facts: RunFacts) -> None:
    """Write what a run does not show yet. Safe to repeat, to interrupt, and to do twice at the same time.

    A run that is complete stays as it is, whoever makes the same content again; what it lacks is added.
    """
    run_id, is_complete = run.info.run_id, _is_complete(run)
    _log_params(client, run, facts.params)
    _log_tags(
        client, run, {key: value for key, value in facts.tags.items() if not is_complete or key not in run.data.tags}
    )
    _log_points(client, run, facts.points)
    _log_dataset(client, run, facts.dataset)
    _log_files(client, run_id, facts)
    if is_complete:
        return
    if facts.status != "RUNNING":
        client.set_terminated(run_id, facts.status, end_time=facts.ended_ms)
    elif run.info.status != facts.status:
        client.update_run(run_id, status=facts.status)


def _is_complete(run: "Run") -> bool:
    """Say whether nothing is to come: a stage's run is closed once, a pipeline's when it has been evaluated."""
    is_open = run.data.tags.get(STAGE_TAG) == PIPELINE and not run.data.metrics
    return run.info.status == "FINISHED" and not is_open


def _log_params(client: "MlflowClient", run: "Run", params: dict[str, str]) -> None:
    from mlflow.entities import Param

    new = [Param(key, value[:MAX_VALUE_LENGTH]) for key, value in params.items() if key not in run.data.params]
    for batch in _cut(new, BATCH["params"]):
        client.log_batch(run.info.run_id, params=batch)


def _log_tags(client: "MlflowClient", run: "Run", tags: dict[str, str]) -> None:
    from mlflow.entities import RunTag

    new = [RunTag(key, value) for key, value in tags.items() if run.data.tags.get(key) != value]
    for batch in _cut(new, BATCH["tags"]):
        client.log_batch(run.info.run_id, tags=batch)


def _log_points(client: "MlflowClient", run: "Run", points: list[Point]) -> None:
    """Log the steps that a metric does not have yet, whatever their time: a training that was killed repeats an epoch.

    Two trackers that log the same point at once log one: equal points are one row in MLflow's database.
    """
    from mlflow.entities import Metric

    known = {
        (key, point.step)
        for key in {point.key for point in points} & set(run.data.metrics)
        for point in client.get_metric_history(run.info.run_id, key)
    }
    new = {(point.key, point.step): point for point in points if (point.key, point.step) not in known}
    metrics = [Metric(point.key, point.value, point.time_ms, point.step) for point in new.values()]
    for batch in _cut(metrics, BATCH["metrics"]):
        client.log_batch(run.info.run_id, metrics=batch)


def _log_dataset(client: "MlflowClient", run: "Run", facts: DatasetFacts | None) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    if facts is None:
        return
    digest, known = facts.sha256[:MAX_DIGEST_LENGTH], run.inputs.dataset_inputs if run.inputs else []
    if any(one.dataset.digest == digest for one in known):
        return
    dataset = Dataset(name=facts.name, digest=digest, source_type="dvc", source=facts.source, profile=facts.profile)
    client.log_inputs(run.info.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", facts.context)])])


def _log_files(client: "MlflowClient", run_id: str, facts: RunFacts) -> None:
    """Upload files that are not there in full; what is too large is left to DVC."""
    listed: dict[str, dict[str, int | None]] = {}

    def is_there(path: Path, folder: str) -> bool:
        if folder not in listed:
            entries = client.list_artifacts(run_id, folder or None)
            listed[folder] = {os.path.basename(entry.path): entry.file_size for entry in entries if not entry.is_dir}  # noqa: PTH119
        return listed[folder].get(path.name) == path.stat().st_size

    for path, folder in facts.files:
        if path.stat().st_size <= MAX_FILE_BYTES and not is_there(path, folder):
            client.log_artifact(run_id, str(path), folder or None)
    names = {entry.path for entry in client.list_artifacts(run_id)} if facts.documents else set()
    for name, document in facts.documents.items():
        if name not in names:
            client.log_dict(run_id, document, name)


def _cut(items: Sequence[Any], size: int) -> list[Any]:
    return [items[start : start + size] for start in range(0, len(items), size)]
