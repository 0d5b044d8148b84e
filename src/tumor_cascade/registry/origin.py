"""Finding the product that someone asks about: a registered version, or a folder."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tumor_cascade.errors import DataError, ParamsError
from tumor_cascade.registry.client import connect, is_store_missing, open_experiment
from tumor_cascade.registry.health import CASCADE_DIR
from tumor_cascade.registry.outputs import PROTOCOL_FILES

VERSION_NAME = "artifacts/version.json"
CASCADE_DIRS = ("", CASCADE_DIR, "cascade")


@dataclass(frozen=True)
class Product:
    """A packed cascade to look at.

    Attributes:
        name: For people: `version 3`, or the folder.
        cascade: Folder of the packed cascade.
        version_dir: All files of a registered version; None for a plain folder.
    """

    name: str
    cascade: Path
    version_dir: Path | None


@contextmanager
def open_product(wanted: str) -> Iterator[Product]:
    """Yield what `wanted` names; files of a registered version are fetched and deleted afterwards.

    Args:
        wanted: A folder; or a version of the registered model `tumor-cascade`: `3`, `champion`, or as MLflow writes
            them, `models:/tumor-cascade/3` and `models:/tumor-cascade@champion`.

    Raises:
        DataError: The folder holds no cascade, or the version's files are gone.
        ParamsError: There is no such version.
        TrackingError: The server does not answer.
    """
    if Path(wanted).is_dir():
        yield _read_folder(wanted, Path(wanted))
        return
    from tumor_cascade.registry.versions import PRODUCT, ModelRegistry

    name, known = re.sub(rf"^models:/{PRODUCT}[/@]", "", wanted), dict[str, int]()
    if not is_store_missing():  # a question makes none
        client = connect()
        registry = ModelRegistry(client, open_experiment(client))
        aliases, _ = registry.read_model()
        known = {str(one.ref.version): one.ref.version for one in registry.list_versions(PRODUCT)} | aliases
    if name not in known:
        remedy = f"must be one of {', '.join(known)}" if known else "no version is registered yet, so name a folder"
        raise ParamsError(f"{wanted} is neither a folder nor a version of {PRODUCT}; {remedy}.")
    with tempfile.TemporaryDirectory() as folder:
        yield _read_folder(f"version {known[name]}", registry.download(PRODUCT, known[name], Path(folder)))


def _read_folder(name: str, folder: Path) -> Product:
    found = [folder / inner for inner in CASCADE_DIRS if (folder / inner / PROTOCOL_FILES["cascade"]).is_file()]
    if not found:
        raise DataError(
            f"{folder} holds no cascade; name the folder that `assemble_cascade` has written, or a version."
        )
    return Product(name, found[0], folder if (folder / VERSION_NAME).is_file() else None)
