import json
import os
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipelines.cli import main
from pipelines.engine import confine
from pipelines.local_run import LocalRunError, check_attempts, hurry, read_decision
from pipelines.placement import read_placement
from pipelines.task_watch import Attempt
from tumor_cascade.configuration import configure

DONE = [Attempt("ingest_data", "a", 0.0, 1.0, 0), Attempt("split_data", "b", 1.0, 2.0, 0)]


def test_check_attempts__last_attempt_counts() -> None:
    check_attempts([Attempt("split_data", "x", 0.0, 1.0, 137), *DONE], num_tasks=2)


@pytest.mark.parametrize(
    ("attempts", "message"),
    [
        ([*DONE, Attempt("split_data", "x", 2.0, 3.0, 3)], r"split_data \(exit code 3\) did not end well"),
        ([DONE[0], Attempt("split_data", "x", 2.0)], r"split_data \(running\) did not end well"),
        (DONE[:1], "1 of 2 tasks have run"),
    ],
)
def test_check_attempts__refused(attempts: list[Attempt], message: str) -> None:
    with pytest.raises(LocalRunError, match=message):
        check_attempts(attempts, num_tasks=2)


def test_hurry__all_kinds_are_tried_twice_at_once() -> None:
    placement = hurry(read_placement())
    assert {(kind.retries.number, kind.retries.backoff_s) for kind in placement.kinds.values()} == {(1, 1)}


def test_confine__no_privilege_and_nowhere_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("HOME", "/nowhere")
    given = confine("6g", {"A": "b"}, "run")
    assert given["environment"] == {"A": "b", "OMP_NUM_THREADS": "3"} | {
        name: os.environ[name] for name in ("TUMOR_CASCADE_NUM_THREADS",) if name in os.environ
    }
    assert (given["cap_drop"], given["read_only"]) == (["ALL"], True)
    assert not given["user"].startswith("0:")


def test_read_decision__or_none(tmp_path: Path) -> None:
    assert read_decision(tmp_path) is None
    path = tmp_path / "promote-cascade" / "decision" / "decision.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"verdict": "abstain"}))
    assert read_decision(tmp_path) == {"verdict": "abstain"}


def test_run__no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{probe.getsockname()[1]}")
        configure("smoke", tmp_path / "params.yaml")
        done = CliRunner().invoke(main, ["run", "--local", "--params", str(tmp_path / "params.yaml")])
    assert done.exit_code == 1
    assert "no Docker engine answers" in done.output and "apt-get install docker.io" in done.output
