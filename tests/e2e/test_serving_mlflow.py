"""The champion of real servers behind `mlflow models serve` and `tumor-cascade serve`: what `predict` says of it.

The last test writes the table of docs/serving.md, what both say to hostile requests; UPDATE_SERVING=1 writes it again.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cascade_servers import CHAMPION, PredictionServer, serve_with_mlflow
from champions import NEW_PATIENTS, Champion
from hostile import Attack, find_leaks, list_attacks, send_attack
from predicted import Volume, read_volume, require_equal
from slice_requests import PARQUET_TYPE, Reply, encode_slice, make_body, make_row, send, to_text
from tumor_cascade.models.cascade import Cascade
from tumor_cascade.product import load_cascade
from tumor_cascade.serving.client import Client, read_answer
from workplaces import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PAGE = ROOT / "docs" / "serving.md"
START, END = "<!-- answers: written by tests/e2e/test_serving_mlflow.py -->\n", "<!-- end of answers -->\n"
MEGABYTE = 2**20


@pytest.fixture(scope="module")
def ours(champion_server: PredictionServer) -> PredictionServer:
    return champion_server


@pytest.fixture(scope="module")
def theirs(promoted: Champion, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PredictionServer]:
    with serve_with_mlflow(tmp_path_factory.mktemp("theirs"), CHAMPION, **promoted.environment) as server:
        yield server


@pytest.fixture(scope="module")
def cascade(promoted: Champion) -> Cascade:
    return load_cascade(promoted.workplace.folder / "artifacts/assemble_cascade/cascade")


@pytest.fixture(scope="module")
def volume(promoted: Champion) -> Volume:
    """The patient of the largest tumor, and what `predict` of the registered champion says."""
    place = promoted.workplace.folder
    patient = max((place / NEW_PATIENTS / "kaggle_3m").iterdir(), key=measure_tumor)
    promoted.workplace.run("tumor-cascade", "predict", str(patient), "--model", CHAMPION, "--out", "predicted")
    paths = [path for path in patient.glob("*.tif") if "_mask" not in path.name]
    found = read_volume(place / "predicted", sorted(paths, key=lambda path: int(path.stem.rsplit("_", 1)[1])))
    assert found.masks.any()
    return found


def measure_tumor(patient: Path) -> int:
    """Return how many pixels of a patient's slices are tumor; of what is no patient none."""
    return sum(int((np.asarray(Image.open(path)) > 0).sum()) for path in patient.glob("*_mask.tif"))


def make_rows(volume: Volume, kind: str) -> list[dict[str, Any]]:
    """Return the rows of a volume as files of a kind."""
    files = [encode_slice(image.transpose(1, 2, 0), kind) for image in volume.images]
    return [{"image": to_text(data), "volume_id": "v", "slice_index": index} for index, data in enumerate(files)]


def require_answered(reply: Reply, volume: Volume, cascade: Cascade, version: int) -> None:
    """Require that a server says of a volume what `predict` says."""
    assert reply.status == 200, reply.body[:500]
    predictions = reply.json["predictions"]
    assert {(row["status"], row["model_version"]) for row in predictions} == {("ok", version)}
    answers = [read_answer(row) for row in predictions]
    assert [answer.tumor_area_px for answer in answers] == [int(answer.mask.sum()) for answer in answers]  # type: ignore[union-attr]
    require_equal(answers, volume, cascade)


@pytest.mark.parametrize(("kind", "mask"), [("PNG", "rle"), ("TIFF", "png"), ("NPY", "rle")])
def test_serve__the_champion_answers_as_predict(
    promoted: Champion,
    ours: PredictionServer,
    theirs: PredictionServer,
    volume: Volume,
    cascade: Cascade,
    kind: str,
    mask: str,
) -> None:
    body = make_body(make_rows(volume, kind), mask=mask)
    for server in (ours, theirs):
        require_answered(send(server.url, body), volume, cascade, promoted.version)


def test_serve__the_champion_answers_tables_as_predict(
    promoted: Champion, ours: PredictionServer, theirs: PredictionServer, volume: Volume, cascade: Cascade
) -> None:
    frame = pd.DataFrame(make_rows(volume, "PNG"))
    tables = [(frame.to_parquet(), PARQUET_TYPE), (frame.to_csv(index=False).encode(), "text/csv")]
    for server in (ours, theirs):
        for body, content_type in tables:
            require_answered(send(server.url, body, content_type), volume, cascade, promoted.version)


def test_serve__the_client_asks_either_server(
    ours: PredictionServer, theirs: PredictionServer, volume: Volume, cascade: Cascade
) -> None:
    for server in (ours, theirs):
        require_equal(Client(server.url).predict(volume.paths, is_volume=True), volume, cascade)


def test_serve__the_version_was_checked_against_the_ledger(ours: PredictionServer, theirs: PredictionServer) -> None:
    for server in (ours, theirs):
        log = server.log.read_text()
        assert "ledger" not in log  # it would say that none was found
        assert "Traceback" not in log


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
