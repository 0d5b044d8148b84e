"""Prepared views of MLflow's run list: which runs, which columns, in which order. They stand in the menu `Views`.

MLflow keeps saved views as tags of the experiment. Their form belongs to its pages, not to its API: a version that does
not know it shows its usual list.
"""

import json
from typing import TYPE_CHECKING, Any

from tumor_cascade import RESEARCH_USE
from tumor_cascade.registry.headlines import HEADLINES
from tumor_cascade.registry.projection import NOTE_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

MIN_WIDTH_PX, LETTER_WIDTH_PX = 10, 6  # of a column whose title is to be read
VIEW_TAG = "mlflow.sharedViewState."
KIND_TAG, KIND = "mlflow.experimentKind", "custom_model_development"
COMPARED_PARAMS = {
    "train_classifier": ("network", "initialization", "input_size_px", "learning_rate", "max_epochs"),
    "train_segmenter": ("encoder", "loss", "fn_weight", "input_size_px", "learning_rate", "max_epochs"),
}
# Key in the address -> name, stage of the runs, metric they are sorted by.
VIEWS = {
    "pipelines": ("Pipelines", "pipeline", "cascade/test_volume_dice"),
    "classifiers": ("Classifiers", "train_classifier", "classifier/val_auroc"),
    "segmenters": ("Segmenters", "train_segmenter", "segmenter/val_dice"),
}
NOTE = """Views: [Pipelines]({pipelines}), [Segmenters]({segmenters}), [Classifiers]({classifiers}).

One run per pipeline, named after its data and its recipe; below it one run per stage and fold. The same views stand in
the menu *Views* at the top right.

{research_use}
"""


def write_views(client: "MlflowClient", experiment_id: str) -> None:
    """Put the prepared views and the description into an experiment where they are missing."""
    tags = client.get_experiment(experiment_id).tags
    links = {key: link_view(experiment_id, key) for key in VIEWS}
    wanted = {f"{VIEW_TAG}{key}": json.dumps(describe_view(key), sort_keys=True) for key in VIEWS}
    wanted |= {KIND_TAG: KIND, NOTE_TAG: NOTE.format(**links, research_use=RESEARCH_USE)}
    for key, value in wanted.items():
        if tags.get(key) != value:
            client.set_experiment_tag(experiment_id, key, value)


def link_view(experiment_id: str, key: str) -> str:
    """Return the address of a view inside MLflow's pages."""
    return f"#/experiments/{experiment_id}/runs?viewStateShareKey={key}&workflowType=machine_learning"


def describe_view(key: str) -> dict[str, Any]:
    """Return a view as MLflow's pages save it."""
    name, stage, metric = VIEWS[key]
    columns = [f"metrics.`{one}`" for one in list_metrics(stage)]
    columns += [f"params.`{stage}.{param}`" for param in COMPARED_PARAMS.get(stage, ())]
    columns += ["attributes.`Dataset`", *(f"tags.`{tag}`" for tag in ("protocol", "dirty", "summary"))]
    state = {
        "searchFilter": f"tags.stage = '{stage}' and tags.content_id LIKE '%'",
        "orderByKey": f"metrics.`{metric}`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {column: MIN_WIDTH_PX + LETTER_WIDTH_PX * len(column) for column in columns},
    }
    return {"name": name, "createdAt": 0, "updatedAt": 0, "state": json.dumps(state, sort_keys=True)}


def list_metrics(stage: str) -> list[str]:
    """Return the headline metrics of a stage's runs; those of a pipeline are its evaluation's, on the test set."""
    keys = HEADLINES["evaluate_cascade" if stage == "pipeline" else stage]
    return [key.format(split="test") for key in keys]
