"""`tumor-cascade-pipeline submit`: a compiled pipeline on a cluster, followed to its end.

Submitting the same file with the same arguments twice makes one pipeline, one version and one run: the second call
follows the run of the first. A run that failed or was stopped is made anew; its finished tasks come from the cache, and
its trainings carry on from their checkpoints. So is one that has succeeded, if the file has tasks that are not cached
because what they read may be other now; promotion alone does not count, whose product is the same.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipelines.server import PipelineServer, ServerError
from tumor_cascade.errors import ParamsError, TumorCascadeError
from tumor_cascade.storage import canonical_json

SUCCEEDED, SKIPPED = "SUCCEEDED", "SKIPPED"
ENDED_BADLY = ("FAILED", "CANCELED", "CANCELING")
ENDED = (SUCCEEDED, SKIPPED, "FAILED", "CANCELED")
PROMOTION = "promote-cascade"  # as a compiled pipeline names the task
NUM_DIGITS = 12  # of a hash in a name
MAX_SILENCE_S = 600.0  # of a server that is away while a run is followed; the run goes on meanwhile


class RunFailedError(TumorCascadeError):
    """The run ended, but not well; its page says why."""


@dataclass(frozen=True)
class Submission:
    """What is to be run.

    Attributes:
        package: Compiled YAML.
        experiment: Under which runs are listed.
        arguments: Of the pipeline.
        service_account: Of the pods; None: the server's default.
        pipeline_root: Where artifacts go; None: the server's default.
        is_new: Whether a run is made even if there is one.
    """

    package: Path
    experiment: str
    arguments: Mapping[str, str]
    service_account: str | None
    pipeline_root: str | None
    is_new: bool


@dataclass(frozen=True)
class PackageFacts:
    """What a compiled pipeline says of itself."""

    name: str
    description: str
    num_tasks: int
    is_repeated: bool  # there is something to do after a run that has succeeded


def submit(server: PipelineServer, submission: Submission, facts: PackageFacts, say: Callable[[str], None]) -> Any:
    """Return the run of a submission: one that is there, or a new one.

    Args:
        server: Of the cluster.
        submission: What is to be run.
        facts: Of its package.
        say: Is told each link.

    Raises:
        ServerError: The server refuses.
    """
    digest = hashlib.sha256(submission.package.read_bytes()).hexdigest()
    pipeline_id = server.find_or_create_pipeline(facts.name, facts.description)
    version_id = server.find_or_upload_version(pipeline_id, digest[:NUM_DIGITS], submission.package)
    say(f"Pipeline: {server.link('pipelines', pipeline_id, version_id)}")
    experiment_id = server.find_or_create_experiment(submission.experiment)
    made_of = [digest, dict(submission.arguments), submission.service_account, submission.pipeline_root]
    name = f"{facts.name}-{hashlib.sha256(canonical_json(made_of)).hexdigest()[:NUM_DIGITS]}"
    run = None if submission.is_new else server.find_latest_run(experiment_id, name)
    if run is None or run.state in ENDED_BADLY or (facts.is_repeated and run.state in ENDED):
        run = server.create_run(
            experiment_id,
            name,
            (pipeline_id, version_id),
            arguments=dict(submission.arguments),
            service_account=submission.service_account,
            pipeline_root=submission.pipeline_root,
        )
        say(f"Run:      {server.link('runs', run.run_id)}")
    else:
        say(f"Run:      {server.link('runs', run.run_id)} (submitted before)")
    return run


def read_package(package: Path, arguments: Mapping[str, str]) -> PackageFacts:
    """Return what a compiled pipeline says of itself, once it takes these arguments.

    Raises:
        ParamsError: The package is no compiled pipeline, or an argument is missing or unknown.
    """
    try:
        specification = next(iter(yaml.safe_load_all(package.read_text(encoding="utf-8"))))
        info, root = specification["pipelineInfo"], specification["root"]
        tasks = root["dag"]["tasks"]
        uncached = {name for name, task in tasks.items() if not task.get("cachingOptions", {}).get("enableCache")}
        facts = PackageFacts(info["name"], info.get("description", ""), len(tasks), bool(uncached - {PROMOTION}))
        inputs = root.get("inputDefinitions", {}).get("parameters", {})
    except (OSError, UnicodeDecodeError, yaml.YAMLError, StopIteration, KeyError, TypeError, AttributeError) as error:
        raise ParamsError(
            f"{package}: is no compiled pipeline ({type(error).__name__}: {error}); make one with "
            "`tumor-cascade-pipeline compile`."
        ) from error
    missing = [name for name, one in inputs.items() if name not in arguments and "defaultValue" not in one]
    unknown = [name for name in arguments if name not in inputs]
    if missing or unknown:
        faults = [f"{name} is missing" for name in missing] + [f"{name} is unknown" for name in unknown]
        raise ParamsError(
            f"arguments of {facts.name}: {', '.join(faults)}; it takes {', '.join(inputs) or 'none'}. "
            "Give each as --argument NAME=VALUE."
        )
    return facts


def follow(server: PipelineServer, run: Any, num_tasks: int, say: Callable[[str], None], poll_s: float) -> None:
    """Wait for the end of a run and tell each change.

    Args:
        server: Of the cluster.
        run: As `submit` returns it.
        num_tasks: Of its pipeline.
        say: Is told a line whenever something has changed.
        poll_s: Between two questions.

    Raises:
        RunFailedError: It failed or was stopped.
        ServerError: The server has been away for long; the run may still go on.
    """
    told, heard = "", time.monotonic()
    while True:
        try:
            run, heard = server.read_run(run.run_id), time.monotonic()
        except ServerError:
            if time.monotonic() - heard > MAX_SILENCE_S:
                raise
        line = describe_progress(run, num_tasks)
        if line != told:
            say(line)
            told = line
        if run.state in ENDED:
            break
        time.sleep(poll_s)
    if run.state not in (SUCCEEDED, SKIPPED):
        failed = ", ".join(name for name, state in list_tasks(run) if state == "FAILED")
        raise RunFailedError(
            f"run {run.display_name} ended {run.state}{f' in {failed}' if failed else ''}; see "
            f"{server.link('runs', run.run_id)}. The same command makes a new run, which carries on."
        )


def list_tasks(run: Any) -> list[tuple[str, str]]:
    """Return name and state of a run's tasks, without the drivers that Kubeflow puts before each."""
    details = (run.run_details.task_details or []) if run.run_details else []
    named = [(str(one.display_name), str(one.state)) for one in details if one.display_name]
    return [(name, state) for name, state in named if not name.endswith("-driver") and name not in ("root", "executor")]


def describe_progress(run: Any, num_tasks: int) -> str:
    """Return a run's state in a line."""
    tasks = list_tasks(run)
    num_done = sum(state in (SUCCEEDED, SKIPPED) for _, state in tasks)
    running = sorted(name for name, state in tasks if state == "RUNNING")
    line = f"{run.state or 'PENDING'}: {num_done} of {num_tasks} tasks done"
    return f"{line}, running {', '.join(running)}" if running else line
