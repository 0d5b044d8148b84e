"""A real S3 server for tests: SeaweedFS on loopback, with one bucket and credentials."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

BUCKET = "results"
KEYS = {"aws_access_key_id": "test-key", "aws_secret_access_key": "test-secret"}
CREDENTIALS = {**{name.upper(): value for name, value in KEYS.items()}, "AWS_DEFAULT_REGION": "us-east-1"}
START_TIMEOUT_S = 180
PID_NAME, PORTS_NAME = "server.pid", "ports.json"


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
        except client.exceptions.BucketAlreadyOwnedByYou:
            return  # of an earlier server on the same folder
        except (BotoCoreError, ClientError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def kill_server(folder: Path) -> None:
    """Kill the server whose data lie in a folder, as a power cut would."""
    os.kill(int((folder / PID_NAME).read_text(encoding="utf-8")), signal.SIGKILL)


@contextmanager
def serve_objects(folder: Path) -> Iterator[str]:
    """Run a server whose data lie in a folder; yield its URL."""
    identity = {
        "name": "test",
        "credentials": [{"accessKey": "test-key", "secretKey": "test-secret"}],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}), encoding="utf-8")
    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
    ports = dict(zip((*names, "s3.port", "s3.port.grpc"), find_ports(8), strict=True))
    if (folder / PORTS_NAME).exists():  # a second server on the same data finds its parts by their old ports
        ports = json.loads((folder / PORTS_NAME).read_text(encoding="utf-8"))
    (folder / PORTS_NAME).write_text(json.dumps(ports), encoding="utf-8")
    command = [
        str(Path(sys.executable).parent / "weed"),
        *("server", "-s3", f"-dir={folder}", f"-s3.config={folder / 's3.json'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        # Listeners with fixed ports, of which a second server would die, and reports to its makers.
        *("-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"),
        "-volume.minFreeSpace=100MiB",  # not a share of the disk, below which it refuses writes
        *("-master.volumeSizeLimitMB=64", "-volume.max=50", *(f"-{name}={port}" for name, port in ports.items())),
    ]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        (folder / PID_NAME).write_text(str(server.pid), encoding="utf-8")
    try:
        create_bucket(f"http://127.0.0.1:{ports['s3.port']}")
        yield f"http://127.0.0.1:{ports['s3.port']}"
    finally:
        server.kill()  # its data go with the folder; a friendly stop takes half a minute
        server.wait()
