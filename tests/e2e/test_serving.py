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
from PIL import Image

from archives import encode, image_path, make_archive, make_image, make_patient_id
from cascade_servers import PredictionServer
from hostile import Attack, find_leaks, list_attacks, list_random_attacks, send_attack
from slice_requests import PARQUET_TYPE, TIMEOUT_S, make_body, make_row, make_volume, send, to_text
from tumor_cascade.prediction import LINES_NAME, predict
from tumor_cascade.product import load_cascade
from tumor_cascade.serving.client import Answer, Client

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NUM_HOSTILE, NUM_AT_A_TIME, MIN_GOOD = 1000, 4, 20
NUM_PLACES, MAX_BODY_BYTES = 8, 16 * 2**20  # of `tumor-cascade serve`, unless told otherwise
NUM_SLICES = 4
THRESHOLD_TOLERANCE = 1e-4
MAX_GROWTH_MB, MAX_LARGE_GROWTH_MB = 600, 1500
PATIENT = make_patient_id(0)


@pytest.fixture(scope="module")
def predicted(served_cascade: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    """Slices as files, and what `tumor-cascade predict` says of each, by file name."""
    folder, out = tmp_path_factory.mktemp("slices"), tmp_path_factory.mktemp("predicted") / "out"
    make_archive(folder, num_patients=1, num_slices=NUM_SLICES, size_px=48)
    for seed in range(3):
        (folder / f"lone-{seed}.png").write_bytes(encode(make_image(seed, 40), "PNG"))
    predict(folder, served_cascade, out, is_overwrite=False)
    lines = [json.loads(line) for line in (out / LINES_NAME).read_text().splitlines()]
    masks = {line["source_name"]: np.asarray(Image.open(out / line["mask"])) > 0 for line in lines if line["mask"]}
    return folder, {name: {**line, "mask": masks[name]} for line in lines if (name := line["source_name"]) in masks}


def require_equal(
    answers: list[Answer], names: list[str], predicted: Any, served_cascade: Path, images: np.ndarray
) -> None:
    """Compare answers with the lines of `predict`; pixels close to the threshold may differ."""
    product = load_cascade(served_cascade)
    sure = product.predict_volume(images, is_every_slice_segmented=True).mask_probabilities
    assert sure is not None
    is_sure = np.abs(sure - product.settings.mask_threshold) > THRESHOLD_TOLERANCE
    assert is_sure.mean() > 0.9
    for position, (answer, name) in enumerate(zip(answers, names, strict=True)):
        line = predicted[1][name]
        assert answer.probability == pytest.approx(line["probability"], abs=1e-5)
        assert answer.uncertainty == pytest.approx(line["uncertainty"], abs=1e-4)
        assert (answer.is_positive, answer.has_context) == (line["is_positive"], line["has_context"])
        assert answer.content_id == line["content_id"]
        assert answer.mask is not None
        differs = (answer.mask != line["mask"]) & is_sure[position]
        assert not differs.any()


def read_volume(folder: Path) -> tuple[list[Path], np.ndarray]:
    paths = [image_path(folder, PATIENT, number) for number in range(1, NUM_SLICES + 1)]
    return paths, np.stack([np.asarray(Image.open(path)).transpose(2, 0, 1) for path in paths])


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "NPY"])
def test_serve__a_volume_is_answered_as_by_predict(
    prediction_server: PredictionServer, served_cascade: Path, predicted: Any, kind: str
) -> None:
    paths, images = read_volume(predicted[0])
    files: dict[str, list[Any]] = {
        "TIFF": list(paths),
        "PNG": [encode(image.transpose(1, 2, 0), "PNG") for image in images],
        "NPY": list(images),
    }
    answers = Client(prediction_server.url).predict(files[kind], is_volume=True)
    require_equal(answers, [path.name for path in paths], predicted, served_cascade, images)


def test_serve__lone_slices_are_answered_as_by_predict(
    prediction_server: PredictionServer, served_cascade: Path, predicted: Any
) -> None:
    paths = sorted(predicted[0].glob("lone-*.png"))
    answers = Client(prediction_server.url).predict(paths)
    assert [answer.id for answer in answers] == [path.name for path in paths]
    for path, answer in zip(paths, answers, strict=True):
        image = np.asarray(Image.open(path)).transpose(2, 0, 1)
        require_equal([answer], [path.name], predicted, served_cascade, image[None])


def test_serve__parquet_is_answered_as_json(
    prediction_server: PredictionServer, served_cascade: Path, predicted: Any
) -> None:
    paths, _ = read_volume(predicted[0])
    rows = [
        {"image": to_text(path.read_bytes()), "volume_id": PATIENT, "slice_index": index}
        for index, path in enumerate(paths)
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
