from pathlib import Path

from outputs import write_outputs
from tumor_cascade.params import read_yaml
from tumor_cascade.registry.outputs import read_outputs
from tumor_cascade.registry.recipe import Recipe


def test_recipe__outputs_say_what_the_params_file_said(tmp_path: Path) -> None:
    artifacts = write_outputs(tmp_path)
    today = Recipe.of_today(read_yaml(tmp_path / "params.yaml"), artifacts / "ingest_data" / "manifest.parquet")
    written = Recipe.of_contents(output.content for output in read_outputs(artifacts))
    assert today is not None
    assert today == written


def test_recipe__validation_names_no_pipeline_and_every_other_stage_does(tmp_path: Path) -> None:
    artifacts = write_outputs(tmp_path)
    contents = {output.stage: output.content for output in read_outputs(artifacts)}
    whole = Recipe.of_contents(contents.values())
    without = Recipe.of_contents(content for stage, content in contents.items() if stage != "validate_data")
    assert whole is not None
    assert without is not None
    assert whole.content_id == without.content_id
    segmenter = {**contents["train_segmenter"], "code": 64 * "0"}
    other = Recipe.of_contents([*(contents[stage] for stage in contents if stage != "train_segmenter"), segmenter])
    assert other is not None
    assert other.content_id != whole.content_id


def test_recipe__unknown_where_a_stage_is_missing_or_two_do_not_fit(tmp_path: Path) -> None:
    contents = [output.content for output in read_outputs(write_outputs(tmp_path))]
    assert Recipe.of_contents(contents[:-1]) is None
    assert Recipe.of_contents([*contents[:-1], {**contents[-1], "lock": 64 * "0"}]) is None


def test_recipe__unknown_in_a_pod(tmp_path: Path) -> None:
    artifacts = write_outputs(tmp_path)
    values = read_yaml(tmp_path / "params.yaml")
    assert Recipe.of_today({"train_segmenter": values["train_segmenter"]}, artifacts) is None
