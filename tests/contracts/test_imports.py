import ast
from pathlib import Path

import pytest

from tumor_cascade.content import PACKAGE_DIR, find_imports

# A module imports from layers before its own, and from its own package. One line per layer.
LAYERS = (
    {"errors"},
    {"out_folder", "params", "settings", "side_by_side", "storage"},
    {"configuration", "content", "object_store", "overlay"},
    {"checkpoint_store", "data_reference", "remote"},
    {"data_plane"},
    {"data"},
    {"models"},
    {"network_folder"},
    {"product"},
    {"evaluation", "serving", "training"},
    {"registry"},
    {"stages"},
    {"labelled_folder", "pod_options"},
    {"data_flags", "executor_output", "external_evaluation", "prediction", "results"},
    {"stored_prediction"},
    {"commands", "whole_pipeline"},
    {"data_commands", "promotion_commands", "registry_commands", "results_commands"},
    {"cli"},
)
# Networks, scoring and losses: plain arguments in, tensors out.
PURE_IMPORTS = set(
    "collections dataclasses efficientnet_lite_pytorch functools itertools math monai numpy scipy torch typing".split()
)
PURE_FIRST_PARTY = ("tumor_cascade.models", "tumor_cascade.data.preprocessing", "tumor_cascade.training.losses")
ORCHESTRATION = ("dvc", "kfp", "components", "pipelines")
OWNERS = {"great_expectations": "data/expectations.py", "mlflow": "registry/", **dict.fromkeys(ORCHESTRATION, "")}

MODULES = sorted(PACKAGE_DIR.rglob("*.py"))


def name_module(path: Path) -> str:
    return path.relative_to(PACKAGE_DIR).as_posix()


def list_libraries(path: Path) -> set[str]:
    """Return the dotted names that a source file imports, first-party ones included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_module(path)}: relative import; write the whole name"
            names.add(str(node.module))
    return names


def find_layer(part: str) -> int:
    found = [number for number, layer in enumerate(LAYERS) if part in layer]
    assert found, f"{part} stands in no layer; add it to LAYERS where it belongs"
    return found[0]


@pytest.mark.parametrize("path", MODULES, ids=name_module)
def test_imports__follow_the_layers(path: Path) -> None:
    if path == PACKAGE_DIR / "__init__.py":
        return
    own = path.relative_to(PACKAGE_DIR).with_suffix("").parts[0]
    for name in find_imports(path):
        part = [*name.split("."), ""][1]
        if part not in ("", own):
            assert find_layer(part) < find_layer(own), f"{name_module(path)} imports {name}: against the direction"


@pytest.mark.parametrize("library", OWNERS)
def test_imports__one_owner_per_library(library: str) -> None:
    users = [name_module(path) for path in MODULES if library in {name.split(".")[0] for name in list_libraries(path)}]
    owner = OWNERS[library]
    assert not [user for user in users if not owner or not user.startswith(owner)], f"belongs to {owner or 'no module'}"


def test_imports__boto3_behind_one_module() -> None:
    users = [name_module(path) for path in MODULES if list_libraries(path) & {"boto3", "botocore"}]
    assert len(users) <= 1


@pytest.mark.parametrize(
    "path", [*sorted((PACKAGE_DIR / "models").glob("*.py")), PACKAGE_DIR / "training" / "losses.py"], ids=name_module
)
def test_imports__networks_and_losses_do_no_io(path: Path) -> None:
    names = list_libraries(path)
    first_party = {name for name in names if name.split(".")[0] == "tumor_cascade"}
    assert {name.split(".")[0] for name in names - first_party} <= PURE_IMPORTS
    assert all(name.startswith(PURE_FIRST_PARTY) for name in first_party), first_party
