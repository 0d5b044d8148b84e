import click
import pytest

from pipeline import PipelineStage, read_pipeline
from tumor_cascade.cli import main


def parse_stage(stage: PipelineStage) -> dict[str, object]:
    program, name, *arguments = stage.arguments
    assert (program, name) == ("tumor-cascade", stage.name)
    with click.Context(main, info_name=program) as parent:
        return main.commands[name].make_context(name, arguments, parent=parent).params


@pytest.mark.parametrize("stage", read_pipeline(), ids=lambda stage: " ".join(stage.arguments[1:4]))
def test_dvc_commands__parse_and_agree_with_deps_and_outs(stage: PipelineStage) -> None:
    flags = {name: str(value) for name, value in parse_stage(stage).items() if value is not None}
    outs = {name: value for name, value in flags.items() if name.startswith("out_")}
    inputs = {name: value for name, value in flags.items() if name not in (*outs, "params_path", "overrides", "fold")}
    assert set(inputs.values()) <= set(stage.deps), "an input flag names no dep"
    assert sorted(outs.values()) == sorted(stage.outs)
    assert flags["params_path"] == "params.yaml"


def test_dvc_commands__a_fold_writes_to_its_own_folder() -> None:
    folds = [(parse_stage(stage)["fold"], stage) for stage in read_pipeline() if stage.name.startswith("train_")]
    assert folds
    assert all(f"/fold-{fold}/" in out for fold, stage in folds for out in stage.outs)
