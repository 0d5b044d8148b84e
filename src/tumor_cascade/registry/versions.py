"""Registered models and their versions in MLflow: one version per content, made once however often it is asked for."""

import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException

from tumor_cascade.errors import DataError
from tumor_cascade.registry.entries import VersionRef
from tumor_cascade.registry.runs import CONTENT_TAG, find_run
from tumor_cascade.storage import hash_file

PRODUCT, CLASSIFIER, SEGMENTER = "tumor-cascade", "tumor-cascade-classifier", "tumor-cascade-segmenter"
MODELS = {
    PRODUCT: "Finds tumors in brain MRI slices: classifier, segmenter, thresholds and calibration. Research use only.",
    CLASSIFIER: "Does a slice show tumor? A part of tumor-cascade, registered with it; carries no alias.",
    SEGMENTER: "Where is the tumor? A part of tumor-cascade, registered with it; carries no alias.",
}
MAX_DESCRIPTION = 5000  # characters that MLflow's database takes
NUM_TRIES, PAUSE_S = 6, 0.1


@dataclass(frozen=True)
class Registered:
    """A version as the registry shows it."""

    name: str
    ref: VersionRef
    tags: dict[str, str]
    description: str


class ModelRegistry:
    """What this project asks of MLflow's registry.

    Args:
        client: Connected.
        experiment_id: Where logged models are kept.
    """

    def __init__(self, client: MlflowClient, experiment_id: str) -> None:
        self.client, self.experiment_id = client, experiment_id

    def register(self, name: str, content_id: str, folder: Path, tags: dict[str, str], description: str = "") -> int:
        """Return the version of a content, made from a folder if there is none yet.

        Of versions that several writers make at once the lowest stays: numbers are given in order, so every writer sees
        all that are lower than its own.

        Args:
            name: One of `MODELS`.
            content_id: What tells versions apart.
            folder: Files of the version, logged as they are.
            tags: Besides `content_id`.
            description: Markdown.
        """
        found = self.find(name, content_id)
        if found is not None:
            return found
        with contextlib.suppress(MlflowException):  # it exists
            self.client.create_registered_model(name, description=MODELS[name])
        tags = {**tags, CONTENT_TAG: content_id}
        logged = self.log_folder(name, folder, tags)
        create = partial(self.client.create_model_version, name, f"models:/{logged}", model_id=logged)
        made = int(persist(create, tags=tags, description=description).version)
        lowest = self.find(name, content_id)
        assert lowest is not None
        if lowest < made:
            self.delete(name, made)
        return lowest

    def log_folder(self, name: str, folder: Path, tags: dict[str, str]) -> str:
        """Keep a folder's files as a logged model, of the run that shows its content if there is one; return its id."""
        run = find_run(self.client, tags[CONTENT_TAG])
        create = partial(self.client.create_logged_model, source_run_id=run.info.run_id if run else None)
        logged = persist(create, self.experiment_id, name=name, tags=tags)
        self.client.log_model_artifacts(logged.model_id, str(folder))
        persist(self.client.finalize_logged_model, logged.model_id, "READY")
        return str(logged.model_id)

    def find(self, name: str, content_id: str) -> int | None:
        """Return the lowest version of a content, or None."""
        refs = [one.ref for one in self.list_versions(name) if one.ref.content_id == content_id]
        return min((ref.version for ref in refs), default=None)

    def list_versions(self, name: str) -> list[Registered]:
        """Return all versions of a model in order; without a model, none."""
        found = self.client.search_model_versions(f"name='{name}'", max_results=10_000)
        return sorted((describe_version(version) for version in found), key=lambda one: one.ref.version)

    def delete(self, name: str, version: int) -> None:
        """Delete a version."""
        persist(self.client.delete_model_version, name, str(version))

    def download(self, name: str, version: int, folder: Path) -> Path:
        """Copy the files of a version into a folder, from where the registry keeps them; return where they lie.

        Raises:
            DataError: They are gone.
        """
        try:
            uri = self.client.get_model_version_download_uri(name, str(version))
            return Path(download_artifacts(artifact_uri=uri, dst_path=str(folder)))
        except (MlflowException, OSError) as error:
            raise DataError(f"{name} version {version} cannot be read from the registry: {error}") from error

    def read_model(self, name: str = PRODUCT) -> tuple[dict[str, int], dict[str, str]]:
        """Return aliases and tags of a model; without the model, none."""
        try:
            model = self.client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return {}, {}
            raise
        return {alias: int(version) for alias, version in model.aliases.items()}, dict(model.tags)

    def set_alias(self, alias: str, version: int | None) -> None:
        """Point an alias of `tumor-cascade` to a version, or remove it."""
        if version is None:
            persist(self.client.delete_registered_model_alias, PRODUCT, alias)
        else:
            persist(self.client.set_registered_model_alias, PRODUCT, alias, str(version))

    def set_model_tag(self, key: str, value: str) -> None:
        """Set a tag of `tumor-cascade`."""
        persist(self.client.set_registered_model_tag, PRODUCT, key, value)

    def set_version_tag(self, version: int, key: str, value: str) -> None:
        """Set a tag of a version of `tumor-cascade`."""
        persist(self.client.set_model_version_tag, PRODUCT, str(version), key, value)

    def set_description(self, version: int, text: str) -> None:
        """Set the description of a version of `tumor-cascade`."""
        persist(self.client.update_model_version, PRODUCT, str(version), text)


def persist(write: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Write to the registry, again where another writer was in the way: two that set one tag collide in MLflow.

    Each of these writes may be done twice.
    """
    for attempt in range(NUM_TRIES - 1):
        try:
            return write(*arguments, **named)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise
            time.sleep(random.uniform(0.5, 1) * PAUSE_S * 2**attempt)
    return write(*arguments, **named)


def describe_version(version: Any) -> Registered:
    """Return MLflow's model version in this project's words; without a `content_id` it is all zeros."""
    tags = dict(version.tags)
    ref = VersionRef(version=int(version.version), content_id=tags.get(CONTENT_TAG, "0" * 64))
    return Registered(version.name, ref, tags, version.description or "")


def hash_files(folder: Path) -> dict[str, str]:
    """Return path -> SHA-256 of every file in a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hash_file(path) for path in files}


def compare_files(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    """Return what is not as expected, a line per file."""
    lines = [f"{name} is missing" for name in expected if name not in found]
    lines += [f"{name} was added" for name in found if name not in expected]
    return sorted(lines + [f"{name} was edited" for name in found if found[name] != expected.get(name, found[name])])
