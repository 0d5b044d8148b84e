"""A run shared through a real S3 server: push, fresh clone, pull, and nothing is run again."""

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from workplaces import Workplace

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

BUCKET = "results"
KEYS = {"aws_access_key_id": "test-key", "aws_secret_access_key": "test-secret"}
CREDENTIALS = {**{name.upper(): value for name, value in KEYS.items()}, "AWS_DEFAULT_REGION": "us-east-1"}
START_TIMEOUT_S = 60


def find_ports(number: int) -> list[int]:
    """Return free ports; SeaweedFS takes port + 10000 for gRPC unless told otherwise, so all are named."""
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def create_bucket(endpoint_url: str) -> None:
    """Create the bucket as soon as the server answers."""
    config = Config(connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 1})
    client = boto3.client("s3", endpoint_url=endpoint_url, region_name="us-east-1", config=config, **KEYS)
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            client.create_bucket(Bucket=BUCKET)
            return
        except (BotoCoreError, ClientError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


@pytest.fixture(scope="module")
def endpoint_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a SeaweedFS server on loopback that asks for credentials."""
    folder = tmp_path_factory.mktemp("seaweedfs")
    identity = {
        "name": "test",
        "credentials": [{"accessKey": "test-key", "secretKey": "test-secret"}],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}), encoding="utf-8")
    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
    ports = dict(zip((*names, "s3.port", "s3.port.grpc"), find_ports(8), strict=True))
    command = [
        str(Path(sys.executable).parent / "weed"),
        *("server", "-s3", f"-dir={folder}", f"-s3.config={folder / 's3.json'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *("-master.volumeSizeLimitMB=64", "-volume.max=50", *(f"-{name}={port}" for name, port in ports.items())),
    ]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    try:
        create_bucket(f"http://127.0.0.1:{ports['s3.port']}")
        yield f"http://127.0.0.1:{ports['s3.port']}"
    finally:
        server.kill()  # its data go with the folder; a friendly stop takes half a minute
        server.wait()


def test_remote__push_to_s3_clone_pull_and_nothing_runs(
    smoke: Workplace, endpoint_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    shutil.copytree(smoke.folder, tmp_path / "copy", symlinks=True)
    copy, clone = Workplace(tmp_path / "copy"), Workplace(tmp_path / "clone")
    copy.run("tumor-cascade", "remote", f"s3://{BUCKET}/tumor-cascade", "--endpoint-url", endpoint_url)
    config = (copy.folder / ".dvc" / "config").read_text(encoding="utf-8")
    assert not any(secret in config for secret in ("test-key", "test-secret"))
    copy.run("git", "commit", "--quiet", "--all", "--message", "A remote")
    copy.run("dvc", "push")
    copy.run("git", "clone", "--quiet", str(copy.folder), str(clone.folder))
    (clone.folder / "data" / "raw").mkdir(parents=True)
    clone.run("dvc", "pull")
    assert clone.find_runs(clone.run("dvc", "repro")) == []
    assert (clone.folder / "artifacts/evaluate_cascade/report/report.html").is_file()


def test_remote__a_server_that_is_away_fails_within_a_minute(
    smoke: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    shutil.copytree(smoke.folder, tmp_path / "copy", symlinks=True)
    copy = Workplace(tmp_path / "copy")
    copy.run("tumor-cascade", "remote", f"s3://{BUCKET}/x", "--endpoint-url", f"http://127.0.0.1:{find_ports(1)[0]}")
    started = time.monotonic()
    output = copy.run("dvc", "push", is_failure_expected=True)
    assert "ERROR" in output
    assert time.monotonic() - started < 60
