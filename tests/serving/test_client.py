from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from archives import encode, make_image
from cascade_servers import run_service
from products import CONTENT_ID, write_product
from tumor_cascade.product import load_cascade
from tumor_cascade.serving import client as client_module
from tumor_cascade.serving.client import Client, ServerError
from tumor_cascade.serving.server import open_folder
from tumor_cascade.serving.service import Service

NUM_SLICES = 3


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_product(tmp_path_factory.mktemp("product") / "cascade", gate_threshold=0.0, has_neighbor_slices=True)


@pytest.fixture(scope="module")
def service(product: Path) -> Service:
    service = Service(2**20, max_requests=1)
    service.load(open_folder(product))
    return service


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[Client]:
    with run_service(service) as url:
        yield Client(f"{url}/")


def test_predict__a_volume_as_the_cascade_sees_it(client: Client, product: Path) -> None:
    images = np.stack([make_image(seed, 48).transpose(2, 0, 1) for seed in range(NUM_SLICES)])
    expected = load_cascade(product).predict_volume(images)
    answers = client.predict(list(images), is_volume=True)
    assert [answer.id for answer in answers] == ["0", "1", "2"]
    for position, answer in enumerate(answers):
        assert answer.probability == pytest.approx(float(expected.probabilities[position]), abs=1e-6)
        assert answer.mask is not None
        assert np.array_equal(answer.mask, expected.masks[position])
        assert (answer.has_context, answer.error, answer.content_id) == (True, None, CONTENT_ID)
        assert answer.tumor_area_px == answer.mask.sum()


def test_predict__files_by_path_and_as_bytes_in_several_requests(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "slice.png"
    path.write_bytes(encode(make_image(1, 48), "PNG"))
    answers = client.predict([path, str(path), path.read_bytes(), b"none"], rows_per_request=3, mask="none")
    assert [answer.id for answer in answers] == ["slice.png", "slice.png", "2", "3"]
    assert len({answer.probability for answer in answers[:3]}) == 1
    assert answers[0].mask is None
    assert answers[3].probability is None
    assert answers[3].error is not None
    assert "no PNG, TIFF or NPY" in answers[3].error


def test_predict__masks_are_arrays_however_they_were_asked_for(client: Client) -> None:
    as_rle, as_png = (client.predict([make_image(1, 48)], mask=kind)[0].mask for kind in ("rle", "png"))
    assert as_rle is not None
    assert as_rle.any()
    assert np.array_equal(as_png, as_rle)


def test_predict__nothing_asks_nothing() -> None:
    assert Client("http://127.0.0.1:9").predict([]) == []
    assert Client("http://127.0.0.1:9").predict([], is_volume=True) == []


def test_predict__says_what_the_server_refuses(client: Client) -> None:
    with pytest.raises(ServerError, match=r"answers 400: mask is not one of"):
        client.predict([make_image(1)], mask="gif")


def test_predict__a_busy_server_is_asked_again(
    client: Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = service.take_place()
    place.__enter__()
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            place.__exit__(None, None, None)

    monkeypatch.setattr(client_module.time, "sleep", wait)
    assert client.predict([make_image(1)])[0].error is None
    assert waits == [1, 1]


def test_predict__a_server_that_is_away_is_named() -> None:
    with pytest.raises(ServerError, match=r"127\.0\.0\.1:9 does not answer"):
        Client("http://127.0.0.1:9").predict([make_image(1)])
