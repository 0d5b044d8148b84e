"""Promoters that are killed, and promoters that meet: what stands in the ledger has happened, what does not has not."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import promoters
from object_server import BUCKET, CREDENTIALS, serve_objects

TESTS = Path(promoters.__file__).parent
OLD = {"champion": 1, "challenger": None, "previous": None}
NEW = {"champion": 2, "challenger": None, "previous": 1}
NUM_PROMOTERS = 20


def run_promoters(*arguments: str) -> dict[str, Any]:
    """Run the script in the current folder."""
    command = [sys.executable, "-W", "ignore", str(TESTS / "promoters.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.mark.slow
def test_promote__killed_after_any_step_ends_as_exactly_old_or_exactly_new(workplace: Path) -> None:
    result = run_promoters("kill")
    commit = len(result["steps"]) - result["steps"][::-1].index("put_if_absent")  # the last thing put is the entry
    assert len(result["ends"]) == len(result["steps"]) + 1
    assert all(end["killed"] == "killed" for end in result["ends"][1:])
    for number, end in enumerate(result["ends"]):
        found, is_new = end["recovered"], number >= commit
        assert found["aliases"] == (NEW if is_new else OLD), f"killed after step {number}"
        assert (found["num_entries"], found["findings"]) == (2 if is_new else 1, []), f"killed after step {number}"
    assert result["retried"] == {"aliases": NEW, "num_entries": 2, "versions": [2, 2, 2], "findings": []}


@pytest.mark.slow
def test_promote__twenty_at_once_leave_one_consistent_champion(workplace: Path) -> None:
    result = run_promoters("race", str(NUM_PROMOTERS), str(NUM_PROMOTERS))
    check_race(result, num_candidates=NUM_PROMOTERS)
    assert result["num_entries"] == NUM_PROMOTERS


@pytest.mark.slow
def test_promote__twenty_at_once_with_a_ledger_on_s3_offering_four_candidates(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve_objects(workplace) as url:
        location = {"AWS_ENDPOINT_URL_S3": url, "TUMOR_CASCADE_LEDGER": f"s3://{BUCKET}/promotions"}
        for name, value in {**CREDENTIALS, **location}.items():
            monkeypatch.setenv(name, value)
        check_race(run_promoters("race", str(NUM_PROMOTERS), "4"), num_candidates=4)


def check_race(result: dict[str, Any], num_candidates: int) -> None:
    """Every candidate has one version and is judged, the best one is champion, and the registry shows just that."""
    assert result["champion"] == str(num_candidates - 1)
    assert result["is_champion_known"]
    assert result["versions"] == [num_candidates] * 3
    assert len(result["candidates"]) == num_candidates
    assert result["findings"] == []
