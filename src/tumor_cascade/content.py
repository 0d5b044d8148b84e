"""`content_id`: one name for what a stage's output is made of, the same at a desk and in a pod.

SHA-256 over the stage's name, its effective params, the digests of its inputs, the first-party code that it imports and
the lock file. Commit, device, host, time and run ids are no part of it: the same content gives the same id anywhere.
"""

import ast
import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tumor_cascade.storage import canonical_json, hash_file, hash_path

PACKAGE = "tumor_cascade"
PACKAGE_DIR = Path(__file__).resolve().parent
LOCK_NAME = "requirements.lock"
EQUIVALENT_NAME = "equivalent_code.json"
KEYS = ("stage", "params", "inputs", "code", "lock")
# Left out of the code hash and of the stages' DVC deps: command line, error texts, schema (its values are hashed) and
# ways of keeping files. None of them can change what a stage computes.
GLUE = (
    *("__init__.py", "checkpoint_store.py", "cli.py", "commands.py", "content.py", "errors.py", "object_store.py"),
    *("params.py", "settings.py", "storage.py"),
)


def find_module(name: str) -> Path | None:
    """Return the source file of first-party module `name` (dotted), or None if there is none."""
    base = PACKAGE_DIR.joinpath(*name.split(".")[1:])
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if name.split(".")[0] == PACKAGE and path.is_file():
            return path
    return None


@functools.cache
def find_imports(path: Path) -> frozenset[str]:
    """Return the dotted names of first-party modules that a source file imports, at any depth of nesting."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.update([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])
    return frozenset(name for name in names if find_module(name))


def find_code(module: str) -> list[Path]:
    """Return the sorted files that a first-party module needs, glue apart: itself, all it imports, their templates.

    A template is named after its module: `report.html.j2` of `report.py`.
    """
    todo, seen = [module], set[str]()
    while todo:
        name = todo.pop()
        path = find_module(name)
        if path is None or name in seen:
            continue
        seen.add(name)
        todo.extend(find_imports(path))
    found = {path for name in seen if (path := find_module(name))}
    found |= {template for path in found for template in path.parent.glob(f"{path.stem}.*.j2")}
    return sorted(
        path for path in found if path.name != "__init__.py" and path.relative_to(PACKAGE_DIR).as_posix() not in GLUE
    )


def find_lock() -> Path:
    """Return the lock file: beside the installed package in an image, at the repository's root in a checkout."""
    candidates = (PACKAGE_DIR / LOCK_NAME, PACKAGE_DIR.parents[1] / LOCK_NAME)
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise FileNotFoundError(f"{LOCK_NAME} stands in neither of {', '.join(map(str, candidates))}; reinstall.")
    return found


def hash_code(name: str) -> str:
    """Return the SHA-256 over names and bytes of the first-party files that a stage, or a dotted module, needs."""
    files = find_code(name if "." in name else f"{PACKAGE}.stages.{name}")
    code = [(path.relative_to(PACKAGE_DIR).as_posix(), hash_source(path)) for path in files]
    return hashlib.sha256(canonical_json(code)).hexdigest()


def hash_source(path: Path) -> str:
    """Return the SHA-256 of a source file, or of the earlier version that it is declared to be equivalent to.

    `equivalent_code.json` names versions by their hashes, so a declaration ends with the file's next edit. Each says
    why results of the earlier version stand, and which test proves it.
    """
    made_from = {(one["file"], one["sha256"]): str(one["earlier_sha256"]) for one in read_equivalents()}
    digest = hash_file(path)
    return made_from.get((path.relative_to(PACKAGE_DIR).as_posix(), digest), digest)


@functools.cache
def read_equivalents() -> tuple[dict[str, str], ...]:
    """Return the declarations: `file` (in the package), `sha256`, `earlier_sha256`, `why`, `proof` (a test)."""
    return tuple(json.loads((PACKAGE_DIR / EQUIVALENT_NAME).read_text(encoding="utf-8")))


def hash_making(stage: str) -> str:
    """Return the SHA-256 over all that makes a stage's result besides params and inputs: its code and the lock."""
    return hashlib.sha256(canonical_json({"code": hash_code(stage), "lock": hash_file(find_lock())})).hexdigest()


def describe_content(stage: str, params: Mapping[str, Any], inputs: Mapping[str, Path]) -> dict[str, Any]:
    """Return what a run of `stage` is made of, with its `content_id`: the content.json of its outputs.

    Args:
        stage: One of the stage names; also the module under `stages/`.
        params: The effective params, JSON-compatible (sections and flags that change the result).
        inputs: Artifact noun -> file or folder that the stage reads.
    """
    content: dict[str, Any] = {
        "stage": stage,
        "params": dict(params),
        "inputs": {noun: hash_path(path) for noun, path in inputs.items()},
        "code": hash_code(stage),
        "lock": hash_file(find_lock()),
    }
    return {**content, "content_id": hash_content(content)}


def hash_content(content: Mapping[str, Any]) -> str:
    """Return the `content_id` of what a content.json says; where it also says one, whether that is true."""
    return hashlib.sha256(canonical_json({key: content.get(key) for key in KEYS})).hexdigest()
