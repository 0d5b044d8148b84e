"""A pipeline's run as a whole: its description, and children for all its stages, restored ones included."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tumor_cascade import RESEARCH_USE
from tumor_cascade.params import STAGES
from tumor_cascade.registry.projection import NOTE_TAG
from tumor_cascade.registry.runs import PARENT_TAG, RESTORED_TAG, SAME_TAG, STAGE_TAG, find_or_make, find_run
from tumor_cascade.registry.views import write_views

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


def complete_children(client: "MlflowClient", parent: "Run", contents: Iterable[Mapping[str, Any]]) -> None:
    """Give a pipeline's run a child for each stage: what another pipeline has made gets one that points there."""
    contents = list(contents)
    runs = {content["content_id"]: find_run(client, content["content_id"]) for content in contents}
    for content in contents:
        run = runs[content["content_id"]]
        if run is not None and run.data.tags.get(PARENT_TAG) != parent.info.run_id:
            _link_run(client, parent, run)
    note = describe_stages(parent, contents, runs)
    if parent.data.tags.get(NOTE_TAG) != note:
        client.set_tag(parent.info.run_id, NOTE_TAG, note)
    write_views(client, parent.info.experiment_id)


def _link_run(client: "MlflowClient", parent: "Run", run: "Run") -> None:
    """Make a child that only points to the run of a stage that was restored, not run, in this pipeline."""
    tags = {STAGE_TAG: run.data.tags[STAGE_TAG], RESTORED_TAG: f"{parent.info.run_id}/{run.info.run_id}"}
    link = find_or_make(client, tags, f"{run.info.run_name} restored", parent.info.start_time, parent=parent)
    if link.info.status != "FINISHED":
        client.set_tag(link.info.run_id, SAME_TAG, run.info.run_id)
        client.set_tag(link.info.run_id, NOTE_TAG, f"Restored: made by [{run.info.run_name}]({link_run(run)}).")
        client.set_terminated(link.info.run_id, end_time=parent.info.start_time)


def describe_stages(parent: "Run", contents: Iterable[Mapping[str, Any]], runs: "Mapping[str, Run | None]") -> str:
    """Return the description of a pipeline's run as Markdown: each stage with its run, and whether it was made here.

    Args:
        parent: Run of the pipeline.
        contents: content.json of its stages.
        runs: `content_id` -> run.
    """
    lines = ["| stage | run | content |", "|---|---|---|"]
    for content in sorted(contents, key=lambda one: (STAGES.index(one["stage"]), one["params"].get("fold", 0))):
        run, fold = runs.get(content["content_id"]), content["params"].get("fold")
        label = content["stage"] + ("" if fold is None else f", fold {fold}")
        is_own = run is not None and run.data.tags.get(PARENT_TAG) == parent.info.run_id
        link = "not tracked" if run is None else f"[{'made here' if is_own else 'restored'}]({link_run(run)})"
        lines.append(f"| {label} | {link} | `{content['content_id'][:16]}` |")
    return "\n".join([*lines, "", RESEARCH_USE])


def link_run(run: "Run") -> str:
    """Return the address of a run inside MLflow's pages."""
    return f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
