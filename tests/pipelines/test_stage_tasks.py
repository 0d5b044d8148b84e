from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compiled import list_tasks, make_plan
from pipelines.catalog import compile_pipeline
from pipelines.plan import Plan, RawData

FOLDS = {"assemble_cascade__folds": "[0,1]"}


def compile_tasks(folder: Path, plan: Plan, name: str = "train_cascade") -> dict[str, dict[str, Any]]:
    """Return the tasks of a compiled pipeline, as the specification has them, by shown name."""
    compile_pipeline(name, plan, folder / "pipeline.yaml")
    tasks = list_tasks((folder / "pipeline.yaml").read_text(encoding="utf-8"))
    return {task.task["taskInfo"]["name"]: task.task for task in tasks}


def read_keys(folder: Path, plan: Plan) -> dict[str, str]:
    options = {name: task["cachingOptions"] for name, task in compile_tasks(folder, plan).items()}
    return {name: one["cacheKey"] for name, one in options.items() if one}


@pytest.mark.parametrize(
    ("changed", "affected"),
    [
        (
            {"train_segmenter__fn_weight": 0.7},
            {"train_segmenter, fold 0", "train_segmenter, fold 1", "assemble_cascade", "evaluate_cascade"},
        ),
        ({"evaluate_cascade__num_bootstrap": 2000}, {"evaluate_cascade"}),
        ({"assemble_cascade__target_sensitivity": 0.97}, {"assemble_cascade", "evaluate_cascade"}),
    ],
)
def test_cache_keys__change_downstream_of_a_changed_value_alone(
    tmp_path: Path, changed: dict[str, object], affected: set[str]
) -> None:
    before, after = (read_keys(tmp_path, make_plan(**FOLDS, **values)) for values in ({}, changed))
    assert {name for name in before if before[name] != after[name]} == affected


def test_cache_keys__a_fold_that_is_added_retrains_no_other(tmp_path: Path) -> None:
    one, two = read_keys(tmp_path, make_plan()), read_keys(tmp_path, make_plan(**FOLDS))
    assert one["train_classifier, fold 0"] == two["train_classifier, fold 0"]
    assert one["assemble_cascade"] != two["assemble_cascade"]


def test_cache_keys__image_and_placement_play_no_part(tmp_path: Path) -> None:
    plan = make_plan()
    moved = plan.placement.model_copy(update={"tasks": dict.fromkeys(plan.placement.tasks, "cpu")})
    other = replace(plan, image=f"elsewhere/name@sha256:{'f' * 64}", placement=moved)
    assert read_keys(tmp_path, plan) == read_keys(tmp_path, other)


def test_cache_keys__other_data_change_all(tmp_path: Path) -> None:
    plan = make_plan()
    other = replace(plan, data=RawData(reference=plan.data.reference.replace("1" * 32, "3" * 32)))
    before, after = read_keys(tmp_path, plan), read_keys(tmp_path, other)
    assert not [name for name in before if before[name] == after[name]]


def test_cache__raw_data_in_a_bucket_may_change_so_nothing_is_taken_from_it(tmp_path: Path) -> None:
    plan = make_plan(ingest_data__source="kaggle")
    assert read_keys(tmp_path, replace(plan, data=RawData(url="s3://bucket/raw.zip"))) == {}


def test_tasks__bad_data_stop_before_the_split_and_trainings_wait_for_no_other(tmp_path: Path) -> None:
    tasks = compile_tasks(tmp_path, make_plan(**FOLDS))
    waits = {name: set(task.get("dependentTasks", [])) for name, task in tasks.items()}
    assert waits["split_data"] == {"ingest-data", "validate-data"}
    trainings = [name for name in waits if name.startswith("train_")]
    assert len(trainings) == 4
    assert all(waits[name] == {"ingest-data", "split-data"} for name in trainings)
    assert {"train-classifier", "train-classifier-2", "train-segmenter", "train-segmenter-2"} <= waits[
        "assemble_cascade"
    ]
    assert "evaluate-cascade" in waits["promote_cascade"]
