"""Stage `validate_data`, from files to files."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from manifests import make_manifest, write_volumes
from tumor_cascade.data.manifest import write_manifest
from tumor_cascade.data.validation_rules import RULES
from tumor_cascade.errors import DataError
from tumor_cascade.params import ValidateDataParams
from tumor_cascade.stages.validate_data import validate_data
from tumor_cascade.storage import hash_path

PARAMS = {
    "positive_slice_share": [0.2, 0.5],
    "tumor_pixel_share": [0.003, 0.03],
    "min_positive_slices": 3,
    "max_mask_background_share": 0.2,
    "max_corner_mean": 20.0,
    "max_blank_slice_share": 0.1,
    "max_missing_sequence_share": 0.25,
    "max_sequence_correlation": 0.97,
    "max_institution_drift": 2.5,
}


def run(folder: Path, manifest: pd.DataFrame, out: str = "report", **changes: Any) -> Path:
    """Run the stage over a manifest whose volumes stand in `folder`/slices; return the report folder."""
    write_manifest(manifest, folder / "manifest.parquet")
    validate_data(
        ValidateDataParams.model_validate({**PARAMS, **changes}),
        manifest=folder / "manifest.parquet",
        slices=folder / "slices",
        out_report=folder / out,
        out_metrics=folder / f"{out}.json",
    )
    return folder / out


# The stage in a process of its own, over ./manifest.parquet and ./slices into the folder that is named.
SCRIPT = f"""
import sys
from pathlib import Path
from tumor_cascade.params import ValidateDataParams
from tumor_cascade.stages.validate_data import validate_data
validate_data(ValidateDataParams.model_validate({PARAMS!r}), manifest=Path('manifest.parquet'), slices=Path('slices'),
    out_report=Path(sys.argv[1], 'report'), out_metrics=Path(sys.argv[1], 'metrics.json'))
