import base64
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from archives import make_image
from products import CONTENT_ID, write_product
from slice_requests import make_row, make_volume
from tumor_cascade.models.cascade import Cascade
from tumor_cascade.product import load_cascade
from tumor_cascade.serving.answers import KEYS, PICTURES, Identity
from tumor_cascade.serving.engine import Engine
from tumor_cascade.serving.limits import Limits
from tumor_cascade.serving.rle import decode_mask
from tumor_cascade.serving.rows import BusyError, RequestError

# Every slice is segmented and positive.
OPEN = {"gate_threshold": 0.0, "decision_threshold": 0.0}


@pytest.fixture(scope="module")
def cascade(tmp_path_factory: pytest.TempPathFactory) -> Cascade:
    folder = tmp_path_factory.mktemp("product") / "cascade"
    return load_cascade(write_product(folder, gate_threshold=0.5, has_neighbor_slices=True))


@pytest.fixture(scope="module")
def engine(cascade: Cascade) -> Iterator[Engine]:
    engine = Engine(cascade, Identity(CONTENT_ID, 7), Limits())
    yield engine
    engine.close()


def read_png(text: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def test_answer__has_all_keys_in_the_order_of_the_rows(engine: Engine) -> None:
    answers = engine.answer([make_row(1, id="a"), {"image": 5, "id": "b"}, *make_volume(2)], OPEN)
    assert all(list(answer) == list(KEYS) for answer in answers)
    assert [(answer["id"], answer["volume_id"], answer["slice_index"]) for answer in answers] == [
        ("a", None, None),
        ("b", None, None),
        (None, "v", 0),
        (None, "v", 1),
    ]
    assert [answer["status"] for answer in answers] == ["ok", "error", "ok", "ok"]
    assert [answer["has_context"] for answer in answers] == [False, None, True, True]
    assert {answer["model_version"] for answer in answers} == {7}
    assert {answer["content_id"] for answer in answers} == {CONTENT_ID}
    json.dumps(answers, allow_nan=False)


def test_answer__is_what_the_cascade_says_of_the_volume(engine: Engine, cascade: Cascade) -> None:
    images = np.stack([make_image(seed, 48).transpose(2, 0, 1) for seed in range(4)])
    settings = replace(cascade.settings, **OPEN)
    expected = Cascade(cascade.classifiers, cascade.segmenters, settings).predict_volume(images)
    shuffled = [make_volume(4)[place] for place in (2, 0, 3, 1)]
    answers = sorted(engine.answer(shuffled, OPEN), key=lambda answer: answer["slice_index"])
    for position, answer in enumerate(answers):
        assert answer["probability"] == pytest.approx(float(expected.probabilities[position]), abs=1e-6)
        assert answer["uncertainty"] == pytest.approx(float(expected.uncertainty[position]), abs=1e-6)
        mask = decode_mask(answer["mask"], answer["height_px"], answer["width_px"])
        assert np.array_equal(mask, expected.masks[position])
        assert answer["tumor_area_px"] == mask.sum() > 0


def test_answer__a_volume_without_one_of_its_slices_still_has_the_others(engine: Engine) -> None:
    rows = make_volume(3)
    rows[1] = {**rows[1], "image": "AAAA"}
    assert [answer["status"] for answer in engine.answer(rows, None)] == ["ok", "error", "ok"]
    assert [answer["status"] for answer in engine.answer([rows[1]], None)] == ["error"]


def test_answer__masks_come_as_asked(engine: Engine) -> None:
    row = make_row(1)
    as_rle, as_png, without = (engine.answer([row], {**OPEN, "mask": kind})[0] for kind in ("rle", "png", "none"))
    mask = decode_mask(as_rle["mask"], 48, 48)
    assert np.array_equal(read_png(as_png["mask"]), mask * np.uint8(255))
    assert without["mask"] is None
    assert without["tumor_area_px"] == mask.sum()


def test_answer__thresholds_of_a_request_are_its_own(engine: Engine) -> None:
    row = make_row(1)
    shut = engine.answer([row], {"gate_threshold": 1.0, "decision_threshold": 0.0})[0]
    assert (shut["is_positive"], shut["tumor_area_px"]) == (False, 0)
    assert engine.answer([row], {**OPEN, "mask_threshold": 0.0})[0]["tumor_area_px"] == 48 * 48
    assert engine.cascade.settings.gate_threshold == 0.5


def test_answer__flags_answers_that_are_uncertain(engine: Engine) -> None:
    row = make_row(1)  # fresh weights: a probability near 0.5, an entropy near 1 bit
    assert engine.answer([row], {"uncertainty_threshold": 0.9})[0]["is_uncertain"] is True
    assert engine.answer([row], {"uncertainty_threshold": 1.0})[0]["is_uncertain"] is False


def test_answer__pictures_for_people_where_they_are_asked_for(engine: Engine) -> None:
    (answer,) = engine.answer([make_row(1)], {**OPEN, "has_pictures": True}, can_have_pictures=True)
    picture, overlay = (read_png(answer[name]) for name in PICTURES)
    assert picture.shape == (48 * 11 + 30, 48 * 11)  # the nearest multiple to 512, a caption
    assert overlay.shape == (*picture.shape, 3)
    assert not np.array_equal(picture, overlay[..., 0])
    with pytest.raises(RequestError, match="unknown"):
        engine.answer([make_row(1)], {"has_pictures": True})


def test_answer__pictures_are_drawn_of_a_patient_at_most(engine: Engine) -> None:
    rows = [{"image": ""}] * (engine.limits.max_picture_rows + 1)
    with pytest.raises(RequestError, match="pictures are drawn of at most 96 rows"):
        engine.answer(rows, {"has_pictures": True}, can_have_pictures=True)
    assert len(engine.answer(rows, None)) == 97


def test_answer__tells_of_what_was_predicted(engine: Engine) -> None:
    seen: list[tuple[int, ...]] = []
    engine.answer(
        [*make_volume(3), make_row(1), {"image": 0}], None, observe=lambda images, _: seen.append(images.shape)
    )
    assert sorted(seen) == [(1, 3, 48, 48), (3, 3, 48, 48)]


def test_answer__from_several_threads_is_what_one_gets(engine: Engine) -> None:
    expected = {seed: engine.answer([make_row(seed)], OPEN)[0] for seed in range(8)}
    wrong: list[Any] = []

    def ask(seed: int) -> None:
        for _ in range(3):
            (answer,) = engine.answer([make_row(seed)], OPEN)
            if abs(answer["probability"] - expected[seed]["probability"]) > 1e-5:
                wrong.append((seed, answer))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_answer__is_given_up_after_its_time(cascade: Cascade) -> None:
    engine = Engine(cascade, Identity(CONTENT_ID), Limits())
    engine.limits = replace(engine.limits, timeout_s=0.0)
    with pytest.raises(BusyError, match=r"took too long|are waiting"):
        engine.answer(make_volume(4), None)
    engine.close()
    with pytest.raises((BusyError, RuntimeError)):
        engine.answer(make_volume(4), None)


def test_engine__takes_as_many_rows_as_it_answers_in_time(cascade: Cascade) -> None:
    engine = Engine(cascade, Identity(CONTENT_ID), Limits(timeout_s=1e-6))
    assert engine.limits.max_rows == 1
    with pytest.raises(RequestError, match="from 1 to 1 "):
        engine.answer(make_volume(2), None)
    engine.close()
