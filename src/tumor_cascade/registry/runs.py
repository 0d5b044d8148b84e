"""The one place where MLflow runs are found, adopted or made: one run per content, whoever asks and how often.

MLflow knows no compare-and-create, so two trackers can make a run at the same moment. Each looks again after making one
and all agree on the same (the smallest id); the others are deleted, and who was writing to them finds the right one at
the next try.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tumor_cascade.params import STAGES
from tumor_cascade.registry.client import open_experiment

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

CONTENT_TAG, STAGE_TAG, MAKER_TAG, SAME_TAG = "content_id", "stage", "made_by", "same_content_as"
RESTORED_TAG = "restored"  # of a run that only points to another one
PIPELINE = "pipeline"  # stands in the tag `stage` of a parent run
MAKER = "tumor-cascade"
PARENT_TAG, ENTRY_POINT_TAG = "mlflow.parentRunId", "mlflow.project.entryPoint"


@dataclass(frozen=True)
class Injected:
    """A run that someone else has opened for this process (`mlflow run`, Kubeflow), by what it can become.

    Attributes:
        child: Run of the one stage; None where the run stands for more.
        parent: Run of the whole pipeline.
    """

    child: "Run | None" = None
    parent: "Run | None" = None


def find_runs(client: "MlflowClient", content_id: str, tag: str = CONTENT_TAG) -> "list[Run]":
    """Return the runs of a content in any experiment, the one that counts first."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(experiments, f"tags.{tag} = '{content_id}'")
    return sorted(found, key=lambda run: str(run.info.run_id))


def find_run(client: "MlflowClient", content_id: str) -> "Run | None":
    """Return the run of a content, or None."""
    return next(iter(find_runs(client, content_id)), None)


def find_injected(client: "MlflowClient", run_id: str | None, stage: str) -> Injected:
    """Return what a run that stands in MLFLOW_RUN_ID can become; nothing where it is unknown or deleted.

    It is the stage's own where it has a parent already, or was opened for the entry point of that name. Any other one
    stands for the pipeline: all stages of it may have been given the same.
    """
    from mlflow.exceptions import MlflowException

    def get(wanted: str) -> "Run | None":
        try:
            run = client.get_run(wanted)
        except MlflowException:
            return None
        return run if run.info.lifecycle_stage == "active" else None

    run = get(run_id) if run_id else None
    if run is None:
        return Injected()
    parent_id = run.data.tags.get(PARENT_TAG)
    if parent_id is None and run.data.tags.get(ENTRY_POINT_TAG) not in STAGES:
        return Injected(parent=run)
    is_own = run.data.tags.get(STAGE_TAG, stage) == stage
    return Injected(run if is_own else None, get(parent_id) if parent_id else None)


def find_or_make(
    client: "MlflowClient",
    tags: Mapping[str, str],
    name: str,
    started_ms: int,
    *,
    parent: "Run | None" = None,
    injected: "Run | None" = None,
) -> "Run":
    """Return the one run of a content; made where there is none, from the injected run where that is free.

    Args:
        client: Of the tracking server.
        tags: `stage`, and what names the run: `content_id`, or `restored`.
        name: For people.
        started_ms: Start of a new run, Unix time.
        parent: Run of the pipeline; a run that has one already keeps it.
        injected: Run that was opened for this content.
    """
    key = next(tag for tag in (CONTENT_TAG, RESTORED_TAG) if tag in tags)
    if not find_runs(client, tags[key], key):
        free = injected is not None and injected.data.tags.get(CONTENT_TAG) is None
        if injected is not None and free:
            _adopt(client, injected, tags, name)
        else:
            experiment = parent.info.experiment_id if parent else open_experiment(client)
            client.create_run(experiment, start_time=started_ms, tags={**tags, MAKER_TAG: MAKER}, run_name=name)
    run, *others = find_runs(client, tags[key], key)
    for other in others:
        _retire(client, other, run)
    if injected is not None and injected.info.run_id != run.info.run_id:
        client.set_tag(injected.info.run_id, SAME_TAG, run.info.run_id)
    if parent is not None and not _has_parent(client, run):
        client.set_tag(run.info.run_id, PARENT_TAG, parent.info.run_id)
    return run


def _adopt(client: "MlflowClient", run: "Run", tags: Mapping[str, str], name: str) -> None:
    for key, value in tags.items():
        client.set_tag(run.info.run_id, key, value)
    client.update_run(run.info.run_id, name=name)


def _retire(client: "MlflowClient", run: "Run", kept: "Run") -> None:
    """Take a second run of a content out of the way: our own is deleted, an injected one only says where to look."""
    if run.data.tags.get(MAKER_TAG) == MAKER:
        client.delete_run(run.info.run_id)
    else:
        client.set_tag(run.info.run_id, SAME_TAG, kept.info.run_id)
        client.delete_tag(run.info.run_id, CONTENT_TAG)


def _has_parent(client: "MlflowClient", run: "Run") -> bool:
    """Say whether a run's parent is there; one that was retired is not."""
    from mlflow.exceptions import MlflowException

    parent_id = run.data.tags.get(PARENT_TAG)
    try:
        return parent_id is not None and client.get_run(parent_id).info.lifecycle_stage == "active"
    except MlflowException:
        return False
