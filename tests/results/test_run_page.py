"""Result pages and the check that names stale ones."""

import datetime
import json
import shutil
import socket
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from outputs import find_content
from tumor_cascade.cli import main
from tumor_cascade.configuration import build_preset, configure
from tumor_cascade.content import find_lock, hash_code
from tumor_cascade.errors import DataError
from tumor_cascade.params import STAGES
from tumor_cascade.registry.executions import Execution
from tumor_cascade.results.catalog import README_MARKS, find_stale_results, redraw_table
from tumor_cascade.results.run_page import FIGURES, publish_results
from tumor_cascade.storage import hash_file, write_json

METRICS = {
    "cascade/test_num_patients": 4,
    "cascade/test_num_slices": 60,
    "cascade/test_num_tumor_slices": 22,
    "cascade/test_volume_dice": 0.76573,
    "cascade/test_volume_dice_low": 0.66143,
    "cascade/test_volume_dice_high": 0.85411,
    "cascade/test_slice_dice": 0.7,
    "cascade/test_auroc": 0.9,
    "cascade/test_accuracy": None,  # undefined
}


@pytest.fixture
def run(tmp_path: Path) -> dict[str, Any]:
    """Artifacts of a finished `smoke` run of today's code, as far as a page reads them."""
    artifacts = tmp_path / "artifacts"
    configure("smoke", tmp_path / "params.yaml")
    for stage in STAGES:
        content = {"content_id": "c0ffee" * 10, "code": hash_code(stage), "lock": hash_file(find_lock())}
        section = build_preset("smoke")[stage]
        content["params"] = {stage: section, "fold": 0} if "cascade" in stage or "train" in stage else section
        facts = {"protocol": "patient_level", "is_leaky": False, "scope": "the locked test set"}
        write_json(find_content(artifacts, stage), {**content, **facts})
    for role in ("classifier", "segmenter"):
        report = artifacts / f"train_{role}" / "fold-0" / "report"
        report.mkdir()
        (report / "curves.png").write_bytes(b"png")
    figures = artifacts / "evaluate_cascade" / "report" / "figures"
    figures.mkdir()
    for figure in FIGURES:
        (figures / f"{figure}.png").write_bytes(b"png")
    (figures.parent / "per_patient.csv").write_text("patient_id\np0\n")
    write_json(artifacts / "evaluate_cascade" / "metrics.json", METRICS)
    return {
        "artifacts": artifacts,
        "params_path": tmp_path / "params.yaml",
        "out_dir": tmp_path / "docs",
    }


def redraw(run: dict[str, Any]) -> str:
    readme: Path = run["out_dir"] / "README.md"
    readme.write_text("before\n" + "\nold table\n".join(README_MARKS) + "\nafter\n")
    redraw_table(readme, run["out_dir"])
    return readme.read_text()


def test_publish_results__page_and_table(run: dict[str, Any]) -> None:
    page = publish_results("smoke", "smoke", **run).read_text()
    assert "| Volume Dice of the cascade, mean over patients | 0.766 [0.661, 0.854] |" in page
    assert "[per_patient.csv](per_patient.csv)" in page
    assert (run["out_dir"] / "smoke" / "per_patient.csv").read_text() == "patient_id\np0\n"
    assert "Slice accuracy" not in page  # undefined on these data
    assert "`content_id` `c0ffeec0ffeec0ff`" in page
    assert "Scored: the locked test set. 4 patients, 60 slices, 22 with tumor" in page
    assert "generated phantoms" in page
    readme = redraw(run)
    assert "old table" not in readme
    assert readme.startswith("before\n") and readme.endswith("\nafter\n")
    assert "| 4 patients, test | 0.766 [0.661, 0.854] | 0.700 | 0.900 | - |" in readme
    assert find_stale_results(run["out_dir"]) == []


