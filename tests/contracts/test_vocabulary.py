import ast
import importlib.util
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline import ROOT, read_definition, read_pipeline
from tumor_cascade.cli import main
from tumor_cascade.configuration import PRESETS_DIR
from tumor_cascade.params import STAGES, Params
from tumor_cascade.stages.interface import ACTS, INTERFACES

NOUNS = {"raw", "slices", "manifest", "splits", "classifier", "segmenter", "cascade", "report", "metrics", "decision"}
STAGES_DIR = ROOT / "src" / "tumor_cascade" / "stages"


def list_modules(folder: Path, pattern: str) -> set[str]:
    matches = (re.fullmatch(pattern, path.name) for path in folder.glob("*.py"))
    return {match[1] for match in matches if match} - {"__init__", "interface"}


@pytest.mark.parametrize(
    "found",
    [
        list(Params.model_fields),
        list(YAML(typ="safe", pure=True).load(PRESETS_DIR / "phantom.yaml")),
        list(INTERFACES),
        [name for name in main.commands if name in STAGES],
        list(read_definition()["stages"]),
    ],
    ids=["params", "params.yaml", "interfaces", "cli", "dvc.yaml"],
)
def test_stages__are_the_same_in_the_same_order(found: list[str]) -> None:
    assert found == list(STAGES)


def test_acts__stand_wherever_stages_do_but_in_dvc_yaml_and_params() -> None:
    assert [name for name in main.commands if name in ACTS] == list(ACTS)
    assert not {*read_definition()["stages"], *Params.model_fields} & set(ACTS)


def test_stages__each_has_one_module_and_one_test_file() -> None:
    assert list_modules(STAGES_DIR, r"(\w+)\.py") == {*STAGES, *ACTS}
    assert list_modules(ROOT / "tests" / "stages", r"test_(\w+)\.py") == {*STAGES, *ACTS}


@pytest.mark.parametrize("stage", [*STAGES, *ACTS])
def test_stages__module_holds_the_function_of_its_name(stage: str) -> None:
    tree = ast.parse((STAGES_DIR / f"{stage}.py").read_text(encoding="utf-8"))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert stage in functions, f"stages/{stage}.py must define {stage}()"
    interface = {**INTERFACES, **ACTS}[stage]
    flags = [*interface.inputs, *(f"out_{noun}" for noun in interface.outputs), *["fold"] * interface.has_fold]
    assert {argument.arg for argument in functions[stage].args.kwonlyargs} == set(flags)
    assert {*interface.inputs, *interface.outputs} <= NOUNS


def test_stages__package_has_them_all() -> None:
    missing = [stage for stage in STAGES if importlib.util.find_spec(f"tumor_cascade.stages.{stage}") is None]
    assert not missing


@pytest.mark.parametrize("stage", STAGES)
def test_artifacts__are_known_nouns_under_the_stage_s_folder(stage: str) -> None:
    interface = INTERFACES[stage]
    assert {*interface.inputs, *interface.outputs} <= NOUNS
    outs = [out for one in read_pipeline() if one.name == stage for out in one.outs]
    folders = rf"artifacts/{stage}/" + (r"fold-\d+/" if interface.has_fold else "")
    names = {match[1] for out in outs if (match := re.fullmatch(rf"{folders}(\w+)(\.\w+)?", out))}
    assert names == set(interface.outputs), f"{stage} writes {outs}"


def test_params__each_dvc_stage_has_its_own_section_alone() -> None:
    assert {name: stage["params"] for name, stage in read_definition()["stages"].items()} == {
        stage: [stage] for stage in STAGES
    }
