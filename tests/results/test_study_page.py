"""The page on the study's protocol, from miniature runs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from outputs import find_content
from phantoms import ingest_phantom, make_split_params
from tumor_cascade.cli import main
from tumor_cascade.configuration import build_preset, configure
from tumor_cascade.content import find_lock, hash_code
from tumor_cascade.data.manifest import read_manifest
from tumor_cascade.data.split import read_splits
from tumor_cascade.errors import DataError
from tumor_cascade.params import STAGES
from tumor_cascade.results.catalog import find_stale_results
from tumor_cascade.results.study_page import format_range, measure_adjacency, publish_study
from tumor_cascade.stages.split_data import split_data
from tumor_cascade.storage import hash_file, write_json


def finish_run(folder: Path, protocol: str, num_lost_px: int, partition: str = "test") -> Path:
    """Return the artifacts of a run whose masks lack so many pixels of every tumor slice, as far as the page reads."""
    artifacts = folder / "artifacts"
    cohort = ingest_phantom(artifacts / "ingest_data", 6)
    split_data(
        make_split_params(protocol=protocol),
        manifest=cohort.manifest,
        slices=cohort.slices,
        out_splits=artifacts / "split_data" / "splits",
        out_metrics=artifacts / "split_data" / "metrics.json",
    )
    overrides = [f"split_data.protocol={protocol}", f"evaluate_cascade.partition={partition}"]
    params = build_preset("smoke", overrides)
    for stage in STAGES:
        content = {"content_id": "c0ffee" * 10, "code": hash_code(stage), "lock": hash_file(find_lock())}
        content["params"] = {stage: params[stage]} if stage == "evaluate_cascade" else params[stage]
        write_json(find_content(artifacts, stage), content)
    rows = read_manifest(cohort.manifest)
    rows = rows[(read_splits(artifacts / "split_data" / "splits")["partition"] == "test").to_numpy()]
    px = np.maximum(rows["tumor_area_px"] - num_lost_px, 0)
    counts = {f"{model}_{count}": px for model in ("cascade", "segmenter") for count in ("px", "hit_px", "soft_px")}
    table = rows[["patient_id", "slice_index", "has_tumor"]].assign(
        num_px=48 * 48,
        tumor_px=rows["tumor_area_px"],
        is_positive=rows["has_tumor"],
        segmenter_soft_hit_px=px,
        **counts,
    )
    table.to_csv(artifacts / "evaluate_cascade" / "report" / "per_slice.csv", index=False)
    configure("smoke", folder / "params.yaml", overrides)
    return artifacts


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Artifacts of a run by slice, all right."""
    return finish_run(tmp_path_factory.mktemp("leaky"), "slice_level", 0)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Artifacts of a run by patient that loses some of each tumor."""
    return finish_run(tmp_path_factory.mktemp("honest"), "patient_level", 20)


def test_results_study__both_protocols(leaky: Path, honest: Path, tmp_path: Path) -> None:
    params = ["--params", str(leaky.parent / "params.yaml")]
    runs = [text for run in (leaky, honest) for text in ("--artifacts", str(run))]
    done = CliRunner().invoke(main, ["results", "study", "smoke", *runs, *params, "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "leaky-smoke" / "README.md").read_text()
    title, leaky_notice = page.split("\n\n")[:2]
    assert title == "# The study's protocol with the recipe of `smoke`"
    assert leaky_notice.startswith("> **Image-level split, leaky, for comparison only.**")
    assert "1 run(s) by slice" in page and "1 by patient" in page
    [line] = [line for line in page.splitlines() if line.startswith("| S3 pooled Dice")]
    assert line.startswith("| S3 pooled Dice, tumor slices | 0.98 | 1.000 | 0.")
    assert "| S1 slice accuracy, all test slices | - | 1.000 | 1.000 |" in page
    assert "the share that the cascade finds" in page and "The cascade's classification report on" in page
    assert "see below" not in page and "lets 99.5 % of the tumor slices of validation patients pass" in page
    assert "Table I" not in page and "[the study's own page](../leaky-study/README.md)" in page
    assert "| predict nothing | by slice (leaky) |" in page
    assert (tmp_path / "leaky-smoke" / "scores.png").read_bytes().startswith(b"\x89PNG")
    facts = json.loads((tmp_path / "leaky-smoke" / "results.json").read_text())
    assert facts["is_leaky"] is True
    assert [run["protocol"] for run in facts["runs"]] == ["slice_level", "patient_level"]


def test_publish_study__the_studys_own_recipe_beside_its_table(leaky: Path, tmp_path: Path) -> None:
    path = publish_study("study-cpu", [leaky], leaky.parent / "params.yaml", tmp_path)
    assert path.parent.name == "leaky-study"
    page = path.read_text()
    assert page.startswith("# The study's protocol, and what its numbers mean\n\n> **Image-level")
    assert "| 357 | 4 | 10 | 205 | 0.953 |" in page
    assert "the share that the gate finds" in page and "see below" in page


def test_publish_study__names_what_is_other_than_the_preset(leaky: Path, tmp_path: Path) -> None:
    page = publish_study("smoke", [leaky], leaky.parent / "params.yaml", tmp_path, "one NVIDIA H200").read_text()
    assert "from the preset `smoke` with `split_data.protocol=slice_level`, on" in page
    assert "(trained on one NVIDIA H200, by the publisher's word), " in page
    assert find_stale_results(tmp_path) == []


def test_publish_study__a_run_by_patient_alone(honest: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="its split is patient_level; name a run under slice_level first"):
        publish_study("smoke", [honest], honest.parent / "params.yaml", tmp_path)


def test_publish_study__unfinished_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="evaluate_cascade/report is missing, an output of evaluate_cascade"):
        publish_study("smoke", [tmp_path], tmp_path / "params.yaml", tmp_path / "out")


def test_publish_study__slices_that_chose_epochs_and_thresholds(tmp_path: Path) -> None:
    run = finish_run(tmp_path / "run", "slice_level", 0, partition="out_of_fold")
    with pytest.raises(DataError, match=r"evaluate_cascade\.partition is out_of_fold, so what was scored has chosen"):
        publish_study("smoke", [run], run.parent / "params.yaml", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_measure_adjacency__known() -> None:
    # p: test slices 1 (between development slices) and 3, 4 (3 beside 2; 4 beside 3 alone). q: one test slice, alone.
    names = ["development", "test", "development", "test", "test", "test"]
    splits = pd.DataFrame({"patient_id": list("pppppq"), "slice_index": [0, 1, 2, 3, 4, 0], "partition": names})
    assert measure_adjacency(splits) == 0.5


@pytest.mark.parametrize(
    ("scores", "text"), [([], "-"), ([None], "-"), ([0.9], "0.900"), ([0.9, 0.95, None], "0.925 (0.900 to 0.950)")]
)
def test_format_range__runs_of_one_protocol(scores: list[Any], text: str) -> None:
    runs = [{"protocol": "slice_level", "scores": {"S3": {"dice": score}}} for score in scores]
    runs.append({"protocol": "patient_level", "scores": {"S3": {"dice": 0.1}}})
    assert format_range(runs, "slice_level", "S3", "dice") == text
