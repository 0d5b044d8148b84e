"""A registered version is checked before anything of it is loaded.

Its files against its own manifest, and both against the ledger where that can be reached.
"""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from mlflow import MlflowException
from mlflow.artifacts import download_artifacts

from tumor_cascade.errors import DataError, ParamsError
from tumor_cascade.product import read_artifact_json
from tumor_cascade.registry.aliases import require_alias
from tumor_cascade.registry.client import connect
from tumor_cascade.registry.health import CASCADE_DIR
from tumor_cascade.registry.ledger import Chain
from tumor_cascade.registry.origin import VERSION_NAME
from tumor_cascade.registry.shared import find_ledger
from tumor_cascade.registry.versions import PRODUCT, ModelRegistry, compare_files, hash_files
from tumor_cascade.serving.batching import BatchObserver
from tumor_cascade.serving.server import open_folder
from tumor_cascade.serving.service import Load, Loaded

# What MLflow writes beside a version's own files when it fetches them: model and version number.
FETCHED_NAME = "registered_model_meta"
# MLflow's shell around them, which the manifest cannot name since it is made later; the ledger knows it.
SHELL = {"MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "input_example.json"}
SHELL |= {"serving_input_example.json", VERSION_NAME}

logger = logging.getLogger(__name__)


def check_version(folder: Path) -> dict[str, Any]:
    """Return the manifest of a version's files once all of them are found to be what was registered.

    Args:
        folder: All files of a version, as MLflow fetches them.

    Raises:
        DataError: With every file that was edited, added or removed; or the ledger itself does not hold together.
    """
    return compare_version(folder, find_ledger())


def compare_version(folder: Path, chain: Chain | None) -> dict[str, Any]:
    """Compare a version's files with its manifest and, where there is one, the ledger; return the manifest.

    Raises:
        DataError: With every file that was edited, added or removed.
    """
    manifest = read_artifact_json(folder / VERSION_NAME)
    found = {name: digest for name, digest in hash_files(folder).items() if name != FETCHED_NAME}
    own = {name: digest for name, digest in found.items() if name not in SHELL}
    if faults := compare_files(own, dict(manifest.get("files", {}))):
        raise DataError(faults, "this version is not what was registered, nothing of it was loaded:")
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
        DataError: See `check_version`; or it is named by an alias that is another version's by the ledger.
    """
    registry = ModelRegistry(connect(), "")
    with tempfile.TemporaryDirectory() as work:
        try:
            folder = Path(download_artifacts(artifact_uri=uri, dst_path=str(Path(work, "version"))))
        except (MlflowException, OSError) as error:
            raise ParamsError(f"{uri} cannot be fetched ({error}); name one that exists.") from error
        chain = find_ledger(registry)
        compare_version(folder, chain)
        name, _, alias = uri.partition("@")
        if chain is not None and name == f"models:/{PRODUCT}":
            require_alias(chain, alias, read_version_number(folder))
        yield folder
