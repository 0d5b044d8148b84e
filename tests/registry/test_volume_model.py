"""A version that is asked by volume answers as one that is asked by slice; where the rows come from does not matter."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest

from candidates import write_candidate
from slice_requests import make_volume
from tumor_cascade.errors import DataError, ParamsError
from tumor_cascade.registry.entries import PolicyRef
from tumor_cascade.registry.version_folder import pack_version
from tumor_cascade.registry.volume_model import pack_volume_model

LONG_NAME = "s3a://lake/" + "folder/" * 50 + "slice.tif"  # longer than what callers of a server may send


@pytest.fixture
def version(workplace: Path) -> Path:
    """The files of a version whose answers depend on neighbouring slices."""
    cascade = write_candidate(workplace / "cascade", "lake", gate_threshold=0.0, has_neighbor_slices=True)
    pack_version(workplace / "version", cascade, {}, PolicyRef(name="paper", sha256="4" * 64))
    return workplace / "version"


def to_row(volume_id: str, slices: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a volume as one row."""
    lists = {name: [one[name] for one in slices] for name in ("slice_index", "image")}
    return {"volume_id": volume_id, "id": [LONG_NAME for _ in slices], **lists}


def test_volume_model__says_what_the_registered_model_says(version: Path, tmp_path: Path) -> None:
    model = mlflow.pyfunc.load_model(str(pack_volume_model(str(version), tmp_path / "model")))
    volumes = {name: make_volume(number, name) for name, number in (("a", 3), ("b", 1), ("c", 5))}
    volumes["a"][1]["image"] = "AAAA"
    found = model.predict(pd.DataFrame([to_row(name, slices) for name, slices in volumes.items()]))
    by_slice = mlflow.pyfunc.load_model(str(version))
    assert list(found["volume_id"]) == ["a", "b", "c"]
    for name, answers in zip(found["volume_id"], found["answers"], strict=True):
        expected = by_slice.predict(pd.DataFrame(volumes[name]))
        assert answers == [{**one, "id": LONG_NAME} for one in expected]
    assert [one["status"] for one in found["answers"][0]] == ["ok", "error", "ok"]
    assert [one["has_context"] for one in found["answers"][1]] == [False]


def test_volume_model__a_volume_that_is_too_large_leaves_the_others_alone(version: Path, tmp_path: Path) -> None:
    model = mlflow.pyfunc.load_model(str(pack_volume_model(str(version), tmp_path / "model")))
    slices = make_volume(3, "dated")
    for number, one in zip((20_200_101, 20_200_103, 20_200_102), slices, strict=True):  # as files may be numbered
        one["slice_index"] = number
    large = to_row("large", [{**slices[0], "slice_index": number} for number in range(2049)])
    found = model.predict(pd.DataFrame([large, to_row("dated", slices)]))["answers"]
    assert {(one["status"], one["volume_id"]) for one in found[0]} == {("error", "large")}
    assert "2048" in found[0][0]["error"]
    assert [one["slice_index"] for one in found[0]] == list(range(2049))
    assert [(one["status"], one["slice_index"]) for one in found[1]] == [
        ("ok", number) for number in (20_200_101, 20_200_103, 20_200_102)
    ]


def test_pack_volume_model__a_version_that_was_edited_is_refused(version: Path, tmp_path: Path) -> None:
    (version / "artifacts" / "cascade" / "cascade.json").write_text("{}")
    with pytest.raises(DataError, match=r"artifacts/cascade/cascade\.json was edited"):
        pack_volume_model(str(version), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_pack_volume_model__no_such_version(workplace: Path) -> None:
    with pytest.raises(ParamsError, match="models:/tumor-cascade@champion cannot be fetched"):
        pack_volume_model("models:/tumor-cascade@champion", workplace / "model")
