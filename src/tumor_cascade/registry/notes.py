"""What people read first in MLflow: the description of a pipeline's run."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tumor_cascade.params import STAGES
from tumor_cascade.registry.runs import PARENT_TAG, find_run

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

RESEARCH_USE = "Research use only: not a medical device, not for diagnosis or treatment."


def describe_stages(client: "MlflowClient", parent: "Run", contents: Iterable[Mapping[str, Any]]) -> str:
    """Return the description of a pipeline's run as Markdown: each stage with its run, and who made it."""
    lines = ["| stage | run | content |", "|---|---|---|"]
    for content in sorted(contents, key=lambda one: (STAGES.index(one["stage"]), one["params"].get("fold", 0))):
        run = find_run(client, content["content_id"])
        fold = content["params"].get("fold")
        label = content["stage"] + ("" if fold is None else f", fold {fold}")
        link = "not tracked here"
        if run is not None:
            is_own = run.data.tags.get(PARENT_TAG) == parent.info.run_id
            link = f"[{'made here' if is_own else 'restored: made by another run'}]({link_run(run)})"
        lines.append(f"| {label} | {link} | `{content['content_id'][:16]}` |")
    return "\n".join([*lines, "", RESEARCH_USE])


def link_run(run: "Run") -> str:
    """Return the address of a run inside MLflow's pages."""
    return f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
