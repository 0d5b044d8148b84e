"""Compiled pipelines as the tests read them: tasks with the command that their container runs."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipelines.golden import REFERENCE
from pipelines.placement import Placement, read_placement
from pipelines.plan import Plan, RawData
from tumor_cascade.configuration import build_preset

IMAGE = f"registry.example.org/tumor-cascade@sha256:{'0' * 64}"
PARAMETER = re.compile(r"\{\{\$\.inputs\.parameters\['(\w+)'\]\}\}")
ARTIFACT = re.compile(r"\{\{\$\.(inputs|outputs)\.artifacts\['(\w+)'\]\.path\}\}")
EXECUTOR_INPUT = "{{$}}"


@dataclass(frozen=True)
class CompiledTask:
    """A task: name in the pipeline, command with values filled in, specification, container, Kubernetes settings."""

    name: str
    arguments: list[str]
    task: dict[str, Any]
    executor: dict[str, Any]
    settings: dict[str, Any]

    @property
    def stage(self) -> str:
        """The sub-command that it runs."""
        return self.arguments[1]


def make_plan(preset: str = "smoke", placement: Placement | None = None, **replaced: Any) -> Plan:
    """Return a plan of a preset; `replaced` are values by dotted key with `__` for the dot."""
    values = build_preset(preset, [f"{key.replace('__', '.')}={value}" for key, value in replaced.items()])
    return Plan(IMAGE, values, RawData(reference=REFERENCE.model_dump_json()), placement or read_placement())


def read_documents(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return specification and platform of a compiled pipeline."""
    specification, platform = yaml.safe_load_all(text)
    return specification, platform


def list_tasks(text: str) -> list[CompiledTask]:
    """Return the tasks of a compiled pipeline by name."""
    specification, platform = read_documents(text)
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    inputs = specification["root"].get("inputDefinitions", {}).get("parameters", {})
    tasks = []
    for name, task in sorted(specification["root"]["dag"]["tasks"].items()):
        label = specification["components"][task["componentRef"]["name"]]["executorLabel"]
        container = specification["deploymentSpec"]["executors"][label]["container"]
        values = {key: read_value(one, inputs) for key, one in task["inputs"].get("parameters", {}).items()}
        arguments = [fill(part, values) for part in (*container["command"], *container["args"])]
        tasks.append(CompiledTask(name, arguments, task, container, executors[label]))
    return tasks


def read_value(source: dict[str, Any], inputs: dict[str, Any]) -> str:
    """Return the constant of a task's parameter, or s3:// in the place of what is said when the pipeline runs."""
    if "runtimeValue" in source:
        constant = source["runtimeValue"]["constant"]
        return f"{constant:g}" if isinstance(constant, float) else str(constant)
    return str(inputs[source["componentInputParameter"]].get("defaultValue", "s3://bucket/prefix"))


def fill(part: str, values: dict[str, str]) -> str:
    """Return an argument as a container gets it."""
    if match := PARAMETER.fullmatch(part):
        return values[match[1]]
    if match := ARTIFACT.fullmatch(part):
        return str(Path("/artifacts", match[1], match[2]))
    return "{}" if part == EXECUTOR_INPUT else part
