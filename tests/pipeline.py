"""dvc.yaml as the tests read it: with DVC's own resolver of matrices and variables."""

import functools
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.repo import Repo
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class PipelineStage:
    """A resolved stage: `name` without the suffix of its matrix, paths relative to the repository."""

    name: str
    arguments: list[str]
    deps: list[str]
    outs: list[str]


@functools.cache
def read_pipeline() -> list[PipelineStage]:
    """Return the stages of dvc.yaml, a matrix stage once per fold, params.yaml as it stands."""
    with Repo(str(ROOT)) as repo:
        return [
            PipelineStage(
                name=stage.name.split("@")[0],
                arguments=shlex.split(stage.cmd),
                deps=[dep.def_path for dep in stage.deps if not dep.def_path.startswith("params.yaml")],
                outs=[out.def_path for out in stage.outs],
            )
            for stage in repo.index.stages
        ]


def read_definition() -> dict[str, Any]:
    """Return dvc.yaml unresolved."""
    definition: dict[str, Any] = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")
    return definition
