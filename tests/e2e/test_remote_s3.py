"""A run shared through a real S3 server: push, fresh clone, pull, and nothing is run again."""

import shutil
import time
from pathlib import Path

import pytest

from object_server import BUCKET, CREDENTIALS, find_ports
from workplaces import Workplace

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


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
