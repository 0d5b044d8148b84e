import ast
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2 as kubernetes_proto
from kfp.pipeline_spec import pipeline_spec_pb2 as pipeline_proto
from ruamel.yaml import YAML

from compiled import CompiledTask, list_tasks, make_plan, read_documents
from pipeline import ROOT, read_definition, read_pipeline
from pipelines.catalog import PIPELINES, compile_pipeline
from pipelines.golden import COMPILED_DIR, GOLDEN, render
from pipelines.plan import build_plan
from tumor_cascade.cli import main
from tumor_cascade.params import STAGES, parse_section
from tumor_cascade.stages.interface import ACTS, SECTIONS

# What a container is told and a desk is not.
POD_FLAGS = {"--params-json", "--reference", "--data-store", "--executor-input"}
GOLDEN_TEXTS = {name: (COMPILED_DIR / name).read_text(encoding="utf-8") for name in GOLDEN}
GOLDEN_TASKS = [
    pytest.param(task, id=f"{name}-{task.name}") for name, text in GOLDEN_TEXTS.items() for task in list_tasks(text)
]


def list_flags(arguments: list[str]) -> list[str]:
    return [part for part in arguments if part.startswith("--")]


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_files__are_what_is_compiled_today(name: str) -> None:
    assert render(*GOLDEN[name]) == GOLDEN_TEXTS[name], "run `python -m pipelines.golden` and read the difference"


def test_golden_files__are_all_pipelines() -> None:
    assert {pipeline for pipeline, _ in GOLDEN.values()} == set(PIPELINES)
    assert {path.name for path in COMPILED_DIR.iterdir()} == set(GOLDEN)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_files__hold_nothing_that_kubeflow_does_not_know(name: str) -> None:
    specification, platform = read_documents(GOLDEN_TEXTS[name])
    json_format.ParseDict(specification, pipeline_proto.PipelineSpec())
    json_format.ParseDict(platform, pipeline_proto.PlatformSpec())
    for executor in specification["deploymentSpec"]["executors"].values():
        json_format.ParseDict(executor, pipeline_proto.PipelineDeploymentConfig.ExecutorSpec())
    for settings in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
        json_format.ParseDict(settings, kubernetes_proto.KubernetesExecutorConfig())


@pytest.mark.parametrize("task", GOLDEN_TASKS)
def test_commands__parse_and_are_given_their_own_sections_alone(task: CompiledTask) -> None:
    program, command, *arguments = task.arguments
    assert program == "tumor-cascade"
    with click.Context(main, info_name=program) as parent:
        values = main.commands[command].make_context(command, arguments, parent=parent).params
    assert values["executor_input"] == "{}"
    if command in SECTIONS:
        sections = json.loads(values["params_json"])
        assert set(sections) == set(SECTIONS[command])
        for section in sections:
            parse_section(sections, section, task.name)


@pytest.mark.parametrize("task", GOLDEN_TASKS)
def test_tasks__have_all_that_a_cluster_asks_for(task: CompiledTask) -> None:
    resources, settings = task.executor["resources"], task.settings
    assert {"resourceCpuRequest", "resourceCpuLimit", "resourceMemoryRequest", "resourceMemoryLimit"} <= set(resources)
    assert int(settings["activeDeadlineSeconds"]) > 0
    assert "/dev/shm" in {mount["mountPath"] for mount in settings["emptyDirMounts"]}
    assert {one["envVar"] for one in settings["secretAsEnv"][0]["keyToEnv"]} == {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
    }
    assert {"MLFLOW_TRACKING_URI", "TUMOR_CASCADE_CHECKPOINT_STORE", "TUMOR_CASCADE_DATA_STORE"} <= {
        one["envVar"] for one in settings["configMapAsEnv"][0]["keyToEnv"]
    }
    assert task.task["retryPolicy"]["maxRetryCount"] >= 1
    assert task.task["retryPolicy"]["backoffDuration"] != "0s"
    has_gpu = "accelerator" in resources
    assert has_gpu == bool(settings.get("tolerations")) == (not settings.get("nodeAffinity"))


