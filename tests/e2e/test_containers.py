"""All of `smoke` as confined containers on real servers, a training killed on its way, against `dvc repro`."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from mlflow import MlflowClient

from container_runs import ContainerRun, build_image, commit_lenient_policy, require_engine, run_in_containers
from tumor_cascade.registry.versions import PRODUCT
from tumor_cascade.storage import hash_path
from workplaces import Workplace, make_workplace

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(3600)]

KILL_EPOCH, NUM_EPOCHS = 4, 10  # of preset `smoke`
# Outputs of containers, and where `dvc repro` has the same. Slices travel as a reference.
OUTPUTS = {
    "ingest-data/manifest": "ingest_data/manifest.parquet",
    "validate-data/report": "validate_data/report",
    "validate-data/metrics": "validate_data/metrics.json",
    "split-data/splits": "split_data/splits",
    "split-data/metrics": "split_data/metrics.json",
    "train-classifier/classifier": "train_classifier/fold-0/classifier",
    "train-classifier/metrics": "train_classifier/fold-0/metrics.json",
    "train-segmenter/segmenter": "train_segmenter/fold-0/segmenter",
    "train-segmenter/metrics": "train_segmenter/fold-0/metrics.json",
    "assemble-cascade/cascade": "assemble_cascade/cascade",
    "assemble-cascade/report": "assemble_cascade/report",
    "assemble-cascade/metrics": "assemble_cascade/metrics.json",
    "evaluate-cascade/report": "evaluate_cascade/report",
    "evaluate-cascade/metrics": "evaluate_cascade/metrics.json",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContainerRun]:
    require_engine().close()
    workplace = make_workplace(tmp_path_factory.mktemp("containers"), "smoke")
    commit_lenient_policy(workplace)
    build_image(workplace)
    with run_in_containers(workplace, "train-segmenter", KILL_EPOCH) as done:
        yield done


def list_keys(run: ContainerRun, bucket: str) -> list[str]:
    names = {"aws_access_key_id": "AWS_ACCESS_KEY_ID", "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY"}
    keys = {name: run.environment[variable] for name, variable in names.items()}
    client = boto3.client("s3", endpoint_url=run.environment["AWS_ENDPOINT_URL_S3"], region_name="us-east-1", **keys)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return [one["Key"] for page in pages for one in page.get("Contents", [])]


@pytest.mark.parametrize("name", OUTPUTS)
def test_run__same_bytes_as_dvc_repro(run: ContainerRun, smoke: Workplace, name: str) -> None:
    assert hash_path(run.folder / name) == hash_path(smoke.folder / "artifacts" / OUTPUTS[name])


def test_run__slices_are_in_the_store_once_and_as_dvc_repro_packs_them(run: ContainerRun, smoke: Workplace) -> None:
    reference = json.loads((run.folder / "ingest-data/slices").read_text())
    packed = [path for path in Path(smoke.folder, "artifacts/ingest_data/slices").rglob("*") if path.is_file()]
    assert reference["num_files"] == len(packed) == 17  # 16 patients and content.json
    assert reference["num_bytes"] == sum(path.stat().st_size for path in packed)
    stored = [key for key in list_keys(run, "pipelines") if key.startswith("data/files/md5/")]
    assert len(stored) == 19  # the files, their list and the manifest


def test_run__killed_training_carries_on_from_its_checkpoint_in_the_store(run: ContainerRun) -> None:
    log = run.output.split("Executing task")
    first, second = (part for part in log if "train-segmenter" in part.partition("\n")[0])
    epochs = [[int(epoch) for epoch in re.findall(r"epoch (\d+)/", part)] for part in (first, second)]
    assert epochs[0] == list(range(1, KILL_EPOCH + 1))
    assert "carries on from the checkpoint in s3://pipelines/checkpoints" in second
    # The checkpoint of the last epoch may not have been on its way when the container died.
    assert epochs[1][0] in (KILL_EPOCH, KILL_EPOCH + 1)
    assert epochs[1] == list(range(epochs[1][0], NUM_EPOCHS + 1))
    assert re.search(r"train_segmenter, fold 0 +killed by 9", run.output)
    kept = [key for key in list_keys(run, "pipelines") if re.match(r"checkpoints/train_segmenter/.*/last.ckpt$", key)]
    assert len(kept) == 1


def test_run__ends_in_a_champion_with_its_ledger(run: ContainerRun) -> None:
    champion = MlflowClient(run.environment["MLFLOW_TRACKING_URI"]).get_model_version_by_alias(PRODUCT, "champion")
    content = json.loads((run.folder / "assemble-cascade/cascade/content.json").read_text())
    assert champion.version == "1"
    assert champion.tags["content_id"] == content["content_id"]
    assert json.loads((run.folder / "promote-cascade/decision/decision.json").read_text())["verdict"] == "promote"
    assert list_keys(run, "ledger")
