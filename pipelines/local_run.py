"""A pipeline on this machine: its compiled components in confined containers, real MLflow and S3 beside them."""

import json
import os
import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from pipelines.catalog import build_pipeline
from pipelines.engine import confine, connect_engine, find_image, make_run_folder, open_network, stop_containers
from pipelines.placement import CACHE_VARIABLE, Placement, Retries
from pipelines.plan import Plan
from pipelines.task_watch import Attempt, TaskWatch, format_attempts
from tumor_cascade.errors import TumorCascadeError
from tumor_cascade.registry.services import PIPELINES_BUCKET, Services

RETRIES = Retries(number=1, backoff_s=1, factor=1.0, within_s=1)  # nobody waits for a node here


class LocalRunError(TumorCascadeError):
    """A task of a run on this machine that did not end well."""


@dataclass(frozen=True)
class LocalRun:
    """What a run on this machine needs besides its plan.

    Attributes:
        pipeline: Its name in the catalog.
        root: Folder of all runs' outputs.
        services_dir: Of the servers' data.
        memory: Limit of each container.
    """

    pipeline: str
    root: Path
    services_dir: Path
    memory: str


def run_locally(run: LocalRun, plan: Plan) -> Path:
    """Run a pipeline, one task after the other, and print what each one took.

    Args:
        run: Where, and how much of this machine.
        plan: With the `name:tag` of an image that the engine has.

    Returns:
        Folder of the outputs, one folder per task in it.

    Raises:
        TumorCascadeError: There is no engine, image or server, or a task failed.
    """
    from kfp import local

    client = connect_engine()
    digest = find_image(client, plan.image)
    services = Services.open(run.services_dir, open_network(client))
    services.up()
    click.echo("\n".join(services.describe()))
    root, run_id = make_run_folder(run.root), secrets.token_hex(6)
    variables = {**choose_variables(root, digest), **services.read_variables()}
    pipeline = build_pipeline(run.pipeline, replace(plan, placement=hurry(plan.placement)))
    watch = TaskWatch(client, run_id)
    local.init(local.DockerRunner(**confine(run.memory, variables, run_id)), pipeline_root=str(root))
    try:
        pipeline()
    except RuntimeError as error:
        raise LocalRunError(f"{error} Its output stands above; a second run carries its trainings on.") from error
    finally:
        stop_containers(client, run_id)  # there is one left only where this run is interrupted
        attempts = watch.close()
        click.echo("\n".join(format_attempts(attempts)))
        client.close()
    check_attempts(attempts, len(pipeline.pipeline_spec.root.dag.tasks))
    return max(root.glob(f"{run.pipeline.replace('_', '-')}-*"))  # named after the time of its start


def choose_variables(root: Path, digest: str) -> dict[str, str]:
    """Return what containers are told besides the servers; it wins over the placement's environment."""
    return {
        CACHE_VARIABLE: str(root / "data-cache"),  # fetched once for all tasks
        "TUMOR_CASCADE_DEVICE": os.environ.get("TUMOR_CASCADE_DEVICE", "cpu"),
        "TUMOR_CASCADE_DATA_STORE": f"s3://{PIPELINES_BUCKET}/data",
        "TUMOR_CASCADE_CHECKPOINT_STORE": f"s3://{PIPELINES_BUCKET}/checkpoints",
        "TUMOR_CASCADE_IMAGE_DIGEST": digest,
    }


def hurry(placement: Placement) -> Placement:
    """Return a placement whose tasks are tried twice, at once."""
    kinds = {name: kind.model_copy(update={"retries": RETRIES}) for name, kind in placement.kinds.items()}
    return placement.model_copy(update={"kinds": kinds})


def check_attempts(attempts: list[Attempt], num_tasks: int) -> None:
    """Refuse a run whose containers did not all end well, whatever the runner thinks.

    Raises:
        LocalRunError: Naming what did not.
    """
    last = {attempt.task: attempt for attempt in attempts}
    failed = [f"{one.task} ({one.describe_end()})" for one in last.values() if one.exit_code != 0]
    if failed:
        raise LocalRunError(f"{', '.join(failed)} did not end well, though the runner went on; run it again.")
    if len(last) != num_tasks:
        raise LocalRunError(f"{len(last)} of {num_tasks} tasks have run; run it again.")


def read_decision(folder: Path) -> dict[str, Any] | None:
    """Return the decision on the product of a run, or None where none was asked for."""
    path = folder / "promote-cascade" / "decision" / "decision.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
