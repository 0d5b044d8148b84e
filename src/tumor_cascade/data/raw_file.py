"""What a source sees of a raw data set: a list of files and, one at a time, their bytes."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Protocol

from tumor_cascade.errors import DataError

STRAY_NAMES = {".DS_Store", ".gitignore", ".gitkeep", "Thumbs.db", "desktop.ini", "data.csv"}
MAX_SHOWN_CHARACTERS = 200


@dataclass(frozen=True)
class RawFile:
    """A file or folder as a listing declares it.

    Attributes:
        path: Relative to the data set, with `/`.
        size_bytes: As declared, unproven.
        is_folder: A folder; listed because an empty one is a fault too.
        member: The archive's own record, None in a folder.
    """

    path: str
    size_bytes: int
    is_folder: bool = False
    member: Any = None

    @property
    def parts(self) -> tuple[str, ...]:
        """The path's components."""
        return PurePosixPath(self.path).parts

    @property
    def is_stray(self) -> bool:
        """Whether operating systems, archivers or authors leave such a file beside the data."""
        name = self.parts[-1]
        is_text = name.upper().startswith(("README", "LICENSE"))
        return "__MACOSX" in self.parts or name in STRAY_NAMES or name.startswith("._") or is_text


class RawFiles(Protocol):
    """The files of a data set, wherever they stand."""

    def list_files(self) -> tuple[list[RawFile], list[str]]:
        """Return the harmless files in order of their path, and a violation for every other one."""
        ...

    def read(self, file: RawFile, limit_bytes: int) -> bytes:
        """Return a file's bytes.

        Raises:
            DataError: The file declares more than the limit, or cannot be read as it was packed.
        """
        ...

    def is_same(self, first: RawFile, second: RawFile) -> bool:
        """Tell whether two files hold the same bytes."""
        ...


def check_size(file: RawFile, limit_bytes: int) -> None:
    """Raise DataError if a file declares more bytes than may be read."""
    if file.size_bytes > limit_bytes:
        remedy = "export it smaller, or ingest it with a higher ingest_data.max_side_px."
        raise DataError(f"{show(file.path)} has {file.size_bytes} bytes; a slice needs at most {limit_bytes}; {remedy}")


def show(name: str) -> str:
    """Return a hostile name fit for a terminal: control characters and broken encodings escaped, length bounded."""
    shown = name if name.isprintable() else ascii(name)
    return shown if len(shown) <= MAX_SHOWN_CHARACTERS else f"{shown[:MAX_SHOWN_CHARACTERS]}..."
