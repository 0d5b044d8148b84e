import json
import os
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from outputs import EPOCH_TIMES, VAL_DICE, read_content_id, write_outputs, write_progress
from tumor_cascade.params import STAGES
from tumor_cascade.registry.client import TrackingError, connect
from tumor_cascade.registry.executions import Execution
from tumor_cascade.registry.outputs import read_outputs
from tumor_cascade.registry.recipe import Recipe
from tumor_cascade.registry.tracking import track_artifacts, track_execution
from tumor_cascade.storage import hash_file

PARAMS = Path("params.yaml")
TIMES_MS = [int(time * 1000) for time in EPOCH_TIMES]


def list_runs(client: MlflowClient) -> list[Run]:
    experiment = client.get_experiment_by_name("tumor-cascade")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def get_run(client: MlflowClient, stage: str) -> Run:
    """The one run of a stage that is no link."""
    found = [run for run in list_runs(client) if run.data.tags["stage"] == stage and "content_id" in run.data.tags]
    assert len(found) == 1
    return found[0]


def count_points(client: MlflowClient) -> dict[str, int]:
    """Number of points per metric, all runs together; a point that was logged twice would count twice."""
    counts: Counter[str] = Counter()
    for run in list_runs(client):
        for key in run.data.metrics:
            counts[key] += len(client.get_metric_history(run.info.run_id, key))
    return dict(counts)


def write_execution(folder: Path, artifacts: Path, stage: str, **changes: object) -> Path:
    """Write the record of a stage that ran on `artifacts`."""
    names = {"slices": "ingest_data/slices", "manifest": "ingest_data/manifest.parquet", "splits": "split_data/splits"}
    paths = {noun: str(artifacts / name) for noun, name in names.items()}
    out = artifacts / stage / ("fold-0" if stage.startswith("train_") else "")
    nouns = {"train_segmenter": ("segmenter", "report"), "evaluate_cascade": ("report",)}[stage]
    paths |= {f"out_{noun}": str(out / noun) for noun in nouns} | {"out_metrics": str(out / "metrics.json")}
    paths["cascade"] = str(artifacts / "assemble_cascade" / "cascade")
    fold = 0 if stage.startswith("train_") else None
    facts = {"stage": stage, "fold": fold, "started": EPOCH_TIMES[0] - 60, "pid": os.getpid(), "paths": paths}
    execution = Execution(**{**facts, "host": "desk", "params": {"fn_weight": 0.5}, **changes})
    path = folder / "record.json"
    path.write_text(json.dumps(asdict(execution)))
    return path


def test_track_artifacts__shows_a_pipeline_and_again_adds_nothing(workplace: Path) -> None:
    artifacts = write_outputs(workplace)
    write_progress(Path("checkpoints"), "train_segmenter", read_content_id(artifacts, "train_segmenter"), 3)
    tracked = dict(track_artifacts(artifacts, PARAMS))
    client = connect()
    check_structure(client, artifacts, tracked["pipeline"].info.run_id)
    check_segmenter(client, artifacts)
    before = {run.info.run_id: (run.data.metrics, run.data.tags) for run in list_runs(client)}
    points = count_points(client)
    track_artifacts(artifacts, PARAMS)
    assert {run.info.run_id: (run.data.metrics, run.data.tags) for run in list_runs(client)} == before
    assert count_points(client) == points
    assert points["curves/val_dice"] == 3 + 3  # both trainings


def check_structure(client: MlflowClient, artifacts: Path, parent_id: str) -> None:
    """One parent with the headlines, a child per stage below it."""
    assert len(list_runs(client)) == 8
    for stage in STAGES:
        run = get_run(client, stage)
        assert run.data.tags["mlflow.parentRunId"] == parent_id
        assert run.data.tags["content_id"] == read_content_id(artifacts, stage)
        assert run.info.status == "FINISHED"
    parent = get_run(client, "pipeline")
    assert parent.data.params["train_segmenter.fn_weight"] == "0.5"
    assert parent.data.params["ingest_data.phantom.num_patients"] == "16"
    assert parent.data.metrics == {  # f1 is no headline, hd95 undefined
        "cascade/test_volume_dice": 0.7,
        "cascade/test_volume_dice_low": 0.6,
        "cascade/test_volume_dice_high": 0.8,
    }
    assert "[made here]" in parent.data.tags["mlflow.note.content"]
    run_id = get_run(client, "evaluate_cascade").info.run_id
    files = {entry.path for entry in client.list_artifacts(run_id, "report")}
    assert files == {"report/report.html", "report/per_patient.csv", "report/figures"}
    assert [entry.path for entry in client.list_artifacts(run_id, "report/figures")] == ["report/figures/roc.png"]


