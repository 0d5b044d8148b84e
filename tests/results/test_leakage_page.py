"""The page on leaks."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from phantoms import ingest_phantom
from tumor_cascade.cli import main
from tumor_cascade.configuration import configure
from tumor_cascade.data.manifest import write_manifest
from tumor_cascade.errors import DataError
from tumor_cascade.results.catalog import find_stale_results
from tumor_cascade.results.leakage_page import publish_leakage

SETTINGS = ["split_data.num_folds=2", "split_data.num_canary_permutations=1000"]


def test_results_leakage__searches_plants_and_writes(tmp_path: Path) -> None:
    cohort = ingest_phantom(tmp_path, 4)
    configure("smoke", tmp_path / "params.yaml", SETTINGS)
    flags = {"slices": cohort.slices, "manifest": cohort.manifest, "out": tmp_path, "params": tmp_path / "params.yaml"}
    done = CliRunner().invoke(
        main, ["results", "leakage", *(text for name, path in flags.items() for text in (f"--{name}", str(path)))]
    )
    assert done.exit_code == 0, done.output
    page = (tmp_path / "leakage" / "README.md").read_text()
    assert "Data: 4 patients" in page
    assert "correlate with at least 0.985: **0** when patients are dealt" in page.replace("\n", " ")
    assert "By patient, every interval contains chance: nobody is recognized." in page
    assert "| a patient's copy under another id, gamma 0.8 | near-duplicate scan | 4 of 4 | patients" in page
    assert "| every second slice of one patient on the other side | permuted-label canary | 3 of 3 |" in page
    assert "- a patient's copy under another id, mirrored: 4 of 4;" in page
    assert "| predict nothing | by patient |" in page
    assert (tmp_path / "leakage" / "canary.png").read_bytes().startswith(b"\x89PNG")
    facts = json.loads((tmp_path / "leakage" / "results.json").read_text())
    assert "protocol" not in facts["params"]["split_data"]
    assert find_stale_results(tmp_path) == []


def test_publish_leakage__no_patient_ids(tmp_path: Path) -> None:
    cohort = ingest_phantom(tmp_path, 4)
    write_manifest(cohort.rows.assign(has_patient_ids=False), tmp_path / "other.parquet")
    configure("smoke", tmp_path / "params.yaml")
    with pytest.raises(DataError, match="no patient ids: nobody can tell whose slices leak"):
        publish_leakage(cohort.slices, tmp_path / "other.parquet", tmp_path / "params.yaml", tmp_path / "out")
    assert not (tmp_path / "out").exists()
