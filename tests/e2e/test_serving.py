"""`tumor-cascade serve` over HTTP: the answers of `predict`, and hostile requests beside good ones."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from archives import encode, image_path, make_archive, make_image, make_patient_id
from cascade_servers import PredictionServer
from hostile import Attack, find_leaks, list_attacks, list_random_attacks, send_attack
from predicted import Volume, read_volume, require_equal
from slice_requests import PARQUET_TYPE, TIMEOUT_S, make_body, make_row, make_volume, send, to_text
from tumor_cascade.models.cascade import Cascade
from tumor_cascade.prediction import predict
from tumor_cascade.product import load_cascade
from tumor_cascade.serving.client import Client

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NUM_HOSTILE, NUM_AT_A_TIME, MIN_GOOD = 1000, 4, 20
NUM_PLACES, MAX_BODY_BYTES = 8, 16 * 2**20  # of `tumor-cascade serve`, unless told otherwise
NUM_SLICES = 4
MAX_GROWTH_MB, MAX_LARGE_GROWTH_MB = 600, 1500
PATIENT = make_patient_id(0)


@pytest.fixture(scope="module")
def cascade(served_cascade: Path) -> Cascade:
    return load_cascade(served_cascade)


@pytest.fixture(scope="module")
def volumes(served_cascade: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Volume]:
    """A patient's slices and three lone ones, and what `tumor-cascade predict` says of each."""
    folder, out = tmp_path_factory.mktemp("slices"), tmp_path_factory.mktemp("predicted") / "out"
    make_archive(folder, num_patients=1, num_slices=NUM_SLICES, size_px=48)
    lone = [folder / f"lone-{seed}.png" for seed in range(3)]
    for seed, path in enumerate(lone):
        path.write_bytes(encode(make_image(seed, 40), "PNG"))
    predict(folder, served_cascade, out, is_overwrite=False)
    patient = [image_path(folder, PATIENT, number) for number in range(1, NUM_SLICES + 1)]
    return [read_volume(out, paths) for paths in (patient, *([path] for path in lone))]


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "NPY"])
def test_serve__a_volume_is_answered_as_by_predict(
    prediction_server: PredictionServer, cascade: Cascade, volumes: list[Volume], kind: str
) -> None:
    files: dict[str, list[Any]] = {
        "TIFF": list(volumes[0].paths),
        "PNG": [encode(image.transpose(1, 2, 0), "PNG") for image in volumes[0].images],
        "NPY": list(volumes[0].images),
    }
    require_equal(Client(prediction_server.url).predict(files[kind], is_volume=True), volumes[0], cascade)


def test_serve__lone_slices_are_answered_as_by_predict(
    prediction_server: PredictionServer, cascade: Cascade, volumes: list[Volume]
) -> None:
    lone = volumes[1:]
    answers = Client(prediction_server.url).predict([volume.paths[0] for volume in lone])
    assert [answer.id for answer in answers] == ["lone-0.png", "lone-1.png", "lone-2.png"]
    for volume, answer in zip(lone, answers, strict=True):
        require_equal([answer], volume, cascade)


def test_serve__parquet_is_answered_as_json(prediction_server: PredictionServer, volumes: list[Volume]) -> None:
    rows = [
        {"image": to_text(path.read_bytes()), "volume_id": PATIENT, "slice_index": index}
        for index, path in enumerate(volumes[0].paths)
    ]
    as_parquet = send(prediction_server.url, pd.DataFrame(rows).to_parquet(), PARQUET_TYPE)
    assert as_parquet.json == send(prediction_server.url, make_body(rows)).json


class GoodClient(threading.Thread):
    """Sends good requests all the time and notes what comes back.

    Attributes:
        has_begun: Set once the first is answered.
        is_done: To be set when it may stop; it sends at least `MIN_GOOD` all the same.
        probabilities: Of the answers.
        faults: Answers that are none.
    """

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url, self.has_begun, self.is_done = url, threading.Event(), threading.Event()
        self.probabilities: list[float] = []
        self.faults: list[Any] = []

    def run(self) -> None:
        body = make_body([make_row(1), *make_volume(2)])
        while not self.is_done.is_set() or len(self.probabilities) + len(self.faults) < MIN_GOOD:
            reply = send(self.url, body)
            self.has_begun.set()
            if reply.status != 200 or any(answer["status"] != "ok" for answer in reply.json["predictions"]):
                self.faults.append((reply.status, reply.body[:300]))
            else:
                self.probabilities.append(reply.json["predictions"][0]["probability"])
            time.sleep(0.1)


def find_fault(url: str, attack: Attack) -> Any:
    """Return what is wrong with the answer to an attack, None if nothing is."""
    reply = send_attack(url, attack)
    leaks = find_leaks(attack, reply)
    return (attack.name, reply.status, leaks, reply.body[:300]) if reply.status >= 500 or leaks else None


def test_serve__survives_hostile_requests(prediction_server: PredictionServer) -> None:
    fixed = list_attacks()
    attacks = [*fixed, *list_random_attacks(seed=20261124, number=NUM_HOSTILE - len(fixed))]
    prediction_server.forget_peak()
    before = prediction_server.measure_peak_mb()
    good = GoodClient(prediction_server.url)
    good.start()
    assert good.has_begun.wait(TIMEOUT_S)
    with ThreadPoolExecutor(NUM_AT_A_TIME) as pool:
        found = list(pool.map(partial(find_fault, prediction_server.url), attacks))
    good.is_done.set()
    good.join()
    assert len(found) == NUM_HOSTILE
    assert [fault for fault in found if fault] == []
    assert good.faults == []
    assert len(good.probabilities) >= MIN_GOOD
    assert np.ptp(good.probabilities) < 1e-5
    assert prediction_server.measure_peak_mb() - before < MAX_GROWTH_MB
    require_sound(prediction_server)


def test_serve__memory_stays_bounded_under_the_largest_requests(prediction_server: PredictionServer) -> None:
    large, small = make_file(2048), make_file(64)
    volume = [{"image": large, "volume_id": "v", "slice_index": index} for index in range(4)]  # as many pixels as go
    text = "A" * (MAX_BODY_BYTES - 100)
    pictures = make_body([{"image": small}] * 96, has_pictures=True)
    wide = json.dumps({"instances": [{"image": f"{text}\U0001f9e0"}]}, ensure_ascii=False)  # 4 bytes a character
    bodies = [make_body(volume), make_body([{"image": large}] * 4), pictures, *[wide.encode()] * 5]
    prediction_server.forget_peak()
    before = prediction_server.measure_peak_mb()
    with ThreadPoolExecutor(NUM_PLACES) as pool:
        replies = list(pool.map(partial(send, prediction_server.url), bodies))
    assert {reply.status for reply in replies} <= {200, 503}
    assert replies[0].status == 200
    assert prediction_server.measure_peak_mb() - before < MAX_LARGE_GROWTH_MB
    require_sound(prediction_server)


def make_file(side_px: int) -> str:
    """Return a slice of bright pixels as base64 of a PNG, which is small."""
    return to_text(encode(np.full((side_px, side_px, 3), 200, np.uint8), "PNG"))


def require_sound(server: PredictionServer) -> None:
    """Require that a server runs, is ready, and has made no mistake."""
    assert server.process.poll() is None
    assert send(server.url, None, path="/readyz", method="GET").status == 200
    assert "Traceback" not in server.log.read_text()
