"""What a registered version holds, and that it answers from there as it did when it was packed."""

import json
from pathlib import Path

import pytest

from candidates import write_candidate
from promotions import build_policy
from tumor_cascade.errors import DataError
from tumor_cascade.registry.entries import PolicyRef
from tumor_cascade.registry.golden import GOLDEN_NAME, read_golden
from tumor_cascade.registry.health import Health, judge_health, probe_in_process
from tumor_cascade.registry.version_folder import pack_version
from tumor_cascade.registry.versions import compare_files, hash_files

BUDGET = build_policy().health
POLICY = PolicyRef(name="paper", sha256="4" * 64)
HEALTHY = Health(load_s=1.0, seconds_per_slice=0.1, memory_mb=500.0, probability_difference=0.0, mask_difference_px=0)


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("version")
    cascade = write_candidate(folder / "cascade", "a")
    pack_version(folder / "packed", cascade, {}, POLICY)
    return folder / "packed"


def test_pack_version__twice_gives_the_same_bytes(version: Path, tmp_path: Path) -> None:
    pack_version(tmp_path / "packed", write_candidate(tmp_path / "cascade", "a"), {}, POLICY)
    assert hash_files(tmp_path / "packed") == hash_files(version)
    assert "/tmp" not in (version / "MLmodel").read_text()


def test_pack_version__the_manifest_lists_all_but_mlflow_s_shell(version: Path) -> None:
    manifest = json.loads((version / "artifacts/version.json").read_text())
    files = hash_files(version)
    assert set(manifest["files"].items()) < set(files.items())
    assert {name.split("/")[0] for name in set(files) - set(manifest["files"])} <= {
        *("MLmodel", "artifacts", "conda.yaml", "python_env.yaml", "requirements.txt"),
        *("input_example.json", "serving_input_example.json"),
    }


@pytest.mark.slow
def test_probe__a_packed_version_gives_its_golden_answers(version: Path) -> None:
    found = probe_in_process(version, BUDGET)
    assert isinstance(found, Health)
    assert found.probability_difference < 1e-6  # JSON has fewer digits
    assert found.mask_difference_px == 0
    assert 50 < found.memory_mb < 8000
    assert judge_health(found, BUDGET).faults == ()


@pytest.mark.slow
def test_probe__is_on_the_cpu_as_the_golden_answers_were(version: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUMOR_CASCADE_DEVICE", "of the machine")
    assert isinstance(probe_in_process(version, BUDGET), Health)


@pytest.mark.slow
def test_probe__a_damaged_version_does_not_answer(version: Path, tmp_path: Path) -> None:
    found = probe_in_process(tmp_path, BUDGET)
    assert isinstance(found, str)
    assert "golden answers cannot be read" in found
    assert judge_health(found, BUDGET).to_check().outcome == "refuse"


def test_read_golden__damaged(tmp_path: Path) -> None:
    (tmp_path / GOLDEN_NAME).write_bytes(b"x" * 20)
    with pytest.raises(DataError, match="golden answers cannot be read"):
        read_golden(tmp_path)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"load_s": 61.0}, "61 s to load, more than 60"),
        ({"seconds_per_slice": 5.5}, "5.5 s per slice, more than 5"),
        ({"memory_mb": 9000.0}, "9000 MB of memory, more than 8000"),
        ({"probability_difference": 0.5}, "0.5 difference of a probability, more than 0.0001"),
        ({"mask_difference_px": 1}, "1 px of difference in masks, more than 0"),
    ],
)
def test_judge_health__over_budget(change: dict[str, float], fault: str) -> None:
    values = {**HEALTHY.__dict__, **change}
    assert judge_health(Health(**values), BUDGET).faults == (fault,)


def test_compare_files__names_each_difference() -> None:
    found, expected = {"a": "1", "b": "2", "d": "4"}, {"a": "1", "b": "3", "c": "5"}
    assert compare_files(found, expected) == ["b was edited", "c is missing", "d was added"]