"""


def read_results(report_dir: Path) -> dict[str, dict[str, Any]]:
    """Return the entries of result.json by rule."""
    return {rule["name"]: rule for rule in json.loads((report_dir / "result.json").read_text())}


@pytest.fixture
def cohort(tmp_path: Path) -> pd.DataFrame:
    """A clean manifest with volumes in tmp_path/slices."""
    return write_volumes(tmp_path / "slices", make_manifest())


def test_validate_data__clean(tmp_path: Path, cohort: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    report_dir = run(tmp_path, cohort)
    results = read_results(report_dir)
    assert list(results) == [rule.name for rule in RULES]
    assert all(result["success"] for result in results.values())
    # three tumor slices in ten; areas 100 + 10 p, p = 0 to 5: 3 * 125 / 40960 on average
    assert json.loads((tmp_path / "report.json").read_text()) == {
        "num_rules": len(RULES),
        "num_not_applicable": 1,
        "num_critical_failed": 0,
        "num_warnings": 0,
        "num_patients": 6,
        "num_slices": 60,
        "positive_slice_share": 0.3,
        "tumor_pixel_share": 0.009155,
    }
    assert len(json.loads((report_dir / "content.json").read_text())["content_id"]) == 64
    assert capsys.readouterr().err == ""


def test_validate_data__critical_violations_are_all_listed_and_the_report_stands(
    tmp_path: Path, cohort: pd.DataFrame
) -> None:
    cohort.loc[3, "height_px"] = 65
    cohort.loc[13, "perceptual_hash"] = "?"
    with pytest.raises(DataError, match="critical") as caught:
        run(tmp_path, cohort)
    assert caught.value.exit_code == 3
    shape, digest = caught.value.violations
    assert shape == (
        "one_shape_per_patient: all slices of a patient have one height and width; 1 of 6 patients break this "
        "(patient_id AA_0000, num_shapes 2). Export the patient again at one size, or remove it."
    )
    assert digest.startswith("perceptual_hash_format: ")
    assert "patient_id AA_0002, slice_number 4, perceptual_hash ?" in digest
    results = read_results(tmp_path / "report")
    assert [name for name, result in results.items() if not result["success"]] == [
        "one_shape_per_patient",
        "perceptual_hash_format",
    ]
    assert json.loads((tmp_path / "report.json").read_text())["num_critical_failed"] == 2


def test_validate_data__warnings_are_told_but_let_pass(
    tmp_path: Path, cohort: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort.loc[:6, "corner_mean"] = 21.0
    cohort.loc[19, "corner_mean"] = 22.0
    run(tmp_path, cohort)
    said = capsys.readouterr().err
    assert said.startswith("warning: dark_background: the corners of a slice are no brighter than max_corner_mean; ")
    # one of each patient first; slices 1 to 4 of the first patient are among the five named
    assert "8 of 60 slices in 2 patient(s) break this (patient_id AA_0000, slice_number 1, corner_mean 21.0; " in said
    assert "patient_id AA_0002, slice_number 10, corner_mean 22.0; patient_id AA_0000, slice_number 2, " in said
    assert "slice_number 4, corner_mean 21.0; and 3 more)" in said
    assert json.loads((tmp_path / "report.json").read_text())["num_warnings"] == 1


def test_validate_data__unreadable_manifest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"manifest.parquet cannot be read"):
        validate_data(
            ValidateDataParams.model_validate(PARAMS),
            manifest=tmp_path / "manifest.parquet",
            slices=tmp_path,
            out_report=tmp_path / "report",
            out_metrics=tmp_path / "report.json",
        )
    assert not (tmp_path / "report").exists()


def test_validate_data__site_is_the_same_on_every_run_and_says_nothing_of_the_machine(
    tmp_path: Path, cohort: pd.DataFrame
) -> None:
    cohort.loc[3, "corner_mean"] = 99.0
    cohort.loc[cohort["has_tumor"], "tumor_mean_flair"] = 1.0  # darker than tissue: a rule on a pair of columns
    write_manifest(cohort, tmp_path / "manifest.parquet")
    for seed in ("0", "3"):  # of hashes, by which sets are ordered
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", SCRIPT, seed], cwd=tmp_path, env=environment, check=True)
    reports = [tmp_path / seed / "report" for seed in ("0", "3")]
    assert hash_path(reports[0]) == hash_path(reports[1])
    pages = list(reports[0].rglob("*.html"))
    # front page; a suite and a result for each of columns, slices, patients, institutions, cohort
    assert len(pages) == 11
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert str(tmp_path) not in text
        assert not re.search(r"\b20\d\d-\d\d-\d\d|\b20\d{6}T", text)
        assert "great-expectations-web-assets" not in text


def test_validate_data__front_page_opens_offline(tmp_path: Path, cohort: pd.DataFrame) -> None:
    cohort.loc[3, "corner_mean"] = 99.0
    site = run(tmp_path, cohort) / "data_docs"
    page = (site / "index.html").read_text(encoding="utf-8")
    assert "http" not in page
    assert all(f'id="{rule.name}"' in page for rule in RULES)
    links = set(re.findall(r'href="([^"]+)"', page))
    assert len(links) == 5 and all((site / link).is_file() for link in links)
    assert re.search(r'class="warning" id="dark_background"', page)


def test_validate_data__writes_nothing_elsewhere(tmp_path: Path, cohort: pd.DataFrame) -> None:
    write_manifest(cohort, tmp_path / "manifest.parquet")
    home = tmp_path / "home"
    home.mkdir()
    env = {**os.environ, "HOME": str(home), "TMPDIR": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", SCRIPT, "out"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(home.iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"home", "manifest.parquet", "out", "slices"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"metrics.json", "report"}


def test_expectations__great_expectations_is_imported_only_when_needed() -> None:
    script = "import sys, tumor_cascade.stages.validate_data; assert 'great_expectations' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
