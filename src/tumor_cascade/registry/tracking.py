"""Projects what stages have written into MLflow: one parent run per pipeline, one child per stage and fold.

Everything shown comes from files, and every call writes only what is missing. So it may be repeated, interrupted, done
twice at once, or done after the server has been away: the end is the same.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tumor_cascade.errors import TumorCascadeError
from tumor_cascade.params import read_yaml
from tumor_cascade.registry.client import TrackingError, connect, get_tracking_uri, hide_login
from tumor_cascade.registry.executions import Execution, read_execution
from tumor_cascade.registry.facts import describe_output, describe_pipeline, describe_running, get_end, name_run
from tumor_cascade.registry.links import complete_children
from tumor_cascade.registry.outputs import StageOutput, read_executed, read_lineage, read_outputs, select_current
from tumor_cascade.registry.progress import find_progress, find_running
from tumor_cascade.registry.projection import project
from tumor_cascade.registry.recipe import Recipe
from tumor_cascade.registry.runs import (
    CONTENT_TAG,
    PIPELINE,
    STAGE_TAG,
    find_injected,
    find_or_make,
)
from tumor_cascade.registry.views import link_view

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

T = TypeVar("T")
NUM_ATTEMPTS, PAUSE_S = 3, 1.0


def track_artifacts(artifacts: Path, params_path: Path) -> "list[tuple[str, Run]]":
    """Project all outputs in a folder that fit together, and their pipeline.

    Args:
        artifacts: Outputs as `dvc repro` lays them out.
        params_path: Says what a pipeline that has not run to its end is going to be.

    Returns:
        (label, run) of each stage and of the pipeline.

    Raises:
        TrackingError: The server does not answer, or there is nothing to track.
    """
    outputs = select_current(read_outputs(artifacts))
    if not outputs:
        raise TrackingError(f"{artifacts} has no output of any stage; run `dvc repro` first.")
    return insist(lambda: _track_outputs(connect(), outputs, _find_recipe(outputs, params_path)))


def _find_recipe(outputs: list[StageOutput], params_path: Path) -> Recipe | None:
    """Return what the pipeline of the outputs is made of: as recorded, as they say themselves, or as of today."""
    manifest = outputs[0].manifest
    recorded = {one.stage: one.execution.recipe for one in outputs if one.execution and one.execution.recipe}
    written = Recipe.of_contents(output.content for output in outputs)
    known = recorded.get("evaluate_cascade") or written or next(reversed(recorded.values()), None)
    if known is not None or manifest is None:
        return known
    return Recipe.of_today(read_yaml(params_path), manifest)


def link_pages(experiment_id: str) -> str:
    """Return where the runs can be seen: a server's address, or how to start one on a database."""
    uri, view = get_tracking_uri(), link_view(experiment_id, "pipelines")
    if uri.startswith("http"):
        return f"{hide_login(uri).rstrip('/')}/{view}"
    return f"http://127.0.0.1:5000/{view} after: mlflow ui --backend-store-uri {uri}"


def _track_outputs(
    client: "MlflowClient", outputs: list[StageOutput], recipe: Recipe | None
) -> "list[tuple[str, Run]]":
    tracked = []
    for output in outputs:
        made_by = (output.execution.recipe if output.execution is not None else None) or recipe
        parent = _open_parent(client, made_by, output.execution)
        if parent is not None and made_by is not None:
            evaluation = output if output.stage == "evaluate_cascade" else None
            execution = None if evaluation is None else evaluation.execution
            project(client, parent, describe_pipeline(made_by, execution, evaluation, output.manifest))
        tracked.append((output.label, _track_output(client, output, parent)))
    parent = _open_parent(client, recipe, outputs[-1].execution)
    if parent is not None:
        complete_children(client, parent, [output.content for output in outputs])
        tracked.append((PIPELINE, parent))
    return tracked


