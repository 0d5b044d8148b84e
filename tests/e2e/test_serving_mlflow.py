"""`mlflow models serve` of a promoted champion: right answers, and what it says to hostile requests.

The second half writes the table of docs/serving.md; UPDATE_SERVING=1 writes it again.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from candidates import judge_as, write_candidate
from cascade_servers import PredictionServer, run_server, serve_with_mlflow
from hostile import Attack, find_leaks, list_attacks, send_attack
from slice_requests import PARQUET_TYPE, Reply, make_body, make_row, make_volume, send
from tumor_cascade.registry.entries import PolicyRef
from tumor_cascade.registry.promotion import promote
from tumor_cascade.registry.shared import open_shared
from workplaces import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PAGE = ROOT / "docs" / "serving.md"
START, END = "<!-- answers: written by tests/e2e/test_serving_mlflow.py -->\n", "<!-- end of answers -->\n"
CHAMPION = "models:/tumor-cascade@champion"
MEGABYTE = 2**20


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder with a registry that has a champion, and its URI."""
    folder = tmp_path_factory.mktemp("registry")
    cascade = write_candidate(folder / "cascade", "served", gate_threshold=0.0, has_neighbor_slices=True)
    uri = f"sqlite:///{folder}/mlflow.db"
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        for name in [name for name in os.environ if name.startswith(("MLFLOW_RUN", "MLFLOW_EXPERIMENT"))]:
            patch.delenv(name)
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        shared = open_shared()
        policy = PolicyRef(name="paper", sha256="4" * 64)
        promote(shared.registry, shared.store, cascade, policy, lambda *_: judge_as("promote"))
    yield folder, uri


@pytest.fixture(scope="module")
def ours(registry: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[PredictionServer]:
    arguments = ["-m", "tumor_cascade.cli", "serve", "--model", CHAMPION, "--port", "{port}"]
    with run_server(tmp_path_factory.mktemp("ours"), arguments, "/readyz", MLFLOW_TRACKING_URI=registry[1]) as server:
        yield server


@pytest.fixture(scope="module")
def theirs(registry: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[PredictionServer]:
    with serve_with_mlflow(tmp_path_factory.mktemp("theirs"), CHAMPION, MLFLOW_TRACKING_URI=registry[1]) as server:
        yield server


def require_same(found: Reply, expected: Reply) -> None:
    assert (found.status, expected.status) == (200, 200), (found.body[:500], expected.body[:500])
    for one, other in zip(found.json["predictions"], expected.json["predictions"], strict=True):
        numbers = {name: pytest.approx(other[name], abs=1e-5) for name in ("probability", "uncertainty")}
        assert one == {**other, **numbers}
        assert (one["status"], one["model_version"]) == ("ok", 1)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "NPY"])
def test_mlflow__answers_as_our_own_server(ours: PredictionServer, theirs: PredictionServer, kind: str) -> None:
    body = make_body(make_volume(3, kind=kind), decision_threshold=0.3)
    require_same(send(theirs.url, body), send(ours.url, body))


def test_mlflow__answers_tables_as_json(theirs: PredictionServer) -> None:
    rows = make_volume(3)
    as_json, frame = send(theirs.url, make_body(rows)), pd.DataFrame(rows)
    require_same(send(theirs.url, frame.to_parquet(), PARQUET_TYPE), as_json)
    require_same(send(theirs.url, frame.to_csv(index=False).encode(), "text/csv"), as_json)


def test_mlflow__a_bad_image_is_an_error_row_and_a_bad_request_a_400(theirs: PredictionServer) -> None:
    rows = send(theirs.url, make_body([make_row(1), {"image": "AAAA"}])).json["predictions"]
    assert [row["status"] for row in rows] == ["ok", "error"]
    assert "no PNG, TIFF or NPY" in rows[1]["error"]
    refused = send(theirs.url, make_body([make_row(1)], mask_threshold=7.0))
    assert refused.status == 400
    assert "mask_threshold is no number from 0 to 1" in refused.json["message"]
    assert "stack_trace" not in refused.json


def name_answer(attack: Attack, reply: Reply) -> str:
    """Return what the page says of an answer."""
    parts = [str(reply.status)]
    if reply.status == 200:
        statuses = {answer["status"] for answer in reply.json["predictions"]}
        parts = ["200, row" if statuses == {"error"} else "200, answered"]
    leaks: list[Any] = find_leaks(attack, reply)
    if len(reply.body) > MEGABYTE:
        leaks.append(f"{round(len(reply.body) / MEGABYTE)} MB")
    return ", ".join([*parts, *(f"**{leak}**" for leak in leaks)])


def test_page__says_what_each_server_answers_to_hostile_requests(
    ours: PredictionServer, theirs: PredictionServer
) -> None:
    lines = ["| request | `tumor-cascade serve` | `mlflow models serve` |", "|---|---|---|"]
    for attack in list_attacks():
        answers = [name_answer(attack, send_attack(server.url, attack)) for server in (ours, theirs)]
        assert not answers[0].startswith("5")
        assert "**" not in answers[0]
        lines.append(f"| {attack.name} | {answers[0]} | {answers[1]} |")
    for server in (ours, theirs):
        assert send(server.url, make_body([make_row(1)])).status == 200
    before, rest = PAGE.read_text(encoding="utf-8").split(START)
    page = before + START + "\n".join(lines) + "\n" + END + rest.split(END)[1]
    if os.environ.get("UPDATE_SERVING"):
        PAGE.write_text(page, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page, "docs/serving.md is stale; UPDATE_SERVING=1 writes it again"
