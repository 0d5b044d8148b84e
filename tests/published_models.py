"""Manifests against the models that Kubeflow and KServe publish: what these do not know, or know otherwise, is a fault.

The packages are installed apart, without what they depend on: beside this project's own versions some would not fit,
and of the models alone nothing is needed but what is here.
"""

import importlib
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from needs import miss

TRAINER, KSERVE = "kubeflow-trainer-api==2.3.0", "kserve==0.21.0"
PLAIN_TYPES: dict[str, type | tuple[type, ...]] = {"str": str, "int": int, "bool": bool, "float": (int, float)}
CONTAINED = re.compile(r"(list|dict)[\[(](?:str, )?(.+)[\])]")


def install_apart(folder: Path, requirement: str) -> Path:
    """Install a package without its dependencies; where no index has it, the test is missed."""
    uv = Path(sys.executable).with_name("uv")
    command = [
        uv,
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--python",
        sys.executable,
        "--target",
        folder,
        requirement,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        miss(f"{requirement} cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    return folder


def find_kserve_faults(package: Path, manifest: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what KServe's models have against an InferenceService."""
    shell = types.ModuleType("kserve")  # its own imports all of a model server
    shell.__path__ = [str(package / "kserve")]
    monkeypatch.setitem(sys.modules, "kserve", shell)
    models = importlib.import_module("kserve.models")
    return list_faults("V1beta1InferenceService", manifest, "", models)


def list_faults(kind: str, value: Any, place: str, models: types.ModuleType) -> list[str]:
    """Return the faults of a value, found through all that it holds.

    Args:
        kind: As generated models name types: `str`, `list[V1Container]`, `dict(str, str)`, `V1Pod`.
        value: Of JSON.
        place: Where it stands.
        models: Where kinds are; those that are not are Kubernetes' own.
    """
    if kind == "object" or kind in ("IntOrString", "ResourceQuantity"):
        return []
    if kind in PLAIN_TYPES:
        is_right = isinstance(value, PLAIN_TYPES[kind]) and (kind == "bool" or not isinstance(value, bool))
        return [] if is_right else [f"{place} is {value!r}; must be {kind}"]
    if match := CONTAINED.fullmatch(kind):
        container, inner = match.groups()
        if not isinstance(value, list if container == "list" else dict):
            return [f"{place} is no {container}"]
        items = enumerate(value) if container == "list" else value.items()
        return [fault for name, one in items for fault in list_faults(inner, one, f"{place}/{name}", models)]
    from kubernetes.client import models as kubernetes_models

    model = getattr(models, kind, None) or getattr(kubernetes_models, kind)
    names = {json_name: name for name, json_name in model.attribute_map.items()}
    faults = [f"{place}/{name} is unknown to {kind}" for name in value if name not in names]
    known = {name: one for name, one in value.items() if name in names}
    if not faults:
        try:
            model(**{names[name]: one for name, one in known.items()})
        except ValueError as error:
            faults.append(f"{place}: {error}")
    for name, one in known.items():
        faults += list_faults(model.openapi_types[names[name]], one, f"{place}/{name}", models)
    return faults


def find_trainer_faults(manifests: list[dict[str, Any]]) -> list[str]:
    """Return what the models of Kubeflow Trainer have against a runtime and a job; the package is on the path."""
    models = importlib.import_module("kubeflow_trainer_api.models")
    faults = []
    for manifest in manifests:
        model = getattr(models, f"TrainerV1alpha1{manifest['kind']}")
        kept = model.from_dict(manifest).to_dict()  # what a model does not know, it drops
        faults += list_lost(manifest, kept, manifest["kind"])
    return faults


def list_lost(value: Any, kept: Any, place: str) -> list[str]:
    """Return what is in a value and not, or otherwise, in what a model has kept of it."""
    if isinstance(value, dict) and isinstance(kept, dict):
        return [fault for name, one in value.items() for fault in list_lost(one, kept.get(name), f"{place}/{name}")]
    if isinstance(value, list) and isinstance(kept, list) and len(value) == len(kept):
        pairs = enumerate(zip(value, kept, strict=True))
        return [fault for number, pair in pairs for fault in list_lost(*pair, f"{place}/{number}")]
    return [] if value == kept else [f"{place} is {value!r}; was understood as {kept!r}"]