def test_publish_results__says_where_it_was_trained(run: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Trained where no record here tells, published on" in publish_results("smoke", "smoke", **run).read_text()
    for stage in ("train_classifier", "train_segmenter", "evaluate_cascade"):
        record = Execution(stage, 0, 0.0, 1, {}, socket.gethostname())
        write_json(run["artifacts"].parent / "runs" / stage / f"{'c0ffee' * 10}.json", asdict(record))
    assert (
        "Trained where no record here tells" in publish_results("smoke", "smoke", **run).read_text()
    )  # a page keeps what it said
    shutil.rmtree(run["out_dir"])
    assert "Trained and scored on" in publish_results("smoke", "smoke", **run).read_text()
    shutil.rmtree(run["out_dir"])
    monkeypatch.setattr(socket, "gethostname", lambda: "another")
    assert "Trained where no record here tells" in publish_results("smoke", "smoke", **run).read_text()


def test_publish_results__trained_on_by_the_publishers_word(run: dict[str, Any]) -> None:
    assert "no record here" in publish_results("smoke", "smoke", **run).read_text()
    page = publish_results(
        "smoke", "smoke", **run, trained_on="one NVIDIA H200"
    ).read_text()  # a word given later counts
    word = "(trained on one NVIDIA H200, by the publisher's word)"
    assert ". Published on " in page and word in page
    assert word in publish_results("smoke", "smoke", **run).read_text()  # a page keeps what it said


def test_publish_results__out_of_fold(run: dict[str, Any]) -> None:
    metrics = {name.replace("/test_", "/oof_"): value for name, value in METRICS.items()}
    write_json(run["artifacts"] / "evaluate_cascade" / "metrics.json", metrics)
    page = publish_results("smoke", "smoke", **run).read_text()
    assert "| Volume Dice of the cascade, mean over patients | 0.766 [0.661, 0.854] |" in page
    assert "| 4 patients, out of fold, epochs and thresholds chosen on them | 0.766" in redraw(run)  # one fold


def test_publish_results__names_what_is_other_than_the_preset(run: dict[str, Any]) -> None:
    overrides = ["split_data.seed=3", "assemble_cascade.mask_thresholds=[0.4, 0.5]"]
    remake(run, *overrides)
    page = publish_results("mine", "smoke", **run).read_text()
    settings = "--set split_data.seed=3 --set 'assemble_cascade.mask_thresholds=[0.4, 0.5]'"
    assert f"configure smoke {settings} && dvc repro && tumor-cascade results publish mine --preset smoke`" in page
    assert find_stale_results(run["out_dir"]) == []


def test_publish_results__says_when_the_locked_test_set_was_opened(run: dict[str, Any]) -> None:
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    opening = f"The locked test set was opened for this page on {today}."
    assert opening in publish_results("smoke", "smoke", **run).read_text()
    path = find_content(run["artifacts"], "evaluate_cascade")
    write_json(path, {**json.loads(path.read_text()), "is_leaky": True, "content_id": "beef" * 16})
    page = publish_results("smoke", "smoke", **run).read_text()
    assert opening not in page
    assert "Leaky: slices of one patient on both sides" in page
    assert "Volume Dice is here of a patient's scored slices, 15.0 on average, not of a volume" in page  # 60 of 4
    assert "| 4 patients, test | - | 0.700 |" in redraw(run)


def test_publish_results__folds_that_an_earlier_run_has_left(run: dict[str, Any]) -> None:
    kept = find_content(run["artifacts"], "train_segmenter")
    stale = {**json.loads(kept.read_text()), "code": "0", "params": {"train_segmenter": {"seed": 9}, "fold": 1}}
    write_json(find_content(run["artifacts"], "train_segmenter", fold=1), stale)
    publish_results("smoke", "smoke", **run)
    kept.unlink()
    with pytest.raises(DataError, match="fold-0/segmenter is missing, an output of train_segmenter"):
        publish_results("smoke", "smoke", **run)


def remake(run: dict[str, Any], *overrides: str) -> None:
    """Make params and artifacts those of other values."""
    configure("smoke", run["params_path"], overrides)
    for stage, section in build_preset("smoke", overrides).items():
        path = find_content(run["artifacts"], stage)
        write_json(path, {**json.loads(path.read_text()), "params": section})


def test_publish_results__refuses_params_that_the_run_was_not_made_with(run: dict[str, Any]) -> None:
    remake(run, "split_data.protocol=slice_level", "train_segmenter.seed=9")
    configure("smoke", run["params_path"])
    with pytest.raises(DataError, match="the artifacts were made with other params; run `dvc repro`") as caught:
        publish_results("smoke", "smoke", **run)
    assert caught.value.violations == [
        "split_data.protocol is patient_level now, it was slice_level when split_data ran",
        "train_segmenter.seed is 1 now, it was 9 when train_segmenter ran",
    ]
    assert not run["out_dir"].exists()


def test_publish_results__a_page_of_the_same_run_keeps_its_date(run: dict[str, Any]) -> None:
    facts_path = publish_results("smoke", "smoke", **run).parent / "results.json"
    facts = json.loads(facts_path.read_text())
    write_json(facts_path, {**facts, "date": "2020-02-02", "hardware": "an abacus"})
    page = publish_results("smoke", "smoke", **run).read_text()
    assert "on an abacus, 2020-02-02." in page
    assert "opened for this page on 2020-02-02" in page


def test_publish__a_name_that_is_no_preset_needs_one(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["results", "publish", "mine", "--artifacts", str(tmp_path)])
    assert done.exit_code == 2
    assert "--preset" in done.output


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda facts: facts["code"].update(train_segmenter="0"), "other code of train_segmenter$"),
        (lambda facts: facts["params"]["split_data"].update(seed=99), "other params of split_data$"),
        (lambda facts: facts.update(lock="0"), "other lock file$"),
    ],
)
def test_find_stale_results__names_what_differs(run: dict[str, Any], change: Any, reason: str) -> None:
    path = publish_results("smoke", "smoke", **run).parent / "results.json"
    facts = json.loads(path.read_text())
    change(facts)
    write_json(path, facts)
    [line] = find_stale_results(run["out_dir"])
    assert line.split(": ")[1] == reason.rstrip("$")


def test_find_stale_results__an_override_that_is_no_parameter_any_more(run: dict[str, Any]) -> None:
    path = publish_results("smoke", "smoke", **run).parent / "results.json"
    facts = json.loads(path.read_text())
    facts["params"]["split_data"]["num_moons"] = 2
    write_json(path, {**facts, "overrides": ["split_data.num_moons=2"]})
    [line] = find_stale_results(run["out_dir"])
    assert "params of split_data" in line


def test_publish_results__unfinished_run(run: dict[str, Any]) -> None:
    find_content(run["artifacts"], "assemble_cascade").unlink()
    with pytest.raises(DataError, match="cascade is missing, an output of assemble_cascade; run `dvc repro`"):
        publish_results("smoke", "smoke", **run)
    assert not run["out_dir"].exists()


def test_publish_results__data_validated_elsewhere(run: dict[str, Any]) -> None:
    shutil.rmtree(run["artifacts"] / "validate_data")
    facts = json.loads((publish_results("smoke", "smoke", **run).parent / "results.json").read_text())
    assert set(facts["code"]) == set(STAGES) - {"validate_data"}
    assert find_stale_results(run["out_dir"]) == []
