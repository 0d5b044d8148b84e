import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from tumor_cascade.cli import main
from tumor_cascade.configuration import build_preset
from tumor_cascade.content import find_lock
from tumor_cascade.errors import DataError, ParamsError
from tumor_cascade.params import parse_params
from tumor_cascade.results.catalog import find_stale_results
from tumor_cascade.results.ladder import Workplace, climb, is_trained, plan_start, plan_training, read_slices
from tumor_cascade.results.ladder_page import (
    compare_start,
    describe_row,
    hash_recipes,
    measure_step,
    measure_steps,
    plot_ladder,
    tabulate_ladder,
    tabulate_starts,
)
from tumor_cascade.results.ladder_rows import LADDER_PATH, Ladder, read_ladder
from tumor_cascade.results.ladder_scores import collect_scores
from tumor_cascade.results.pages import write_page
from tumor_cascade.stages.ingest_data import ingest_data
from tumor_cascade.storage import hash_file

# Two folds of a phantom that trains in seconds; the rows differ in the segmenter alone.
TINY = """
preset: smoke
folds: [0, 1]
start:
  ingest_data.phantom.num_patients: 8
  ingest_data.phantom.num_slices: 8
  split_data.num_folds: 2
  train_classifier.max_epochs: 1
  train_segmenter.max_epochs: 1
  train_segmenter.widths: [4, 8, 8, 8]
  train_segmenter.training_slices: positive
  evaluate_cascade.num_bootstrap: 200
rows:
  - name: first
    title: First
  - name: all_slices
    title: All slices
    random_start: first
    changes:
      train_segmenter.training_slices: all
  - name: thresholds
    title: Thresholds
    changes:
      assemble_cascade.mask_thresholds: [0.1, 0.5]
  - name: branch
    title: Branch
    on: first
    is_further: true
    changes:
      train_segmenter.max_epochs: 2
  - name: encoder
    title: Another encoder
    on: first
    folds: [0]
    is_further: true
    changes:
      train_classifier.network: efficientnet_lite0
      train_segmenter.encoder: efficientnet_lite0
      train_segmenter.widths: [4, 4, 8, 8, 8]
  - name: from_masks
    title: Classifier from masks
    folds: [0]
    start_classifier_from: encoder
    is_further: true
  - name: from_restoration
    title: Classifier from restored images
    on: encoder
    folds: [0]
    start_classifier_from: encoder
    is_start_restored: true
    is_further: true
  - name: average
    title: First and all slices, averaged
    on: first
    average_with: [all_slices]
    is_further: true
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Ladder:
    path = tmp_path_factory.mktemp("ladder") / "ladder.yaml"
    path.write_text(TINY, encoding="utf-8")
    return read_ladder(path)


@pytest.fixture(scope="module")
def climbed(tiny: Ladder, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    folder = tmp_path_factory.mktemp("climb")
    params = tiny.rows[0].read_params()
    ingested = folder / "artifacts" / "ingest_data"
    ingest_data(
        params.ingest_data,
        raw=folder,
        out_slices=ingested / "slices",
        out_manifest=ingested / "manifest.parquet",
    )
    workplace = Workplace.open(folder / "artifacts")
    with pytest.MonkeyPatch.context() as patch:
        set_environment(patch, folder)
        done = [(row.name, fold) for row, fold in climb(workplace, tiny.select((), has_further=False), [0, 1])]
    assert done == [(name, fold) for name in ("first", "all_slices", "thresholds") for fold in (0, 1)]
    return workplace


def set_environment(patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.setenv("TUMOR_CASCADE_CHECKPOINTS", str(folder / "checkpoints"))
    patch.setenv("TUMOR_CASCADE_NUM_THREADS", "1")


def test_read_ladder__every_row_is_a_preset_with_valid_params() -> None:
    ladder = read_ladder()
    names = [row.name for row in ladder.rows]
    assert names[:2] == ["study", "patient_split"] and len(set(names)) == len(names)
    for row in ladder.rows:
        row.read_params()


def test_read_ladder__a_row_is_its_base_and_its_own_changes() -> None:
    rows = {row.name: row for row in read_ladder().rows}
    for row in rows.values():
        if row.base is None:
            continue
        base = rows[row.base]
        before = dict(override.split("=", 1) for override in base.overrides)
        after = dict(override.split("=", 1) for override in row.overrides)
        assert after == before | {key: str(value) for key, value in row.changes.items()}, row.name
        assert row.changes or row.start or row.averaged, row.name
        assert all(before.get(key) != str(value) for key, value in row.changes.items()), row.name


def test_read_ladder__starts_from_the_studys_segmenter() -> None:
    study, start = (row.read_params() for row in read_ladder().rows[:2])
    assert (study.split_data.protocol, start.split_data.protocol) == ("slice_level", "patient_level")
    # What follows from the split and the budget; the study's own page trains as it did, to the loss.
    but = {"precision", "monitor", "max_epochs", "early_stopping_patience"}
    assert study.train_segmenter.model_dump(exclude=but) == start.train_segmenter.model_dump(exclude=but)


def test_select__an_unknown_row_is_named(tiny: Ladder) -> None:
    with pytest.raises(ParamsError, match="ladder row second is unknown; must be one of first, all_slices"):
        tiny.select(("second",), has_further=False)
    assert [row.name for row in tiny.select((), has_further=True)][3] == "branch"


def test_open__data_that_were_not_ingested(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no manifest; put the data into data/raw and run `dvc repro"):
        Workplace.open(tmp_path)


def test_climb__rows_share_what_they_have_in_common(climbed: Workplace) -> None:
    count = {stage: len(list((climbed.folder / stage).glob("[!.]*"))) for stage in ("split_data", "train_classifier")}
    assert count == {"split_data": 1, "train_classifier": 1}
    assert len(list((climbed.folder / "train_segmenter").glob("[!.]*"))) == 2  # thresholds retrain nothing
    assert len(list((climbed.folder / "assemble_cascade").glob("[!.]*"))) == 3


def test_climb__a_second_climb_runs_nothing(tiny: Ladder, climbed: Workplace) -> None:
    def list_files() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in climbed.folder.rglob("*.json")}

    before = list_files()
    assert len(list(climb(climbed, tiny.select((), has_further=False), [0, 1]))) == 6
    assert list_files() == before


@pytest.mark.parametrize("name", ["from_masks", "from_restoration"])
def test_climb__a_classifier_starts_from_an_encoder(
    name: str, tiny: Ladder, climbed: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(monkeypatch, climbed.folder.parent.parent)
    row = next(row for row in tiny.rows if row.name == name)
    list(climb(climbed, [row], [0, 1]))
    assert row.start is not None and row.folds == [0]
    encoder = plan_start(climbed, row) / "fold-0" / "segmenter" / "weights.safetensors"
    has_learned_masks = encoder.is_relative_to(plan_training(climbed, row.start, "segmenter")[1])
    assert has_learned_masks == (name == "from_masks")
    trained = plan_training(climbed, row, "classifier")[1] / "fold-0" / "classifier" / "content.json"
    assert json.loads(trained.read_text())["params"]["initialization_sha256"] == hash_file(encoder)
    assert read_slices(climbed, row) is not None
    before = encoder.stat().st_mtime_ns
    list(climb(climbed, [row], [0]))
    assert encoder.stat().st_mtime_ns == before


def test_ladder__a_classifier_starts_from_weights_of_as_many_channels() -> None:
    started = [row for row in read_ladder().rows if row.start is not None]
    assert {row.name for row in started} == {"classifier_from_masks", "classifier_from_restoration"}
    for row in started:
        assert row.start is not None
        segmenter, classifier = row.start.read_params().train_segmenter, row.read_params().train_classifier
        assert segmenter.has_neighbor_slices == classifier.has_neighbor_slices, row.name


def test_climb__averaged_segmenters_are_judged_out_of_fold(
    tiny: Ladder, climbed: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(monkeypatch, climbed.folder.parent.parent)
    row = next(row for row in tiny.rows if row.name == "average")
    list(climb(climbed, [row], [0, 1]))
    tables = [read_slices(climbed, one) for one in (row, *tiny.rows[:2])]
    average, first, second = (table for table in tables if table is not None)
    key = ["patient_id", "slice_index", "tumor_px", "classifier_logit"]
    pd.testing.assert_frame_equal(average[key], first[key])
    # Slice scores are averaged, so each lies half way; masks are averaged before the threshold.
    half = (first["segmenter_score"] + second["segmenter_score"]) / 2
    assert average["segmenter_score"].to_numpy() == pytest.approx(half.to_numpy(), rel=1e-4, abs=1e-4)
    assert collect_scores(climbed, (row,), climbed.folder / "no-page")


def test_ladder_run__jobs_are_commands_of_one_row_and_fold_each(tmp_path: Path) -> None:
    ingested = tmp_path / "ingest_data"
    ingested.mkdir()
    (ingested / "manifest.parquet").write_text("no table")
    rows = [text for name in ("study", "random_encoder") for text in ("--row", name)]
    done = CliRunner().invoke(main, ["ladder", "run", "--artifacts", str(tmp_path), "--jobs", "3", *rows])
    assert done.exit_code == 1
    pairs = {"study, fold 0", "random_encoder, fold 0", "random_encoder, fold 1"}  # the study's row has one fold
    assert {line.removeprefix("> ") for line in done.output.splitlines() if line.startswith("> ")} == pairs
    # Each has understood its words and looked into the workplace; the first to fail stops the others.
    assert any(f"{pair}: ladder: manifest manifest.parquet" in done.output for pair in pairs)


def test_read_slices__out_of_fold_scores_of_all_development_patients(tiny: Ladder, climbed: Workplace) -> None:
    slices = read_slices(climbed, tiny.rows[0])
    assert slices is not None and slices["patient_id"].nunique() == 6  # 8 patients, a quarter locked away
    assert read_slices(climbed, tiny.rows[3]) is None and not is_trained(climbed, tiny.rows[3])


def test_page__marks_what_has_not_been_run_and_pairs_the_rest(tiny: Ladder, climbed: Workplace) -> None:
    steps = measure_steps(collect_scores(climbed, tiny.rows, climbed.folder / "no-page"), tiny)
    rows = [describe_row(row, steps) for row in tiny.rows]
    table = tabulate_ladder(rows)
    assert len(table) == 10 and "| Branch (on `first`) | not run |" in table[5]
    slices = read_slices(climbed, tiny.rows[0])
    assert slices is not None and table[2].startswith(f"| First | 6, {len(slices)} | ")
    assert "gain" not in rows[0] and len(rows[1]["gain"]) == 3
    difference = (steps["all_slices"].segmenter_dice - steps["first"].segmenter_dice).mean()
    assert rows[1]["ungated_gain"][0] == pytest.approx(difference)
    assert plot_ladder([row for row in rows if row["is_run"]]).axes
    json.dumps(rows)
    [_, _, start] = tabulate_starts(rows)
    assert start.startswith("| All slices | volume Dice | ") and f" {difference:+.3f} " in start
    assert tabulate_starts([describe_row(row, {"first": steps["first"]}) for row in tiny.rows]) == []


def test_collect_scores__of_another_machine_count_while_their_content_is_the_same(
    tiny: Ladder, climbed: Workplace, tmp_path: Path
) -> None:
    scores = collect_scores(climbed, tiny.rows, tmp_path / "page")
    facts = {"name": "page", "rows": [{"name": name, "making": one.making} for name, one in scores.items()]}
    write_page(tmp_path, facts, "", {}, {name: one.slices for name, one in scores.items()})
    elsewhere = replace(climbed, folder=tmp_path / "another-machine")
    kept = collect_scores(elsewhere, tiny.rows, tmp_path / "page")
    assert [row.name for row in tiny.rows if not is_trained(elsewhere, row)] == [row.name for row in tiny.rows]
    assert list(kept) == list(scores) == [row.name for row in tiny.rows if is_trained(climbed, row)]
    for name, one in kept.items():
        pd.testing.assert_frame_equal(one.slices, scores[name].slices)
    facts["rows"][0]["making"]["content_id"] = "0" * 64  # as after a change of code, data or params
    write_page(tmp_path, facts, "", {}, {name: one.slices for name, one in scores.items()})
    assert list(collect_scores(elsewhere, tiny.rows, tmp_path / "page")) == list(scores)[1:]


def test_find_stale_results__a_row_of_the_ladder_that_has_moved_on(tmp_path: Path) -> None:
    recipes = hash_recipes(read_ladder())
    assert recipes["slice_head"] != recipes["landmarks"] and recipes["encoder_ensemble"] != recipes["slice_head"]
    facts = {"name": "ladder", "code": {}, "lock": hash_file(find_lock()), "rows": [], "recipes": recipes}
    write_page(tmp_path, facts, "", {})
    assert find_stale_results(tmp_path) == []
    write_page(tmp_path, {**facts, "recipes": {**recipes, "slice_head": "0"}}, "", {})
    assert [line.partition(": ")[2] for line in find_stale_results(tmp_path)] == ["other params of row slice_head"]


def test_describe_row__the_study_is_leaky() -> None:
    assert [describe_row(row, {})["is_leaky"] for row in read_ladder().rows[:2]] == [True, False]


def make_slices(**columns: list[float]) -> pd.DataFrame:
    """Return scores of two patients, by hand, with other columns where given."""
    table = {
        "patient_id": ["p", "q", "q"],
        "has_tumor": [True, True, False],
        "tumor_px": [10, 4, 0],
        "segmenter_px": [10, 4, 4],
        "segmenter_hit_px": [5, 4, 0],
        "segmenter_score": [1.0, 2.0, 0.0],
        "classifier_logit": [1.0, -1.0, 0.0],
        "is_positive": [True, True, False],
    }
    return pd.DataFrame(table | columns)


def test_measure_step__counts_by_hand() -> None:
    # p: tumor 10 px, marked 10 of which 5 hit, kept: Dice 2*5/20; q: one kept slice with 4 of 4, one false slice of 4
    # px that the gate removes: with the gate 2*4/8, without it 2*4/12. Tumor-free slices: q's second only, not empty.
    params = parse_params(build_preset("smoke"), "smoke").evaluate_cascade
    step = measure_step(make_slices(), params)
    assert step.cascade_dice.tolist() == [0.5, 1.0]
    assert step.segmenter_dice.tolist() == pytest.approx([0.5, 2 / 3])
    aurocs = [step.bootstrap.estimate(auroc).value for auroc in (step.segmenter_auroc, step.classifier_auroc)]
    assert (step.clean_share, *aurocs) == (0.0, 1.0, 0.5)


def test_compare_start__a_classifier_by_its_scores_a_segmenter_by_its_masks() -> None:
    params = parse_params(build_preset("smoke"), "smoke").evaluate_cascade
    better = {"classifier_logit": [1.0, 1.0, 0.0], "segmenter_px": [10, 4, 0], "segmenter_hit_px": [10, 4, 0]}
    random, start = (measure_step(make_slices(**columns), params) for columns in ({}, better))
    assert compare_start(start, random, has_classifier=True).value == 0.5
    assert compare_start(start, random, has_classifier=False).value == pytest.approx((0.5 + 1 / 3) / 2)


def test_read_ladder__a_random_start_is_the_same_networks() -> None:
    rows = {row.name: row for row in read_ladder().rows}
    for row in (row for row in rows.values() if row.random_start is not None):
        own, random = row.read_params().model_dump(), rows[row.random_start].read_params().model_dump()
        own["train_classifier"]["initialization"] = own["train_segmenter"]["initialization"] = "none"
        assert random == own and row.folds == rows[row.random_start].folds, row.name


def test_ladder_file__stands_beside_its_module() -> None:
    assert LADDER_PATH.is_file()
