from pathlib import Path
from typing import Any

import pytest
import yaml

from compiled import CompiledTask, list_tasks, make_plan
from pipelines.catalog import compile_pipeline
from pipelines.placement import DEFAULT_PATH, Placement, read_placement
from tumor_cascade.errors import ParamsError
from tumor_cascade.stages.interface import ACTS, INTERFACES


def write_placement(folder: Path, **changes: Any) -> Path:
    """Return the default placement with values replaced, by dotted key with `__` for the dot."""
    values = yaml.safe_load(DEFAULT_PATH.read_text(encoding="utf-8"))
    for key, value in changes.items():
        section = values
        *parents, last = key.split("__")
        for parent in parents:
            section = section[parent]
        section[last] = value
    path = folder / "placement.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def compile_task(folder: Path, placement: Placement, name: str) -> CompiledTask:
    compile_pipeline("train_cascade", make_plan(placement=placement), folder / "pipeline.yaml")
    tasks = list_tasks((folder / "pipeline.yaml").read_text(encoding="utf-8"))
    return next(task for task in tasks if task.name == name)


def test_read_placement__the_default_places_every_command() -> None:
    assert set(read_placement().tasks) == {*INTERFACES, *ACTS, "predict"}


def test_place__all_names_of_a_cluster_are_settings(tmp_path: Path) -> None:
    path = write_placement(
        tmp_path,
        secret={"name": "lab-keys", "keys": ["AWS_ACCESS_KEY_ID"]},
        config_map={"name": "lab-settings", "keys": ["MLFLOW_TRACKING_URI"]},
        image_pull_secrets=["registry"],
        data_cache={"path": "/cache", "claim": "packed-volumes", "size": "1Gi"},
        kinds__gpu__accelerator={"resource": "amd.com/gpu", "number": 2},
        kinds__gpu__node_selector={"pool": "mi300"},
        kinds__gpu__labels={"kueue.x-k8s.io/queue-name": "research"},
        kinds__gpu__tolerations=[{"key": "spot", "operator": "Equal", "value": "true", "effect": "NoExecute"}],
        kinds__gpu__node_affinity=[{"key": "zone", "operator": "In", "values": ["a", "b"]}],
    )
    task = compile_task(tmp_path, read_placement(path), "train-classifier")
    assert task.executor["resources"]["accelerator"]["resourceType"] == "amd.com/gpu"
    assert task.executor["resources"]["accelerator"]["resourceCount"] == "2"
    settings = task.settings
    assert settings["secretAsEnv"][0]["secretName"] == "lab-keys"
    assert settings["configMapAsEnv"][0]["configMapName"] == "lab-settings"
    assert settings["imagePullSecret"][0]["secretName"] == "registry"
    assert settings["pvcMount"][0]["mountPath"] == "/cache"
    assert settings["pvcMount"][0]["constant"] == "packed-volumes"
    assert settings["nodeSelector"]["labels"] == {"pool": "mi300"}
    assert settings["podMetadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "research"}
    assert settings["tolerations"] == [{"key": "spot", "operator": "Equal", "value": "true", "effect": "NoExecute"}]
    assert settings["nodeAffinity"][0]["matchExpressions"] == [{"key": "zone", "operator": "In", "values": ["a", "b"]}]


def test_place__retries_wait_longer_each_time_and_outlast_an_attempt(tmp_path: Path) -> None:
    task = compile_task(tmp_path, read_placement(), "train-segmenter")
    assert task.task["retryPolicy"] == {
        "maxRetryCount": 5,
        "backoffDuration": "60s",
        "backoffFactor": 2.0,
        "backoffMaxDuration": "345600s",
    }


def test_place__a_server_that_knows_no_time_to_live_is_told_none(tmp_path: Path) -> None:
    placement = read_placement(write_placement(tmp_path, pipeline={"ttl_s": None, "deadline_s": None, "user_id": None}))
    compile_pipeline("train_cascade", make_plan(placement=placement), tmp_path / "pipeline.yaml")
    text = (tmp_path / "pipeline.yaml").read_text(encoding="utf-8")
    assert "pipelineConfig" not in text
    assert "activeDeadlineSeconds" in text  # of tasks


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks__train_classifier": "tpu"}, "tasks name tpu; must be one of cpu, gpu"),
        ({"kinds__gpu__memory__limit": "much"}, "kinds.gpu.memory.limit is 'much'"),
        ({"kinds__gpu__retries__number": -1}, "kinds.gpu.retries.number is -1"),
        (
            {"kinds__gpu__retries__within_s": 3600},
            "kinds.gpu.retries.within_s is 3600 with a timeout_s of 172800; must be longer",
        ),
        ({"pipeline__ttl": 1}, "pipeline.ttl is no parameter"),
        ({"secret__name": "Not A Name"}, "secret.name is 'Not A Name'"),
    ],
)
def test_read_placement__a_broken_rule_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        read_placement(write_placement(tmp_path, **changes))


def test_read_placement__no_file_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"missing.yaml: cannot be read .*; copy pipelines/placement.yaml"):
        read_placement(tmp_path / "missing.yaml")
