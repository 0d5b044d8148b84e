"""The Spark job, for real: Java, pyspark, local workers, a promoted version. `make build/spark` gets what it needs."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from candidates import judge_as, write_candidate
from tumor_cascade.configuration import configure
from tumor_cascade.prediction import LINES_NAME, predict
from tumor_cascade.registry.entries import PolicyRef
from tumor_cascade.registry.promotion import promote
from tumor_cascade.registry.shared import open_shared
from tumor_cascade.serving.rle import decode_mask
from workplaces import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SPARK = Path(os.environ.get("TUMOR_CASCADE_SPARK", ROOT / "build" / "spark"))
JOB = ROOT / "deploy" / "spark" / "score_patients.py"
NUM_PATIENTS, NUM_SLICES = 4, 8
TIMEOUT_S = 600


@pytest.fixture(scope="module")
def spark() -> Path:
    """The folder that pyspark lies in."""
    if not (SPARK / "pyspark").is_dir():
        pytest.skip(f"no pyspark in {SPARK}; make build/spark gets it")
    if shutil.which("java") is None:
        pytest.skip("no java on the PATH; on Debian: apt-get install default-jre-headless")
    return SPARK


@pytest.fixture(scope="module")
def champion(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A cascade whose answers depend on neighbouring slices, promoted, and the registry that knows it."""
    folder = tmp_path_factory.mktemp("champion")
    cascade = write_candidate(folder / "cascade", "lake", gate_threshold=0.0, has_neighbor_slices=True)
    uri = f"sqlite:///{folder}/mlflow.db"
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        shared = open_shared()
        policy = PolicyRef(name="paper", sha256="4" * 64)
        promote(shared.registry, shared.store, cascade, policy, lambda *_: judge_as("promote"))
    return cascade, uri


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patients with masks, of which one has a damaged slice and one lies there twice; and an image of no patient."""
    folder = tmp_path_factory.mktemp("lake") / "lake"
    settings = (f"ingest_data.phantom.num_patients={NUM_PATIENTS}", f"ingest_data.phantom.num_slices={NUM_SLICES}")
    configure("smoke", folder.parent / "params.yaml", settings)
    command = [Path(sys.executable).with_name("tumor-cascade"), "phantom", folder, "--params", "params.yaml"]
    subprocess.run(command, cwd=folder.parent, check=True, timeout=120)
    patients = sorted(path for path in (folder / "kaggle_3m").iterdir() if path.is_dir())
    (damaged,) = patients[0].glob("*_3.tif")
    damaged.write_bytes(damaged.read_bytes()[:200])
    shutil.copytree(patients[1], folder / "copy" / patients[1].name)
    (lone,) = patients[2].glob("*_4.tif")
    Image.open(lone).save(folder / "a lone image.png")
    return folder


def score(spark: Path, lake: Path, uri: str, out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": f"{spark}{os.pathsep}{ROOT / 'src'}",
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_SUBMIT_ARGS": "--master local[2] --conf spark.ui.enabled=false pyspark-shell",
        "SPARK_LOCAL_IP": "127.0.0.1",
        "MLFLOW_TRACKING_URI": uri,
    }
    command = [sys.executable, JOB, "--images", lake, "--out", out, *arguments]
    return subprocess.run(
        command, cwd=out.parent, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def read_answers(out: Path) -> pd.DataFrame:
    return pd.read_parquet(out).sort_values(["volume_id", "slice_index"], ignore_index=True)


def predict_lines(lake: Path, cascade: Path, out: Path) -> pd.DataFrame:
    predict(lake, cascade, out, is_overwrite=False)
    lines = pd.read_json(out / LINES_NAME, lines=True, dtype=False)
    return lines.assign(slice_index=lines["slice_number"].fillna(0).astype(int))


def test_score_patients__says_what_predict_says(
    spark: Path, champion: tuple[Path, str], lake: Path, tmp_path: Path
) -> None:
    cascade, uri = champion
    done = score(spark, lake, uri, tmp_path / "answers", "--parts", "3")
    assert done.returncode == 0, done.stderr[-5000:]
    answers, expected = read_answers(tmp_path / "answers"), predict_lines(lake, cascade, tmp_path / "predicted")
    answers["volume_id"] = answers["volume_id"].str.split("/").str[-1]
    both = answers.merge(expected, on=["volume_id", "slice_index"], suffixes=("", "_expected"))
    assert len(both) == len(answers) == len(expected)
    assert answers["volume_id"].nunique() == NUM_PATIENTS + 1
    assert (both["status"] == both["status_expected"]).all()
    assert f"{NUM_PATIENTS + 1} volumes, {len(answers)} slices" in done.stdout

    is_damaged = both["status"] == "error"
    assert list(both.loc[is_damaged, "slice_index"]) == [3]
    read = both[~is_damaged]
    np.testing.assert_allclose(read["probability"], read["probability_expected"], atol=1e-5)
    np.testing.assert_allclose(read["uncertainty"], read["uncertainty_expected"], atol=1e-5)
    for name in ("is_positive", "has_context", "tumor_area_px", "content_id"):
        assert (read[name] == read[f"{name}_expected"]).all(), name
    assert list(read.loc[~read["has_context"].astype(bool), "volume_id"]) == ["a lone image.png"]
    assert set(read["model_version"]) == {1}
    row: Any = read.iloc[0]
    drawn = np.asarray(Image.open(tmp_path / "predicted" / row["mask_expected"])) > 0
    assert (decode_mask(row["mask"], int(row["height_px"]), int(row["width_px"])) == drawn).all() and drawn.any()


def test_score_patients__without_a_champion_says_so(spark: Path, lake: Path, tmp_path: Path) -> None:
    done = score(spark, lake, f"sqlite:///{tmp_path}/empty.db", tmp_path / "answers")
    assert done.returncode == 2
    assert "score_patients: models:/tumor-cascade@champion cannot be fetched" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "answers").exists()
