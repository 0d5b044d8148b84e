"""The folder that stages read: hard links to the cache's objects, and nothing else."""

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from tumor_cascade.data_plane.objects import hash_content


def lay_out(folder: Path, objects: Mapping[Path, Path], incoming: Path) -> None:
    """Make a folder hold these files and no others, one by one: another pod may be reading it.

    Args:
        folder: The folder, which may hold some of them, or anything.
        objects: Relative path of each file -> whole object of the cache.
        incoming: Folder on the same file system for what has no name yet.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_strangers(folder, {folder / path for path in objects})
    for path, source in objects.items():
        if not is_laid_out(folder / path, source):
            link(source, folder / path, incoming)


def remove_strangers(folder: Path, wanted: set[Path]) -> None:
    """Remove everything from a folder but the wanted files and the folders on their way."""
    folders = {parent for path in wanted for parent in path.parents if folder in parent.parents}
    for found in sorted(folder.rglob("*"), reverse=True):  # what stands in a folder before the folder itself
        is_folder = found.is_dir() and not found.is_symlink()
        if found.is_symlink() or found not in (folders if is_folder else wanted):
            with contextlib.suppress(FileNotFoundError):  # another pod was faster
                found.rmdir() if is_folder else found.unlink()


def is_laid_out(path: Path, source: Path) -> bool:
    """Say whether a file is an object, or a whole copy of it where there are no hard links."""
    try:
        return path.samefile(source) or hash_content(path) == hash_content(source)
    except FileNotFoundError:
        return False


def link(source: Path, path: Path, incoming: Path) -> None:
    """Put an object in the place of a file, at once."""
    temporary = incoming / secrets.token_hex(8)
    try:
        os.link(source, temporary)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOSPC, errno.EDQUOT):
            raise
        shutil.copyfile(source, temporary)  # a file system, or another user's file, that allows no hard links
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.replace(path)
