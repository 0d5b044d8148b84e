"""`tumor-cascade explain`: the chain from a product to its data, every hash that can be reached computed again."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tumor_cascade.content import find_lock, hash_code, hash_content
from tumor_cascade.data.manifest import read_manifest
from tumor_cascade.data.volumes import read_volume
from tumor_cascade.errors import DataError, TumorCascadeError
from tumor_cascade.registry.executions import find_execution
from tumor_cascade.registry.origin import VERSION_NAME, Product
from tumor_cascade.registry.outputs import StageOutput, read_json, read_outputs
from tumor_cascade.registry.served_version import FETCHED_NAME, SHELL
from tumor_cascade.registry.versions import compare_files, hash_files
from tumor_cascade.storage import CONTENT_NAME, hash_file, hash_path

State = Literal["ok", "BROKEN", "other", "-"]
SHORT = 16


@dataclass(frozen=True)
class Finding:
    """One line of an explanation.

    Attributes:
        depth: How far below the product.
        state: `ok`: computed again and equal; `BROKEN`: other than recorded; `other`: true, but not of this checkout;
            `-`: a fact, or out of reach.
        text: What was looked at.
    """

    depth: int
    state: State
    text: str

    def __str__(self) -> str:
        return f"{self.state:7}{'  ' * self.depth}{self.text}"


def explain(product: Product, artifacts: Path) -> Iterator[Finding]:
    """Yield the chain from a product to its data.

    Args:
        product: What is asked about.
        artifacts: Outputs of the pipeline, as far as they are here.
    """
    yield Finding(0, "-", f"{product.name}: cascade {product.cascade}")
    if product.version_dir is not None:
        yield from _check_version(product.version_dir)
    outputs = read_outputs(artifacts) if artifacts.is_dir() else []
    content = read_json(product.cascade / CONTENT_NAME)
    yield from _explain_content(0, content)
    yield from _explain_networks(product.cascade, content)
    yield from _explain_data(content["inputs"], outputs)
    yield from _explain_evaluations(product.cascade, outputs)


def _check_version(folder: Path) -> Iterator[Finding]:
    """Compare every file of a version with its own list; files of MLflow's shell stand in the ledger alone."""
    recorded = read_json(folder / VERSION_NAME)["files"]
    found = {name: digest for name, digest in hash_files(folder).items() if name not in {*SHELL, FETCHED_NAME}}
    yield from (Finding(1, "BROKEN", fault) for fault in compare_files(found, recorded))
    yield Finding(1, "-", f"{len(recorded)} files looked up in {VERSION_NAME}")


def _explain_content(depth: int, content: dict[str, Any]) -> Iterator[Finding]:
    """Yield what a content.json says: its name, whether it is true, and who made it from which code."""
    stage, content_id = content["stage"], content["content_id"]
    yield Finding(depth, "ok" if hash_content(content) == content_id else "BROKEN", f"{stage} {content_id}")
    for name, today in (("code", hash_code(stage)), ("lock", hash_file(find_lock()))):
        is_same = content[name] == today
        text = f"{name} {content[name][:SHORT]}{'' if is_same else ', not that of this checkout'}"
        yield Finding(depth + 1, "ok" if is_same else "other", text)
    execution = find_execution(stage, content_id)
    if execution is not None:
        commit = f"{execution.commit}{' with uncommitted changes' if execution.is_dirty else ''}"
        yield Finding(depth + 1, "-", f"made at commit {commit} on {execution.host}, {execution.device}")


def _explain_networks(cascade: Path, content: dict[str, Any]) -> Iterator[Finding]:
    recorded = {name: digest for name, digest in content["inputs"].items() if "/" in name}
    held = {path.relative_to(cascade).as_posix() for path in cascade.glob("*/*") if path.is_dir()}
    for name in sorted(held - set(recorded)):
        yield Finding(1, "BROKEN", f"{name} is not what the cascade was made from")
    for name, digest in sorted(recorded.items()):
        folder = cascade / name
        if not folder.is_dir():
            yield Finding(1, "BROKEN", f"{name} is not in the cascade")
            continue
        is_equal = hash_path(folder) == digest
        yield Finding(1, "ok" if is_equal else "BROKEN", f"{name}: bytes {digest[:SHORT]}")
        network = read_json(folder / CONTENT_NAME)
        yield from _explain_content(2, network)
        for noun in ("manifest", "splits"):
            if network["inputs"].get(noun) != content["inputs"].get(noun):
                yield Finding(2, "BROKEN", f"{name} was trained on another {noun} than the cascade was calibrated on")


def _explain_data(inputs: dict[str, str], outputs: list[StageOutput]) -> Iterator[Finding]:
    """Yield what is known of splits, manifest and slices; out of reach where the pipeline's outputs are elsewhere."""
    for stage, noun in (("split_data", "splits"), ("ingest_data", "manifest")):
        digest = inputs[noun]
        output = next((one for one in outputs if one.stage == stage and hash_path(one.paths[noun]) == digest), None)
        if output is None:
            yield Finding(1, "-", f"{noun} {digest[:SHORT]}: not here; `dvc pull`, or name its folder with --artifacts")
            continue
        yield Finding(1, "ok", f"{noun}: bytes {digest[:SHORT]}, {output.paths[noun]}")
        yield from _explain_content(2, output.content)
        if noun == "manifest":
            yield _check_slices(output)


def _check_slices(output: StageOutput) -> Finding:
    rows = read_manifest(output.paths["manifest"])
    try:
        for _, patient in rows.groupby("patient_id"):
            read_volume(output.paths["slices"], patient)
    except (KeyError, DataError) as error:
        return Finding(2, "BROKEN", f"slices: {error}")
    source = output.content["params"]["source"]
    return Finding(
        2, "ok", f"slices: {len(rows)} of {rows['patient_id'].nunique()} patients, pixels as hashed; {source}"
    )


def _explain_evaluations(cascade: Path, outputs: list[StageOutput]) -> Iterator[Finding]:
    digest = hash_path(cascade)
    found = [one for one in outputs if one.content["inputs"].get("cascade") == digest]
    for output in found:
        yield Finding(1, "ok", f"evaluated: {output.paths['report']}")
        yield from _explain_content(2, output.content)
    if not found:
        yield Finding(1, "-", f"cascade bytes {digest[:SHORT]}: no evaluation of it here")


class BrokenChainError(TumorCascadeError):
    """A product that is not what it says it is."""

    exit_code = 3