@pytest.mark.parametrize("name", GOLDEN)
def test_pipelines__have_a_time_to_live(name: str) -> None:
    _, platform = read_documents(GOLDEN_TEXTS[name])
    assert platform["platforms"]["kubernetes"]["pipelineConfig"]["resourceTtlOnCompletion"] > 0


def test_cache_keys__differ_between_tasks_and_spare_acts() -> None:
    tasks = list_tasks(GOLDEN_TEXTS["train_cascade.yaml"])
    options = {task.name: task.task["cachingOptions"] for task in tasks}
    assert options.pop("promote-cascade") == {}  # never cached
    keys = [one["cacheKey"] for one in options.values()]
    assert all(one["enableCache"] for one in options.values())
    assert len(set(keys)) == len(keys) == 15  # 3 for the data, 2 x 5 folds, assembly, evaluation


def test_train_cascade__has_the_stages_and_the_act() -> None:
    assert {task.stage for task in list_tasks(GOLDEN_TEXTS["train_cascade.yaml"])} == {*STAGES, *ACTS}


def test_cross_validate__promotes_nothing() -> None:
    assert {task.stage for task in list_tasks(GOLDEN_TEXTS["cross_validate.yaml"])} == set(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_parity__four_doors_give_a_stage_the_same_flags_and_params(stage: str) -> None:
    definition = read_definition()["stages"][stage]
    entry_point = YAML(typ="safe", pure=True).load(ROOT / "MLproject")["entry_points"][stage]
    dvc = list_flags(shlex.split(definition["cmd"]))
    mlflow = [flag for flag in list_flags(shlex.split(entry_point["command"])) if flag != "--set"]
    options = {name for option in main.commands[stage].params for name in option.opts}
    tasks = [task for task in list_tasks(GOLDEN_TEXTS["train_cascade.yaml"]) if task.stage == stage]
    assert tasks
    for task in tasks:
        kubeflow = list(dict.fromkeys(list_flags(task.arguments)))  # several networks, one flag each
        assert [flag for flag in kubeflow if flag not in POD_FLAGS] == dvc == mlflow
        assert set(kubeflow) <= options
        assert list(json.loads(task.arguments[task.arguments.index("--params-json") + 1])) == definition["params"]


def test_parity__folds_are_those_of_dvc_s_matrix(tmp_path: Path) -> None:
    plan = make_plan()
    today = build_plan(plan.image, ROOT / "params.yaml", (), plan.data, plan.placement)
    compile_pipeline("train_cascade", today, tmp_path / "today.yaml")
    trainings = [
        (task.stage, task.arguments[task.arguments.index("--fold") + 1])
        for task in list_tasks((tmp_path / "today.yaml").read_text(encoding="utf-8"))
        if task.stage.startswith("train_")
    ]
    of_dvc = [(stage.name, stage.arguments[3]) for stage in read_pipeline() if stage.name.startswith("train_")]
    assert sorted(trainings) == sorted(of_dvc)


def test_components__one_module_per_command_that_holds_the_component_of_its_name() -> None:
    modules = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "components").glob("*.py")}
    commands = {*STAGES, *ACTS, "predict"}
    assert set(modules) == {"__init__", "container", *commands}
    assert not [command for command in commands if f"def {command}(" not in modules[command]]


def list_imports(path: Path) -> set[str]:
    nodes: list[Any] = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    return names | {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}


@pytest.mark.parametrize("path", sorted((ROOT / "components").glob("*.py")), ids=lambda path: path.name)
def test_components__import_nothing_but_kfp(path: Path) -> None:
    allowed = {"kfp", "components.container", "collections.abc", "inspect", "typing"}
    assert list_imports(path) <= allowed


def test_compile__does_without_torch_and_mlflow() -> None:
    code = "import sys; from pipelines.golden import render; render('train_cascade', 'honest'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "mlflow", "monai", "pandas"} & set(done.stdout.split())
