"""Data that DVC has pushed to an S3 server, used by machines that have neither git nor DVC."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from object_server import BUCKET, CREDENTIALS, KEYS
from packed_folders import find_key, read_files
from pipeline import read_pipeline
from tumor_cascade.storage import hash_path
from workplaces import Workplace

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PREFIX = "data-plane"
SLICES, MANIFEST = "artifacts/ingest_data/slices", "artifacts/ingest_data/manifest.parquet"


@pytest.fixture(scope="module")
def pushed(smoke: Workplace, endpoint_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """A copy of the finished run, pushed; without credentials in its files."""
    copy = Workplace(tmp_path_factory.mktemp("pushed") / "copy")
    shutil.copytree(smoke.folder, copy.folder, symlinks=True)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        for name in ("AWS_ENDPOINT_URL_S3", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        patch.setenv("TUMOR_CASCADE_DATA_CACHE", str(copy.folder.parent / "cache"))
        copy.run("tumor-cascade", "remote", f"s3://{BUCKET}/{PREFIX}", "--endpoint-url", endpoint_url)
        copy.run("git", "commit", "--quiet", "--all", "--message", "A remote")
        copy.run("dvc", "push")
        yield copy


def test_data__what_dvc_has_pushed_is_complete_until_an_object_is_missing(pushed: Workplace, endpoint_url: str) -> None:
    assert pushed.run("tumor-cascade", "data", "verify", "--rev", "HEAD").startswith("Complete: 17 files, ")
    client = boto3.client("s3", endpoint_url=endpoint_url, region_name="us-east-1", **KEYS)
    paths = sorted((pushed.folder / SLICES).glob("*.npy"))[:2]
    keys = [f"{PREFIX}/{find_key(path)}" for path in paths]
    for key in keys:
        client.delete_object(Bucket=BUCKET, Key=key)
    output = pushed.run("tumor-cascade", "data", "verify", is_failure_expected=True)
    assert "has 2 missing or corrupt objects" in output
    for path, key in zip(paths, keys, strict=True):
        assert f"- {key.split('/', 3)[3].replace('/', '')} is missing" in output
        client.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())
    pushed.run("tumor-cascade", "data", "verify")


def test_ingest_data__in_a_pod_publishes_what_dvc_would_push(
    pushed: Workplace, endpoint_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint_url)
    outputs = ("--out-slices", str(tmp_path / "slices"), "--out-manifest", str(tmp_path / "manifest.parquet"))
    url = f"s3://{BUCKET}/{PREFIX}"
    output = pushed.run("tumor-cascade", "ingest_data", "--raw", "", "--data-store", url, *outputs)
    assert " 0 sent with the manifest" in output  # object for object what DVC has pushed
    reference = json.loads(pushed.run("tumor-cascade", "data", "reference"))
    assert json.loads((tmp_path / "slices").read_text()) == reference


def test_stages__on_a_reference_write_the_same_bytes(
    pushed: Workplace, endpoint_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = pushed.run("tumor-cascade", "data", "reference")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint_url)
    pod = Workplace(tmp_path / "pod")
    shutil.copytree(pushed.folder, pod.folder, symlinks=True)
    shutil.rmtree(pod.folder / ".dvc")
    shutil.rmtree(pod.folder / SLICES)
    (pod.folder / MANIFEST).unlink()
    outputs = ("--out-slices", SLICES, "--out-manifest", MANIFEST)
    pod.run("tumor-cascade", "ingest_data", "--raw", "", "--reference", reference, *outputs)
    assert (pod.folder / SLICES).is_file()
    for stage in read_pipeline()[1:]:
        for out in stage.outs:
            path = pod.folder / out
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        output = pod.run(*stage.arguments)
        assert "all whole in the cache" in output or stage.name == "validate_data"
        for out in stage.outs:
            if (pod.folder / out).is_dir() and stage.name != "validate_data":  # whose page tells the time
                assert read_files(pod.folder / out) == read_files(pushed.folder / out), out
            assert hash_path(pod.folder / out) == hash_path(pushed.folder / out) or stage.name == "validate_data", out
    assert "Version 1: Not decided" in pod.run("tumor-cascade", "promote_cascade")
