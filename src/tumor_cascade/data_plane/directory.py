"""DVC's directory object: which file of a folder has which MD5. Hostile until parsed."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from tumor_cascade.errors import DataError

MAX_NAME_BYTES = 255
MAX_DIRECTORY_BYTES = 64 << 20  # some 600,000 files; it is held in memory


@dataclass(frozen=True, order=True)
class DirectoryEntry:
    """A file of the folder: where it stands in it, with `/`, and the MD5 of its bytes."""

    path: str
    md5: str


def encode_directory(entries: Iterable[DirectoryEntry]) -> bytes:
    """Return the bytes that DVC writes for a folder, and takes the folder's MD5 over."""
    files = [{"md5": entry.md5, "relpath": entry.path} for entry in sorted(entries)]
    return json.dumps(files, sort_keys=True).encode()


def parse_directory(content: bytes, name: str) -> list[DirectoryEntry]:
    """Return the files that a directory object lists.

    Args:
        content: Its bytes.
        name: Of the object, for messages.

    Raises:
        DataError: It is no such list, or names anything but files inside the folder, each once.
    """
    try:
        items = json.loads(content)
    except (ValueError, RecursionError):
        items = None
    if not isinstance(items, list):
        raise DataError(f"{name} is no list of files, as DVC writes it for a folder; push the data again.")
    faults = [f"entry {number}: {fault}" for number, item in enumerate(items) if (fault := _find_fault(item))]
    entries = [] if faults else [DirectoryEntry(item["relpath"], item["md5"]) for item in items]
    faults += _find_clashes([entry.path for entry in entries])
    if faults:
        raise DataError(faults, f"{name} is not to be trusted; nothing of it was written:")
    return entries


def _find_fault(item: Any) -> str | None:
    """Return what is wrong with an entry; a path must lead to a file below the folder."""
    if not isinstance(item, dict) or not isinstance(item.get("md5"), str) or not isinstance(item.get("relpath"), str):
        return "is no object with md5 and relpath"
    md5, path = item["md5"], item["relpath"]
    if not re.fullmatch(r"[0-9a-f]{32}", md5):
        return f"{md5!r} is no MD5"
    if any(part in ("", ".", "..") for part in path.split("/")):
        return f"{path!r} leads outside the folder or has empty parts"
    if not path.isprintable() or "\\" in path:
        return f"{path!r} has a backslash or characters that do not print"
    if any(len(part.encode()) > MAX_NAME_BYTES for part in path.split("/")):
        return f"{path!r} has a name of more than {MAX_NAME_BYTES} bytes"
    return None


def _find_clashes(paths: list[str]) -> list[str]:
    """Return paths that stand twice, or for both a file and a folder."""
    folders = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
    twice = sorted({path for path in paths if paths.count(path) > 1}) if len(set(paths)) < len(paths) else []
    return [
        *(f"{path!r} stands twice" for path in twice),
        *(f"{path!r} is both a file and a folder" for path in sorted(set(paths) & folders)),
    ]