def check_segmenter(client: MlflowClient, artifacts: Path) -> None:
    """Params, headline, data, facts, and curves with the times of the log; without a log with one time."""
    run = get_run(client, "train_segmenter")
    assert {"train_segmenter.augmentation.noise_std", "train_segmenter.loss", "fold"} <= set(run.data.params)
    assert run.data.metrics["segmenter/train_dice"] == 0.333333
    assert (run.data.tags["protocol"], run.data.tags["is_leaky"]) == ("patient_level", "false")
    (dataset,) = run.inputs.dataset_inputs
    digest = hash_file(artifacts / "ingest_data" / "manifest.parquet")
    assert dataset.dataset.digest == digest[:36]
    assert json.loads(dataset.dataset.profile) == {"num_patients": 4, "num_slices": 16, "manifest_sha256": digest}
    history = client.get_metric_history(run.info.run_id, "curves/val_dice")
    expected = list(zip(range(3), VAL_DICE, TIMES_MS, strict=True))
    assert [(one.step, one.value, one.timestamp) for one in history] == expected
    assert run.data.metrics["system/images_per_s"] == 11.0  # median of 10, 11, 12
    assert run.data.tags["summary"] == "11 images/s, cpu, 1024 MB, 180 s"
    other = client.get_metric_history(get_run(client, "train_classifier").info.run_id, "curves/val_dice")
    assert len({one.timestamp for one in other}) == 1


def test_track_artifacts__by_three_at_once(workplace: Path) -> None:
    artifacts = write_outputs(workplace)
    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(track_artifacts, artifacts, PARAMS) for _ in range(3)]:
            done.result()
    client = connect()
    names = Counter(run.data.tags["stage"] for run in list_runs(client))
    assert names == dict.fromkeys((*STAGES, "pipeline"), 1)
    assert count_points(client)["curves/val_dice"] == 6


