"""`tumor-cascade reproduce`: the commands that make a product again, and running them."""

import io
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

from tumor_cascade.content import PACKAGE_DIR, find_lock
from tumor_cascade.errors import DataError
from tumor_cascade.registry.client import TrackingError, connect
from tumor_cascade.registry.executions import find_execution
from tumor_cascade.registry.origin import Product
from tumor_cascade.registry.outputs import read_json, read_outputs
from tumor_cascade.registry.recipe import Recipe
from tumor_cascade.registry.runs import PARENT_TAG, find_run
from tumor_cascade.storage import CONTENT_NAME, hash_file, hash_path

REPOSITORY = PACKAGE_DIR.parents[1]
SHORT = 8


@dataclass(frozen=True)
class Origin:
    """What it takes to make a product again.

    Attributes:
        content_id: Of the cascade.
        recipe: Params of all stages, and hashes of code, lock and data.
        commit: Of the code.
        is_dirty: Whether uncommitted changes took part.
    """

    content_id: str
    recipe: Recipe
    commit: str
    is_dirty: bool

    @property
    def folder(self) -> Path:
        """Where the commands work, relative to the repository."""
        return Path("build", "reproduce", self.content_id[:SHORT])

    @property
    def needs_environment(self) -> bool:
        """Say whether other packages are needed than those of this checkout."""
        return self.recipe.lock != hash_file(find_lock())

    def render_params(self) -> str:
        """Return the params file."""
        stream = io.StringIO()
        yaml = YAML(pure=True)
        yaml.width = 120
        yaml.dump(json.loads(json.dumps(self.recipe.params)), stream)
        return stream.getvalue()


def find_origin(product: Product, artifacts: Path) -> Origin:
    """Return what a product was made from: by this machine's records, the tracking server, or the pipeline's outputs.

    Raises:
        DataError: None of them knows the commit and the params, or what they say has another form.
    """
    content_id = read_json(product.cascade / CONTENT_NAME)["content_id"]
    require_hex(product, "content_id", content_id, 64)
    recipe, commit, is_dirty = None, None, None
    execution = find_execution("assemble_cascade", content_id)
    if execution is not None:
        recipe, commit, is_dirty = execution.recipe, execution.commit, execution.is_dirty
    if recipe is None or commit is None:
        found = _ask_server(content_id)
        recipe, commit, is_dirty = recipe or found[0], commit or found[1], found[2] if commit is None else is_dirty
    if recipe is None and artifacts.is_dir():
        recipe = Recipe.of_contents(output.content for output in read_outputs(artifacts))
    missing = [name for name, value in (("params", recipe), ("commit", commit)) if value is None]
    if recipe is None or commit is None:
        raise DataError(
            f"{product.name}: nobody here knows its {' and '.join(missing)}; set MLFLOW_TRACKING_URI to the server "
            "that tracked it, or work where it was made."
        )
    require_hex(product, "commit", commit, 40)
    return Origin(content_id, recipe, commit, bool(is_dirty))


def require_hex(product: Product, name: str, value: object, num_digits: int) -> None:
    """Refuse a name that is no hash: it becomes a word of shell commands, and anybody may have written it.

    Raises:
        DataError: Showing it.
    """
    if not re.fullmatch(rf"[0-9a-f]{{{num_digits}}}", str(value)):
        raise DataError(
            f"{product.name}: its {name} is {str(value)!r}; must be {num_digits} hexadecimal digits. It was edited; "
            "set it right where it is recorded, or reproduce a product that is not."
        )


def _ask_server(content_id: str) -> tuple[Recipe | None, str | None, bool | None]:
    try:
        client = connect()
        run = find_run(client, content_id)
        if run is None:
            return None, None, None
        tags, recipe = run.data.tags, None
        if PARENT_TAG in tags:
            with tempfile.TemporaryDirectory() as folder:
                path = client.download_artifacts(tags[PARENT_TAG], "recipe.json", folder)
                recipe = Recipe(**read_json(Path(path)))
    except TrackingError:
        return None, None, None
    return recipe, tags.get("commit"), tags.get("dirty") == "true"


def list_commands(origin: Origin, wanted: str) -> list[str]:
    """Return shell commands, to be run at the top of a clone."""
    folder = shlex.quote(str(origin.folder))
    lines = [
        f"git worktree add --detach {folder} {origin.commit}",
        f"tumor-cascade reproduce {shlex.quote(wanted)} --params > {folder}/params.yaml",
    ]
    if origin.recipe.params["ingest_data"]["source"] == "phantom":
        lines.append(f"mkdir -p {folder}/data/raw")
    else:
        lines.append(f'mkdir -p {folder}/data && ln -s "$(realpath data/raw)" {folder}/data/raw')
    lines.append(f"cd {folder}")
    lines += ['make setup && export PATH="$PWD/.venv/bin:$PATH"'] if origin.needs_environment else []
    lines += [
        'export PYTHONPATH="$PWD/src"',
        "dvc repro evaluate_cascade",
        f"grep {origin.content_id} artifacts/assemble_cascade/cascade/{CONTENT_NAME}",
    ]
    return lines


def run_commands(origin: Origin, product: Product) -> bool:
    """Run the commands, output to the terminal; return whether the remade cascade has the same bytes.

    Raises:
        DataError: The work tree exists already, a command fails, or the remade cascade is made of something else.
    """
    folder = REPOSITORY / origin.folder
    if folder.exists():
        raise DataError(f"{folder} exists; remove it: git worktree remove --force {folder}")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as params:
        params.write(origin.render_params())
        params.flush()
        make, _, *others = list_commands(origin, "")
        script = "\n".join(["set -euxo pipefail", make, f"cp {params.name} {origin.folder}/params.yaml", *others])
        done = subprocess.run(["bash", "-c", script], cwd=REPOSITORY, env=environment, check=False)
    if done.returncode:
        raise DataError(f"{product.name} was not remade: a command ended with {done.returncode}; see above.")
    return hash_path(folder / "artifacts/assemble_cascade/cascade") == hash_path(product.cascade)
