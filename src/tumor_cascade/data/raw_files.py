"""Opens a raw data set: a folder, a zip archive, or a folder that holds nothing but one zip archive."""

import filecmp
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tumor_cascade.data.archive import open_archive
from tumor_cascade.data.raw_file import RawFile, RawFiles, check_size, show
from tumor_cascade.errors import DataError


@contextmanager
def open_raw(root: Path) -> Iterator[RawFiles]:
    """Open a raw data set for listing and reading. `root` itself may be a link; links inside are refused.

    Raises:
        DataError: There is no folder or archive, or the archive is damaged.
    """
    if root.is_dir():
        root = _find_only_archive(root) or root
    if root.is_dir():
        yield RawFolder(root)
    elif root.is_file():
        with open_archive(root) as archive:
            yield archive
    else:
        raise DataError(f"{root} is neither a folder nor a zip archive; copy or link the data set there.")


def _find_only_archive(folder: Path) -> Path | None:
    """Return the zip that a folder holds, if it holds nothing else that matters."""
    try:
        inside = [path for path in folder.iterdir() if not RawFile(path.name, 0).is_stray]
    except OSError as error:
        raise DataError(f"{folder} cannot be listed ({error.strerror}); make it readable.") from error
    is_archive = len(inside) == 1 and inside[0].suffix.lower() == ".zip"
    return inside[0] if is_archive and inside[0].is_file() and not inside[0].is_symlink() else None


class RawFolder:
    """A folder; links in it are not followed."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def list_files(self) -> tuple[list[RawFile], list[str]]:
        """As `RawFiles`."""
        files, violations, todo = list[RawFile](), list[str](), [""]
        while todo:
            folder = todo.pop()
            try:
                with os.scandir(self._root / folder) as entries:
                    found = [_describe_entry(f"{folder}/{entry.name}".lstrip("/"), entry) for entry in entries]
            except OSError as error:
                violations.append(f"{show(folder)} cannot be listed ({error.strerror}); make it readable.")
                continue
            violations += [fault for _, fault in found if fault]
            good = [file for file, fault in found if not fault and not (file.is_folder and file.is_stray)]
            files += good
            todo += [file.path for file in good if file.is_folder]
        return sorted(files, key=lambda file: file.path), sorted(violations)

    def read(self, file: RawFile, limit_bytes: int) -> bytes:
        """As `RawFiles`."""
        check_size(file, limit_bytes)
        try:
            with (self._root / file.path).open("rb") as stream:
                return stream.read(file.size_bytes + 1)
        except OSError as error:
            raise DataError(f"{show(file.path)} cannot be read ({error.strerror}); make it readable.") from error

    def is_same(self, first: RawFile, second: RawFile) -> bool:
        """As `RawFiles`; an unreadable file equals none."""
        try:
            return filecmp.cmp(self._root / first.path, self._root / second.path, shallow=False)
        except OSError:
            return False


def _describe_entry(path: str, entry: os.DirEntry[str]) -> tuple[RawFile, str]:
    """Return a folder's entry and what is wrong with its kind, if anything."""
    status = entry.stat(follow_symlinks=False)
    is_folder = stat.S_ISDIR(status.st_mode)
    fault = ""
    if not is_folder and not stat.S_ISREG(status.st_mode):
        kind = "a link" if stat.S_ISLNK(status.st_mode) else "no regular file"
        fault = f"{show(path)} is {kind}; only files and folders are read; put the file itself there or remove it."
    return RawFile(path, status.st_size, is_folder), fault
