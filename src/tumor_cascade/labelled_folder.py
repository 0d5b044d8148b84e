"""Labelled patients in a folder or zip from outside: packed like any data set, for as long as a command needs them."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tumor_cascade.data.kaggle_layout import FILE_NAME
from tumor_cascade.data.raw_file import RawFile
from tumor_cascade.errors import DataError
from tumor_cascade.params import IngestDataParams
from tumor_cascade.stages.ingest_data import ingest_data


@dataclass(frozen=True)
class LabelledFolder:
    """Patients with masks that no stage has ingested.

    Attributes:
        path: Folder or zip. Of the layout `kaggle`, patients may lie any number of lone folders deep.
        layout: How it lies.
        params: Section `ingest_data`; its source does not count.
    """

    path: Path
    layout: Literal["kaggle", "images"]
    params: IngestDataParams


@contextmanager
def ingested_folder(data: LabelledFolder, parent: Path | None = None) -> Iterator[tuple[Path, Path]]:
    """Yield packed volumes and manifest, which are gone afterwards.

    Args:
        data: What to ingest.
        parent: Folder that they stand in for the while; None: the system's for temporary files.

    Raises:
        DataError: With every violation of the data.
    """
    with tempfile.TemporaryDirectory(dir=parent) as work:
        slices, manifest = Path(work, "slices"), Path(work, "manifest.parquet")
        params = data.params.model_copy(update={"source": data.layout})
        raw = find_patients(data.path) if data.layout == "kaggle" else data.path
        ingest_data(params, raw=raw, out_slices=slices, out_manifest=manifest)
        yield slices, manifest


def find_patients(data: Path) -> Path:
    """Return the folder that patients' folders lie in: `data`, or the one below folders that hold nothing else.

    Raises:
        DataError: It is a patient's own folder.
    """
    if data.is_dir() and holds_slices(data):
        raise DataError(f"{data.name} holds slices itself; name the folder that patients' folders lie in.")
    while data.is_dir():
        entries = [path for path in data.iterdir() if not path.name.startswith(".") and not is_stray(path)]
        is_lone = len(entries) == 1 and entries[0].is_dir() and not entries[0].is_symlink()
        if not is_lone or holds_slices(entries[0]):
            break
        data = entries[0]
    return data


def is_stray(path: Path) -> bool:
    """Say whether a file or folder is one that systems, archivers or authors leave beside the data."""
    return RawFile(path.name, 0).is_stray


def holds_slices(folder: Path) -> bool:
    """Say whether files named like a patient's slices lie in a folder."""
    return any(FILE_NAME.fullmatch(path.name) for path in folder.iterdir())
