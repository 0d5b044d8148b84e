"""The files of a registered version: the packed cascade as it is, golden answers, a manifest of hashes, MLflow's shell.

Nothing in it tells of the machine or the hour, so the same content packed twice has the same bytes.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from mlflow.models.model import Model
from mlflow.pyfunc import save_model

from tumor_cascade import __version__
from tumor_cascade.network_folder import CONFIG_NAME
from tumor_cascade.product import read_artifact_json
from tumor_cascade.registry.entries import PolicyRef
from tumor_cascade.registry.golden import write_golden
from tumor_cascade.registry.served_model import build_input_example, build_signature
from tumor_cascade.registry.versions import hash_files
from tumor_cascade.storage import CONTENT_NAME, hash_file, write_json

# What MLflow runs to load a version.
SHIM_NAME = "shim.py"
SHIM = '''"""Loads this version with the installed package `tumor_cascade`."""

from mlflow.models import set_model

from tumor_cascade.registry.served_model import ServedModel

set_model(ServedModel())
'''
MADE_AT = "1970-01-01 00:00:00"


def pack_version(out: Path, cascade: Path, components: dict[str, dict[str, Any]], policy: PolicyRef) -> None:
    """Write the files of a version.

    Args:
        out: Folder to make.
        cascade: Packed product.
        components: Network, e.g. `classifiers/fold-0` -> registered model, version and content_id.
        policy: Under which it is registered.
    """
    content = read_artifact_json(cascade / CONTENT_NAME)
    with tempfile.TemporaryDirectory() as work:
        parts = {name: Path(work, name) for name in ("cascade", "golden")}
        shutil.copytree(cascade, parts["cascade"])
        write_golden(parts["golden"], cascade)
        shim, manifest = Path(work, SHIM_NAME), Path(work, "version.json")
        shim.write_text(SHIM, encoding="utf-8")
        files = {f"artifacts/{name}/{path}": one for name in parts for path, one in hash_files(parts[name]).items()}
        write_json(
            manifest,
            {
                "content_id": content["content_id"],
                "components": components,
                "params": collect_params(cascade),
                "policy": policy.model_dump(),
                "files": {**files, SHIM_NAME: hash_file(shim)},
            },
        )
        save_model(
            out,
            python_model=str(shim),
            artifacts={"cascade": str(parts["cascade"]), "golden": str(parts["golden"]), "version": str(manifest)},
            pip_requirements=[f"tumor-cascade=={__version__}"],
            signature=build_signature(),
            input_example=build_input_example(),
        )
    forget_machine(out / "MLmodel", content["content_id"])


def collect_params(cascade: Path) -> dict[str, Any]:
    """Return the effective params of every part: `assemble_cascade`, and each network's under its name."""
    networks = [path.parent for path in sorted(cascade.glob(f"*/*/{CONFIG_NAME}"))]
    params = {f"{path.parent.name}/{path.name}": read_artifact_json(path / CONTENT_NAME)["params"] for path in networks}
    return {**read_artifact_json(cascade / CONTENT_NAME)["params"], **params}


def forget_machine(path: Path, content_id: str) -> None:
    """Take paths, the hour and a random id out of an MLmodel file; MLflow loads a model without them."""
    model = Model.load(str(path)).to_dict()
    flavor = model["flavors"]["python_function"]
    flavor["model_code_path"] = SHIM_NAME
    flavor["artifacts"] = {name: {"path": one["path"], "uri": one["path"]} for name, one in flavor["artifacts"].items()}
    model |= {"utc_time_created": MADE_AT, "model_uuid": content_id[:32]}
    Model.from_dict(model).save(str(path))
