"""A registered version is checked before anything of it is loaded.

Its files against its own manifest, and both against the ledger where that can be reached.
"""

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from mlflow import MlflowException
from mlflow.artifacts import download_artifacts

from tumor_cascade.errors import DataError, ParamsError, TumorCascadeError
from tumor_cascade.object_store import open_store
from tumor_cascade.product import read_artifact_json
from tumor_cascade.registry.aliases import LEDGER_TAG, open_chain
from tumor_cascade.registry.client import connect
from tumor_cascade.registry.ledger import LEDGER_PREFIX, Chain, read_chain, require_sound
from tumor_cascade.registry.location import LEDGER_VARIABLE
from tumor_cascade.registry.versions import PRODUCT, ModelRegistry, compare_files, hash_files
from tumor_cascade.serving.batching import BatchObserver
from tumor_cascade.serving.server import open_folder
from tumor_cascade.serving.service import Load, Loaded

MANIFEST = "artifacts/version.json"
CASCADE_DIR = "artifacts/cascade"
# What MLflow writes beside a version's own files when it fetches them: model and version number.
FETCHED_NAME = "registered_model_meta"
# MLflow's shell around them, which the manifest cannot name since it is made later; the ledger knows it.
SHELL = {"MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "input_example.json"}
SHELL |= {"serving_input_example.json", MANIFEST}

logger = logging.getLogger(__name__)


def check_version(folder: Path) -> dict[str, Any]:
    """Return the manifest of a version's files once all of them are found to be what was registered.

    Args:
        folder: All files of a version, as MLflow fetches them.

    Raises:
        DataError: With every file that was edited, added or removed; or the ledger itself does not hold together.
    """
    manifest = read_artifact_json(folder / MANIFEST)
    found = {name: digest for name, digest in hash_files(folder).items() if name != FETCHED_NAME}
    own = {name: digest for name, digest in found.items() if name not in SHELL}
    if faults := compare_files(own, dict(manifest.get("files", {}))):
        raise DataError(faults, "this version is not what was registered, nothing of it was loaded:")
    chain = find_ledger()
    number = read_version_number(folder) if read_meta(folder).get("model_name") == PRODUCT else None  # not of a copy
    entries = () if chain is None else chain.entries
    # By its number where the registry gave it out: what the files say of themselves may be edited with them.
    if number is None:
        entries = tuple(one for one in entries if one.to.content_id == manifest.get("content_id"))
    else:
        entries = tuple(one for one in entries if one.to.version == number)
    if entries:
        if faults := compare_files(found, entries[-1].files):
            raise DataError(faults, "this version is not what the ledger knows, nothing of it was loaded:")
    else:
        reason = "no ledger can be reached" if chain is None else "the ledger does not know it"
        logger.warning("%s: the version's files were checked against its own manifest alone", reason)
    return manifest


def find_ledger() -> Chain | None:
    """Return the ledger that the environment or the registry names; None where neither does, or it cannot be reached.

    Raises:
        DataError: It does not hold together.
    """
    registry, url = None, os.environ.get(LEDGER_VARIABLE)
    try:
        if os.environ.get("MLFLOW_TRACKING_URI"):
            registry = ModelRegistry(connect(), "")
            url = url or registry.read_model()[1].get(LEDGER_TAG)
        if not url:
            return None
        store = open_store(url)
        store.list_keys(LEDGER_PREFIX)
    except (TumorCascadeError, MlflowException, OSError) as error:
        logger.warning("the ledger cannot be reached: %s", error)
        return None
    return require_sound(read_chain(store), store) if registry is None else open_chain(registry, store)


def read_version_number(folder: Path) -> int | None:
    """Return the number under which the registry has given out a version; None for files from elsewhere."""
    try:
        return int(read_meta(folder)["model_version"])
    except (KeyError, TypeError, ValueError):
        return None


def read_meta(folder: Path) -> dict[str, Any]:
    """Return what MLflow's client wrote beside a version's files, model and number; nothing for others."""
    path = folder / FETCHED_NAME
    try:
        meta = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (ValueError, yaml.YAMLError):
        return {}
    return meta if isinstance(meta, dict) else {}


def open_version(uri: str) -> Load:
    """Return what fetches, checks and loads a registered version for `serve`; its files are deleted once it is loaded.

    Args:
        uri: As MLflow names it, e.g. `models:/tumor-cascade@champion`.
    """

    def load(observe_batch: BatchObserver) -> Loaded:
        with checked_version(uri) as folder:
            return open_folder(folder / CASCADE_DIR, read_version_number(folder))(observe_batch)

    return load


@contextmanager
def checked_version(uri: str) -> Iterator[Path]:
    """Yield the files of a registered version, fetched and checked; they are deleted afterwards.

    Args:
        uri: As MLflow names it, e.g. `models:/tumor-cascade@champion`.

    Raises:
        ParamsError: There is no such version, or it cannot be fetched.
        DataError: See `check_version`.
    """
    connect()
    with tempfile.TemporaryDirectory() as work:
        try:
            folder = Path(download_artifacts(artifact_uri=uri, dst_path=work))
        except (MlflowException, OSError) as error:
            raise ParamsError(f"{uri} cannot be fetched ({error}); name one that exists.") from error
        check_version(folder)
        yield folder
