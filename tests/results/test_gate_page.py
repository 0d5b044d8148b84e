"""The page on the gate, from networks of a made-up cohort."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from trainings import TrainedFolds
from tumor_cascade.cli import main
from tumor_cascade.configuration import build_preset, configure
from tumor_cascade.errors import DataError
from tumor_cascade.params import parse_params
from tumor_cascade.results.catalog import find_stale_results
from tumor_cascade.results.gate_page import find_winner, publish_gate
from tumor_cascade.stages.assemble_cascade import assemble_cascade
from tumor_cascade.storage import write_json

OVERRIDES = ["assemble_cascade.folds=[0, 1]", "assemble_cascade.mask_thresholds=[0.3, 0.5, 0.7]"]


@pytest.fixture(scope="module")
def run(trained: TrainedFolds, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of both folds: params.yaml and artifacts, as far as the page reads them."""
    folder = tmp_path_factory.mktemp("gate")
    artifacts = folder / "artifacts"
    lay_out(trained, artifacts)
    params = build_preset("smoke", OVERRIDES)
    made = artifacts / "assemble_cascade"
    assemble_cascade(
        parse_params(params, "params").assemble_cascade,
        classifier=artifacts / "train_classifier",
        segmenter=artifacts / "train_segmenter",
        **trained.data,
        out_cascade=made / "cascade",
        out_report=made / "report",
        out_metrics=made / "metrics.json",
    )
    for path in artifacts.rglob("content.json"):  # the networks were trained with other params than any preset's
        stage = path.relative_to(artifacts).parts[0]
        write_json(path, {**json.loads(path.read_text()), "params": params[stage]})
    configure("smoke", folder / "params.yaml", OVERRIDES)
    return folder


def lay_out(trained: TrainedFolds, artifacts: Path) -> None:
    """Copy data and networks to where the pipeline has them."""
    places = {"slices": "ingest_data", "manifest": "ingest_data", "splits": "split_data"}
    for noun, place in places.items():
        path = trained.data[noun]
        target = artifacts / place / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if path.is_dir() else shutil.copy)(path, target)
    for networks in (trained.classifier, trained.segmenter):
        shutil.copytree(networks, artifacts / networks.name)


def publish(run: Path, out: Path, *options: str) -> dict[str, Any]:
    """Publish by the command line and return the page's facts."""
    paths = ["--artifacts", str(run / "artifacts"), "--params", str(run / "params.yaml"), "--out", str(out)]
    done = CliRunner().invoke(main, ["results", "gate", "smoke", *paths, *options])
    assert done.exit_code == 0, done.output
    facts: dict[str, Any] = json.loads((out / "gate" / "results.json").read_text())
    return facts


def test_results_gate__every_gate_on_the_runs_own_scores(run: Path, tmp_path: Path) -> None:
    facts = publish(run, tmp_path)
    slices = pd.read_csv(run / "artifacts" / "assemble_cascade" / "report" / "slices.csv")
    assert (facts["num_patients"], facts["num_slices"]) == (slices["patient_id"].nunique(), len(slices))
    assert facts["tumor_share"] == slices["has_tumor"].mean()
    rows = {row["variant"]: row for row in facts["variants"]}
    judged = {"none", "argmax", "tuned", "smoothed", "segmenter", "combined", "cascade", "oracle"}
    assert judged <= set(rows)
    # What ships is what assemble_cascade has decided, patient by patient.
    kept = slices["segmenter_px"].where(slices["is_positive"], 0)
    hits = slices["segmenter_hit_px"].where(slices["is_positive"], 0)
    sums = pd.DataFrame({"kept": kept, "hits": hits, "tumor": slices["tumor_px"]}).groupby(slices["patient_id"]).sum()
    dice = 2 * sums["hits"] / (sums["kept"] + sums["tumor"])
    assert rows["cascade"]["volume_dice"] == pytest.approx(dice.mean())
    page = (tmp_path / "gate" / "README.md").read_text()
    assert f"**{find_winner(facts['variants'])['title']}**" in page
    assert page.count("\n| ") == 2 * (1 + len(rows))
    assert (tmp_path / "gate" / "gates.png").read_bytes().startswith(b"\x89PNG")


def test_results_gate__names_what_is_other_than_the_preset_and_is_not_stale(run: Path, tmp_path: Path) -> None:
    publish(run, tmp_path, "--trained-on", "one NVIDIA H200")
    page = (tmp_path / "gate" / "README.md").read_text()
    assert "(trained on one NVIDIA H200, by the publisher's word), " in page
    assert "with `assemble_cascade.folds=[0, 1]`, `assemble_cascade.mask_thresholds=[0.3, 0.5, 0.7]`" in page
    assert "come from the other folds (0, 1)" in page
    assert find_stale_results(tmp_path) == []


def test_results_gate__refuses_params_that_the_run_was_not_made_with(run: Path, tmp_path: Path) -> None:
    configure("smoke", tmp_path / "params.yaml", [*OVERRIDES, "train_segmenter.seed=9"])
    with pytest.raises(DataError, match="the artifacts were made with other params") as caught:
        publish_gate("smoke", run / "artifacts", tmp_path / "params.yaml", tmp_path / "out")
    assert caught.value.violations == ["train_segmenter.seed is 9 now, it was 1 when train_segmenter ran"]
    assert not (tmp_path / "out").exists()


def test_results_gate__leaky_run(run: Path, tmp_path: Path) -> None:
    configure("smoke", tmp_path / "params.yaml", [*OVERRIDES, "split_data.protocol=slice_level"])
    with pytest.raises(DataError, match=r"split_data\.protocol is slice_level: its networks have learned from other"):
        publish_gate("smoke", run / "artifacts", tmp_path / "params.yaml", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_results_gate__unfinished_run(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="classifier is missing, an output of train_classifier; run `dvc repro` first"):
        publish_gate("smoke", tmp_path, run / "params.yaml", tmp_path / "out")


def test_find_winner__the_oracle_cannot_be_built() -> None:
    scores = {"none": 0.8, "cascade": 0.82, "oracle": 0.9}
    rows = [{"variant": variant, "volume_dice": dice} for variant, dice in scores.items()]
    assert find_winner(rows)["variant"] == "cascade"
