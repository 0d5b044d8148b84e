from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tumor_cascade.errors import ParamsError
from tumor_cascade.settings import (
    choose_device,
    get_checkpoints_dir,
    get_device,
    get_num_threads,
    get_weights_dir,
)


@pytest.mark.parametrize(
    ("name", "get", "default"),
    [
        ("CHECKPOINTS", get_checkpoints_dir, Path("checkpoints")),
        ("WEIGHTS", get_weights_dir, Path.home() / ".cache" / "tumor-cascade"),
    ],
)
def test_get_dir__from_the_environment(
    monkeypatch: pytest.MonkeyPatch, name: str, get: Callable[[], Path], default: Path
) -> None:
    monkeypatch.delenv(f"TUMOR_CASCADE_{name}", raising=False)
    assert get() == default
    monkeypatch.setenv(f"TUMOR_CASCADE_{name}", "/elsewhere/x")
    assert get() == Path("/elsewhere/x")


def test_get_device__is_auto_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TUMOR_CASCADE_DEVICE", raising=False)
    assert get_device() == "auto"


@pytest.mark.parametrize("value", ["gpu", "CPU", "", "cuda:0"])
def test_get_device__refuses_other_words(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TUMOR_CASCADE_DEVICE", value)
    with pytest.raises(ParamsError, match=f"TUMOR_CASCADE_DEVICE is '{value}'; must be auto, cpu or cuda"):
        get_device()


@pytest.mark.parametrize(("value", "expected"), [(None, None), ("1", 1), ("16", 16)])
def test_get_num_threads__from_the_environment(
    monkeypatch: pytest.MonkeyPatch, value: str | None, expected: int | None
) -> None:
    monkeypatch.delenv("TUMOR_CASCADE_NUM_THREADS", raising=False)
    if value is not None:
        monkeypatch.setenv("TUMOR_CASCADE_NUM_THREADS", value)
    assert get_num_threads() == expected


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", ""])
def test_get_num_threads__refuses_other_words(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TUMOR_CASCADE_NUM_THREADS", value)
    with pytest.raises(ParamsError, match=f"TUMOR_CASCADE_NUM_THREADS is '{value}'; must be a whole number from 1"):
        get_num_threads()


def test_choose_device__cpu_where_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUMOR_CASCADE_DEVICE", "cpu")
    assert choose_device() == "cpu"


def test_choose_device__auto_takes_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUMOR_CASCADE_DEVICE", "auto")
    assert choose_device() == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_choose_device__no_gpu_is_no_silent_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUMOR_CASCADE_DEVICE", "cuda")
    with pytest.raises(ParamsError, match="is cuda but torch sees no GPU; set it to cpu or auto"):
        choose_device()