def test_track_artifacts__a_restored_stage_links_to_the_run_that_made_it(workplace: Path) -> None:
    first = write_outputs(workplace / "first")
    track_artifacts(first, workplace / "first" / "params.yaml")
    second = write_outputs(workplace / "second", ["train_segmenter.fn_weight=0.6", "train_segmenter.fp_weight=0.4"])
    parent = dict(track_artifacts(second, workplace / "second" / "params.yaml"))["pipeline"]
    client = connect()
    maker = get_run(client, "train_classifier")
    assert maker.data.tags["mlflow.parentRunId"] != parent.info.run_id
    children = [run for run in list_runs(client) if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert sorted(run.data.tags["stage"] for run in children) == sorted(STAGES)
    links = {run.data.tags["stage"]: run for run in children if "content_id" not in run.data.tags}
    assert set(links) == {"ingest_data", "validate_data", "split_data", "train_classifier"}
    assert links["train_classifier"].data.tags["same_content_as"] == maker.info.run_id
    assert not links["train_classifier"].data.metrics


def test_track_artifacts__leaves_out_what_stems_from_older_inputs(workplace: Path) -> None:
    artifacts = write_outputs(workplace)
    other = write_outputs(workplace / "other", ["train_segmenter.fn_weight=0.6", "train_segmenter.fp_weight=0.4"])
    shutil.rmtree(artifacts / "train_segmenter")
    shutil.copytree(other / "train_segmenter", artifacts / "train_segmenter")
    labels = [label for label, _ in track_artifacts(artifacts, PARAMS)]
    assert "train_segmenter/fold-0" in labels
    assert not {"assemble_cascade", "evaluate_cascade"} & set(labels)


def test_track_artifacts__nothing_to_track(workplace: Path) -> None:
    with pytest.raises(TrackingError, match="no output of any stage; run `dvc repro`"):
        track_artifacts(workplace / "artifacts", PARAMS)


def test_track_artifacts__server_is_away(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifacts = write_outputs(workplace)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(TrackingError, match=r"http://127.0.0.1:9 does not answer; start it"):
        track_artifacts(artifacts, PARAMS)


def test_track_execution__a_training_grows_and_ends_as_one_run(workplace: Path) -> None:
    artifacts = write_outputs(workplace)
    content_id = read_content_id(artifacts, "train_segmenter")
    record = write_execution(workplace, artifacts, "train_segmenter")
    for num_epochs in (1, 2):
        write_progress(Path("checkpoints"), "train_segmenter", content_id, num_epochs)
        track_execution(record)
    client = connect()
    run = get_run(client, "train_segmenter")
    assert run.info.status == "RUNNING"
    assert len(client.get_metric_history(run.info.run_id, "curves/val_dice")) == 2
    write_progress(Path("checkpoints"), "train_segmenter", content_id, 3)
    ended = EPOCH_TIMES[2] + 1
    track_execution(write_execution(workplace, artifacts, "train_segmenter", status="finished", ended=ended))
    run = get_run(client, "train_segmenter")
    assert (run.info.status, run.info.end_time) == ("FINISHED", int(ended * 1000))
    assert run.info.start_time == TIMES_MS[0] - 60_000
    assert len(client.get_metric_history(run.info.run_id, "curves/val_dice")) == 3
    assert run.data.metrics["segmenter/val_dice"] == 0.75


def test_track_execution__an_epoch_that_a_kill_repeated_stands_once(workplace: Path) -> None:
    artifacts = write_outputs(workplace)
    path = write_progress(Path("checkpoints"), "train_segmenter", read_content_id(artifacts, "train_segmenter"), 2)
    record = write_execution(workplace, artifacts, "train_segmenter")
    track_execution(record)
    lines = path.read_text().splitlines()
    again = {**json.loads(lines[-1]), "time": EPOCH_TIMES[2]}
    path.write_text("\n".join([*lines, lines[0], json.dumps(again), '{"epoch": 2, "time": 17']))  # a line half written
    track_execution(record)
    client = connect()
    history = client.get_metric_history(get_run(client, "train_segmenter").info.run_id, "curves/val_dice")
    assert [(one.step, one.timestamp) for one in history] == [(0, TIMES_MS[0]), (1, TIMES_MS[1])]


def test_track_execution__a_failed_training_is_marked_and_may_be_resumed(workplace: Path) -> None:
    artifacts = write_outputs(workplace)
    write_progress(Path("checkpoints"), "train_segmenter", read_content_id(artifacts, "train_segmenter"), 1)
    track_execution(write_execution(workplace, artifacts, "train_segmenter", status="failed", ended=EPOCH_TIMES[1]))
    client = connect()
    assert get_run(client, "train_segmenter").info.status == "FAILED"
    track_execution(write_execution(workplace, artifacts, "train_segmenter"))
    assert get_run(client, "train_segmenter").info.status == "RUNNING"


def test_track_execution__in_a_pod_that_knows_its_inputs_alone(workplace: Path) -> None:
    artifacts = write_outputs(workplace)
    elsewhere = workplace / "pod"
    shutil.copytree(artifacts / "evaluate_cascade", elsewhere)
    track_artifacts(artifacts, PARAMS)
    client = connect()
    parent = get_run(client, "pipeline")
    record = write_execution(workplace, artifacts, "evaluate_cascade", status="finished", ended=EPOCH_TIMES[2])
    values = json.loads(record.read_text())
    values["paths"] |= {"out_report": str(elsewhere / "report"), "out_metrics": str(elsewhere / "metrics.json")}
    record.write_text(json.dumps(values))
    track_execution(record)
    assert len(list_runs(client)) == 8
    assert get_run(client, "pipeline").info.run_id == parent.info.run_id


@pytest.mark.parametrize("entry_point", ["train_segmenter", "main", None])
def test_track_execution__adopts_an_injected_run(workplace: Path, entry_point: str | None) -> None:
    artifacts = write_outputs(workplace)
    recipe = Recipe.of_contents(output.content for output in read_outputs(artifacts))
    assert recipe is not None
    client = connect()
    experiment = client.create_experiment("tumor-cascade")
    tags = {} if entry_point is None else {"mlflow.project.entryPoint": entry_point}
    injected = client.create_run(experiment, tags=tags).info.run_id
    changes = {"status": "finished", "ended": EPOCH_TIMES[2], "injected_run_id": injected, "pipeline": asdict(recipe)}
    for _ in range(2):
        track_execution(write_execution(workplace, artifacts, "train_segmenter", **changes))
    stage = "train_segmenter" if entry_point == "train_segmenter" else "pipeline"
    assert get_run(client, stage).info.run_id == injected
    child = get_run(client, "train_segmenter")
    assert child.data.tags["mlflow.parentRunId"] == get_run(client, "pipeline").info.run_id
    assert len(list_runs(client)) == 2


def test_track_execution__injected_run_of_a_known_content_only_points_there(workplace: Path) -> None:
    artifacts = write_outputs(workplace)
    track_artifacts(artifacts, PARAMS)
    client = connect()
    known = get_run(client, "train_segmenter")
    injected = client.create_run(known.info.experiment_id, tags={"mlflow.project.entryPoint": "train_segmenter"})
    changes = {"status": "finished", "ended": EPOCH_TIMES[2], "injected_run_id": injected.info.run_id}
    track_execution(write_execution(workplace, artifacts, "train_segmenter", **changes))
    tags = client.get_run(injected.info.run_id).data.tags
    assert tags["same_content_as"] == known.info.run_id
    assert "content_id" not in tags
