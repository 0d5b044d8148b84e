import shlex
from typing import Any

import click
import pytest
from ruamel.yaml import YAML

from pipeline import ROOT, read_definition
from tumor_cascade.cli import main
from tumor_cascade.params import STAGES
from tumor_cascade.stages.interface import ACTS

PREFIX = "PYTHONPATH=src "
PROJECT = YAML(typ="safe", pure=True).load(ROOT / "MLproject")
ENTRY_POINTS: dict[str, Any] = PROJECT["entry_points"]


def fill(name: str, **values: str) -> list[str]:
    """Return an entry point's command as MLflow fills it in, without the environment."""
    entry = ENTRY_POINTS[name]
    defaults = {key: value["default"] for key, value in entry["parameters"].items()}
    filled = {key: shlex.quote(value) for key, value in {**defaults, **values}.items()}
    assert entry["command"].startswith(PREFIX)
    return shlex.split(entry["command"].removeprefix(PREFIX).format(**filled))


def test_entry_points__are_the_whole_pipeline_the_stages_and_the_acts() -> None:
    assert list(ENTRY_POINTS) == ["main", *STAGES, *ACTS]
    assert fill("main")[:3] == ["tumor-cascade", "pipeline", "--promote"]


@pytest.mark.parametrize("stage", STAGES)
def test_entry_points__run_what_dvc_runs(stage: str) -> None:
    command = read_definition()["stages"][stage]["cmd"].replace("${item.fold}", "0")
    assert fill(stage) == [*shlex.split(command), "--set", ""]


@pytest.mark.parametrize("act", ACTS)
def test_entry_points__an_act_reads_and_writes_what_its_command_does_by_default(act: str) -> None:
    flags = {option.opts[0]: str(option.default) for option in main.commands[act].params}
    nouns = (*ACTS[act].inputs, *(f"out-{noun}" for noun in ACTS[act].outputs))
    assert fill(act) == [
        "tumor-cascade",
        act,
        *(word for n in nouns for word in (f"--{n}", flags[f"--{n}"])),
        "--set",
        "",
    ]


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_entry_points__parse_with_overrides(name: str) -> None:
    overrides = "train_segmenter.fn_weight=0.8 train_segmenter.fp_weight=0.2"
    program, command, *arguments = fill(name, set=overrides)
    assert program == "tumor-cascade"
    with click.Context(main, info_name=program) as parent:
        values = main.commands[command].make_context(command, arguments, parent=parent).params
    assert values["overrides"] == (overrides,)


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_entry_points__hold_no_hyper_parameters(name: str) -> None:
    assert set(ENTRY_POINTS[name]["parameters"]) <= {"artifacts", "fold", "set"}


def test_python_env__installs_the_lock() -> None:
    assert PROJECT["python_env"] == "python_env.yaml"
    environment = YAML(typ="safe", pure=True).load(ROOT / "python_env.yaml")
    assert environment["dependencies"] == ["-r requirements.lock", "."]
    assert environment["python"].startswith("3.11.")
