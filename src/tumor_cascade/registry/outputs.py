"""What the stages of one pipeline have left in files, for trackers and for who asks where a product comes from."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tumor_cascade.errors import DataError
from tumor_cascade.params import STAGES
from tumor_cascade.registry.executions import Execution, find_execution
from tumor_cascade.storage import CONTENT_NAME, hash_path

# The output that holds a stage's content.json; files among the outputs, which are named with a suffix.
CONTENT_NOUNS = {
    "ingest_data": "slices",
    "validate_data": "report",
    "split_data": "splits",
    "train_classifier": "classifier",
    "train_segmenter": "segmenter",
    "assemble_cascade": "cascade",
    "evaluate_cascade": "report",
}
SUFFIXES = {"manifest": ".parquet", "metrics": ".json"}
# Where `protocol` and `is_leaky` stand. The modules that write these files would bring torch along.
PROTOCOL_FILES = {
    "splits": "splits.json",
    "classifier": "config.json",
    "segmenter": "config.json",
    "cascade": "cascade.json",
}


@dataclass(frozen=True)
class StageOutput:
    """What one execution of a stage has written.

    Attributes:
        content: Its content.json.
        paths: Artifact noun -> path of what it wrote, `report`, `metrics` and so on; not all of them need exist.
        manifest: The pipeline's manifest, where it can be reached.
        execution: Who made it, when and where; None where no record is left.
    """

    content: dict[str, Any]
    paths: dict[str, Path]
    manifest: Path | None
    execution: Execution | None

    @property
    def stage(self) -> str:
        """Name of the stage."""
        return str(self.content["stage"])

    @property
    def content_id(self) -> str:
        """Name of the content."""
        return str(self.content["content_id"])

    @property
    def fold(self) -> int | None:
        """Validation fold of a training."""
        fold = self.content["params"].get("fold")
        return None if fold is None else int(fold)

    @property
    def label(self) -> str:
        """Stage, and fold where it has one."""
        return self.stage if self.fold is None else f"{self.stage}/fold-{self.fold}"

    def read_protocol(self) -> dict[str, Any]:
        """Return `protocol` and `is_leaky`, where the stage knows them: from the split on."""
        files = [self.paths[noun] / name for noun, name in PROTOCOL_FILES.items() if noun in self.paths]
        facts = next((read_json(path) for path in files if path.is_file()), self.content)
        return {key: facts[key] for key in ("protocol", "is_leaky") if key in facts}


def read_outputs(artifacts: Path) -> list[StageOutput]:
    """Return the outputs of all stages in a folder laid out as `dvc repro` does, those that there are, in order."""
    return [output for stage in STAGES for output in _read_stage(artifacts, stage)]


def _read_stage(artifacts: Path, stage: str) -> Iterator[StageOutput]:
    noun = CONTENT_NOUNS[stage]
    folders = sorted(
        (artifacts / stage).glob(
            f"fold-*/{noun}/{CONTENT_NAME}" if stage.startswith("train_") else f"{noun}/{CONTENT_NAME}"
        )
    )
    for path in folders:
        folder = path.parent.parent
        paths = {child.name.removesuffix(SUFFIXES.get(child.stem, "")): child for child in folder.iterdir()}
        content = read_json(path)
        manifest = artifacts / "ingest_data" / "manifest.parquet"
        execution = find_execution(stage, content["content_id"])
        yield StageOutput(content, paths, manifest if manifest.is_file() else None, execution)


def read_executed(execution: Execution) -> StageOutput:
    """Return what a finished execution has written, wherever that stands.

    Raises:
        DataError: It is gone.
    """
    paths = {name.removeprefix("out_"): Path(path) for name, path in execution.paths.items() if name.startswith("out_")}
    manifest = execution.paths.get("manifest") or execution.paths.get("out_manifest")
    content = read_json(paths[CONTENT_NOUNS[execution.stage]] / CONTENT_NAME)
    return StageOutput(content, paths, None if manifest is None else Path(manifest), execution)


def read_lineage(execution: Execution) -> list[dict[str, Any]]:
    """Return the content.json of everything that an evaluation stems from, itself included, as its inputs hold it.

    A pod has no other stage's folder, but a cascade holds its networks, and each input its own content.json.
    """
    inputs = {name: Path(path) for name, path in execution.paths.items() if not name.startswith("out_")}
    folders = [inputs[noun] for noun in ("slices", "splits", "cascade") if noun in inputs]
    folders += sorted(path for path in inputs.get("cascade", Path("/nowhere")).glob("*/*") if path.is_dir())
    folders.append(Path(execution.paths.get("out_report", "/nowhere")))
    return [read_json(path / CONTENT_NAME) for path in folders if (path / CONTENT_NAME).is_file()]


def select_current(outputs: list[StageOutput]) -> list[StageOutput]:
    """Return the outputs that fit together: what stems from inputs that have been made anew since is left out.

    Args:
        outputs: In the order of the stages, as `read_outputs` returns them.
    """
    current: list[StageOutput] = []
    digests: dict[str, str | None] = {}
    for output in outputs:
        inputs = output.content["inputs"]
        is_current = all(digests.get(noun, digest) == digest for noun, digest in inputs.items())
        if is_current:
            current.append(output)
        digests |= {noun: hash_path(path) if is_current else None for noun, path in _list_products(output).items()}
    return current


def _list_products(output: StageOutput) -> dict[str, Path]:
    """Return what later stages read, under the nouns by which their content.json names it."""
    if output.fold is not None:
        noun = CONTENT_NOUNS[output.stage]
        return {f"{noun}s/fold-{output.fold}": output.paths[noun]}
    nouns = {"ingest_data": ("manifest", "slices"), "split_data": ("splits",), "assemble_cascade": ("cascade",)}
    return {noun: output.paths[noun] for noun in nouns.get(output.stage, ()) if noun in output.paths}


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        DataError: It cannot be read.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read ({type(error).__name__}); make it again with the stage that writes it."
        ) from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: holds no JSON object; make it again with the stage that writes it.")
    return value
