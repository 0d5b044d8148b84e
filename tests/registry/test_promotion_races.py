"""Promoters that are killed, and promoters that meet: what stands in the ledger has happened, what does not has not."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import promoters
from object_server import BUCKET, CREDENTIALS, serve_objects

pytestmark = pytest.mark.slow

TESTS = Path(promoters.__file__).parent
OLD = {"champion": 1, "challenger": None, "previous": None}
NEW = {"champion": 2, "challenger": None, "previous": 1}
NUM_PROMOTERS, NUM_CANDIDATES = 20, 4
TIMEOUT_S = 600


def run_promoters(*arguments: str) -> dict[str, Any]:
    """Run the script in the current folder, in one thread: a fork would wait for OpenMP's threads, which it has not."""
    command = [sys.executable, "-W", "ignore", str(TESTS / "promoters.py"), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_promote__killed_after_any_step_ends_as_exactly_old_or_exactly_new(workplace: Path) -> None:
    result = run_promoters("kill")
    steps: list[str] = result["steps"]
    assert {"create_logged_model", "log_model_artifacts", "put_if_absent", "set_registered_model_alias"} < set(steps)
    commit = len(steps) - steps[::-1].index("put_if_absent")  # the last thing put is the entry
    assert len(result["ends"]) == len(steps)
    for number, found in enumerate(result["ends"], start=1):
        is_new = number >= commit
        assert found["aliases"] == (NEW if is_new else OLD), f"killed after step {number}"
        assert (found["num_entries"], found["findings"]) == (2 if is_new else 1, []), f"killed after step {number}"
    assert result["retried"] == {"aliases": NEW, "num_entries": 2, "versions": [2, 2, 2], "findings": []}


@pytest.fixture(params=["folder", "s3"])
def ledger(request: pytest.FixtureRequest, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where the ledger is: beside the database, or on an S3 server."""
    if request.param == "folder":
        yield
        return
    with serve_objects(workplace) as url:
        location = {"AWS_ENDPOINT_URL_S3": url, "TUMOR_CASCADE_LEDGER": f"s3://{BUCKET}/promotions"}
        for name, value in {**CREDENTIALS, **location}.items():
            monkeypatch.setenv(name, value)
        yield


@pytest.mark.usefixtures("ledger")
def test_promote__twenty_at_once_leave_one_consistent_champion() -> None:
    """Each candidate is offered five times at once: it has one version, the best one is champion and shown as such."""
    result = run_promoters("race", str(NUM_PROMOTERS), str(NUM_CANDIDATES))
    assert result["champion"] == str(NUM_CANDIDATES - 1)
    assert result["is_champion_known"]
    assert result["versions"] == [NUM_CANDIDATES] * 3
    assert result["judged"] == result["registered"]  # numbers of second versions, deleted at once, are missing
    assert result["findings"] == []
