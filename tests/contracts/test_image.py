"""The container image holds what the code needs and little else."""

import ast
import re
import sys
from importlib.metadata import packages_distributions

from tumor_cascade.content import PACKAGE_DIR
from workplaces import ROOT


def read_lock(name: str) -> set[str]:
    return {line for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if not line.startswith("#")}


def normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def list_imports() -> set[str]:
    """Return the top-level names that the package imports."""
    nodes = [node for path in PACKAGE_DIR.rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.split(".")[0] for name in names}


def test_runtime_lock__is_part_of_the_whole() -> None:
    assert read_lock("requirements-runtime.lock") < read_lock("requirements.lock")


def test_runtime_lock__all_that_the_code_imports() -> None:
    pinned = {line.split("==")[0] for line in read_lock("requirements-runtime.lock")}
    owners = packages_distributions()
    third_party = list_imports() - sys.stdlib_module_names - {"tumor_cascade"}
    assert {"torch", "mlflow", "boto3", "great_expectations"} < third_party
    missing = [name for name in third_party if not {normalize(one) for one in owners[name]} & pinned]
    assert not missing, f"make lock, or no package of the image needs {missing}"


def test_runtime_lock__neither_dvc_nor_kubeflow_nor_tools() -> None:
    pinned = {line.split("==")[0] for line in read_lock("requirements-runtime.lock")}
    assert not pinned & set("dvc diskcache kfp kubernetes playwright pytest ruff mypy uv pyspark".split())
