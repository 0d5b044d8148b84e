"""All pipelines by name, and how one is compiled."""

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.batch_predict import build_batch_predict
from pipelines.cross_validate import build_cross_validate
from pipelines.overview import describe_package
from pipelines.plan import Plan
from pipelines.train_cascade import build_train_cascade
from tumor_cascade.storage import atomic_file

PIPELINES: dict[str, Callable[[Plan], Any]] = {
    "train_cascade": build_train_cascade,
    "cross_validate": build_cross_validate,
    "batch_predict": build_batch_predict,
}
INGESTING = ("train_cascade", "cross_validate")


def build_pipeline(name: str, plan: Plan) -> Any:
    """Return a pipeline as kfp has it, to be compiled or run on this machine; arguments and errors of its builder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=FutureWarning)
        return PIPELINES[name](plan)


def compile_pipeline(name: str, plan: Plan, out: Path) -> None:
    """Write a pipeline as YAML that a cluster takes: an overview, its specification, its Kubernetes settings."""
    from kfp.compiler import Compiler

    pipeline = build_pipeline(name, plan)
    with tempfile.TemporaryDirectory() as work, atomic_file(out) as temporary:
        package = Path(work, "pipeline.yaml")
        Compiler().compile(pipeline, str(package))
        text = package.read_text(encoding="utf-8")
        temporary.write_text(f"{describe_package(text)}#\n{text}", encoding="utf-8")