def track_execution(path: Path) -> None:
    """Project one execution of a stage: a finished one, a failed one, or a training that runs.

    Raises:
        TrackingError: The server does not answer, or there is no such record.
    """
    execution = read_execution(path)
    if execution is None:
        raise TrackingError(f"{path}: no record of an execution; it is written by the stage itself.")
    insist(lambda: _track_execution(connect(), execution))


def _track_execution(client: "MlflowClient", execution: Execution) -> None:
    injected = find_injected(client, execution.injected_run_id, execution.stage)
    is_last = execution.stage == "evaluate_cascade" and execution.status == "finished"
    contents = _find_contents(execution) if is_last else []
    recipe = execution.recipe or Recipe.of_contents(contents)
    parent = injected.parent if recipe is None else _open_parent(client, recipe, execution, injected.parent)
    output = read_executed(execution) if execution.status == "finished" else None
    if output is not None:
        _track_output(client, output, parent, injected.child)
    else:
        _track_running(client, execution, parent, injected.child)
    if parent is not None and recipe is not None:
        manifest = execution.paths.get("manifest") or execution.paths.get("out_manifest")
        evaluation = output if is_last else None
        project(
            client,
            parent,
            describe_pipeline(recipe, execution, evaluation, None if manifest is None else Path(manifest)),
        )
        if is_last:
            complete_children(client, parent, contents)


def _find_contents(execution: Execution) -> list[dict[str, Any]]:
    """Return the content.json of all stages behind an evaluation: of the whole folder, where it lies as DVC lays it."""
    report = Path(execution.paths["out_report"])
    if report.parts[-2:] == ("evaluate_cascade", "report"):
        return [output.content for output in select_current(read_outputs(report.parents[1]))]
    return read_lineage(execution)


def _open_parent(
    client: "MlflowClient", recipe: Recipe | None, execution: Execution | None, injected: "Run | None" = None
) -> "Run | None":
    if recipe is None:
        return None
    name = f"{recipe.params['ingest_data']['source']} {recipe.content_id[:8]}"
    started = time.time() if execution is None else execution.started
    tags = {CONTENT_TAG: recipe.content_id, STAGE_TAG: PIPELINE}
    return find_or_make(client, tags, name, int(started * 1000), injected=injected)


def _track_output(
    client: "MlflowClient", output: StageOutput, parent: "Run | None", injected: "Run | None" = None
) -> "Run":
    progress = find_progress(output.stage, output.content_id) if output.fold is not None else None
    starts = [*([progress.started] if progress else []), *([output.execution.started] if output.execution else [])]
    started = int(min(starts) * 1000) if starts else get_end(output)
    tags = {CONTENT_TAG: output.content_id, STAGE_TAG: output.stage}
    name = name_run(output.stage, output.fold, output.content_id)
    run = find_or_make(client, tags, name, started, parent=parent, injected=injected)
    project(client, run, describe_output(output))
    return run


def _track_running(client: "MlflowClient", execution: Execution, parent: "Run | None", injected: "Run | None") -> None:
    """Project a training that has not ended; other stages show nothing before their end."""
    progress = find_running(execution.stage, execution.fold, execution.started) if execution.fold is not None else None
    if progress is None:
        return
    tags = {CONTENT_TAG: progress.content_id, STAGE_TAG: execution.stage}
    name = name_run(execution.stage, execution.fold, progress.content_id)
    run = find_or_make(client, tags, name, int(progress.started * 1000), parent=parent, injected=injected)
    project(client, run, describe_running(execution, progress))


def insist(act: Callable[[], T]) -> T:
    """Do something again where the server was disturbed, or another tracker made the same run at the same moment.

    Raises:
        TrackingError: It failed every time.
    """
    for attempt in range(1, NUM_ATTEMPTS + 1):
        try:
            return act()
        except TumorCascadeError:
            raise
        except Exception as error:
            if attempt == NUM_ATTEMPTS:
                raise TrackingError(
                    f"MLflow: {type(error).__name__}: {error}; nothing is lost, try again later."
                ) from error
            time.sleep(PAUSE_S * attempt)
    raise AssertionError("unreachable")
