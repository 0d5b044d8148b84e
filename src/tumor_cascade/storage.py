"""Atomic writes and content hashes of files and folders."""

import contextlib
import fcntl
import glob
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CONTENT_NAME = "content.json"
LOCK_SUFFIX, OLD_SUFFIX = ".lock.tmp", ".old.tmp"


def fsync_path(path: Path) -> None:
    """Flush a file's data, or a folder's entries, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path`, on any error it vanishes."""
    with _make_temporary(path, is_dir=False) as temporary:
        yield temporary
        temporary.chmod(0o644)
        fsync_path(temporary)
        temporary.replace(path)
        fsync_path(path.parent)


@contextmanager
def atomic_dir(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success it replaces `path`, on any error `path` stays as it was."""
    with _make_temporary(path, is_dir=True) as temporary:
        yield temporary
        for folder, _, names in os.walk(temporary):
            for path_inside in (Path(folder, name) for name in names):
                path_inside.chmod(0o644)  # some writers make private files, which no other user's container can read
                fsync_path(path_inside)
            Path(folder).chmod(0o755)
            fsync_path(Path(folder))
        replace_dir(temporary, path)


@contextmanager
def temporary_dir(path: Path) -> Iterator[Path]:
    """Yield a new hidden folder beside `path` that vanishes afterwards; the next one sweeps away a killed writer's."""
    with _make_temporary(path, is_dir=True) as temporary:
        yield temporary


@contextmanager
def _make_temporary(path: Path, *, is_dir: bool) -> Iterator[Path]:
    """Yield a new hidden file or folder beside `path`, locked while its writer lives; it is gone afterwards.

    A folder's lock is a file beside it: over NFS a lock on a folder holds on this machine alone, and on a file
    only if that is open for writing.
    """
    sweep_leftovers(path)
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
        lock = temporary.with_suffix(LOCK_SUFFIX) if is_dir else temporary
        lock.touch(mode=0o600, exist_ok=False)
        with contextlib.suppress(FileNotFoundError):  # another writer swept it away before it was locked: once more
            descriptor = os.open(lock, os.O_RDWR)
            with contextlib.suppress(OSError):  # a file system without locks, where nothing is swept either
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if lock.exists():
                break
            os.close(descriptor)
    try:
        if is_dir:
            temporary.mkdir(mode=0o700)
        yield temporary
    finally:
        _remove(temporary)
        _remove(lock)
        os.close(descriptor)


def sweep_leftovers(path: Path) -> int:
    """Make the folder of `path` and remove what killed writers of `path` left in it; a living writer holds a lock.

    Returns:
        Bytes of what was removed.
    """
    num_bytes = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    for lock in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            continue  # a folder, whose lock stands beside it; or gone meanwhile
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            stem = lock.name.removesuffix(LOCK_SUFFIX)
            for leftover in [lock.with_name(stem + end) for end in (".tmp", OLD_SUFFIX)] if stem != lock.name else []:
                num_bytes += sum(one.stat().st_size for one in leftover.rglob("*") if one.is_file())
                _remove(leftover)
            num_bytes += lock.stat().st_size
            _remove(lock)
        os.close(descriptor)
    return num_bytes


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def replace_dir(new: Path, path: Path) -> None:
    """Put folder `new` in the place of `path`; a folder that stood there is removed only after the swap."""
    old = new.with_suffix(OLD_SUFFIX)
    if path.exists():
        path.replace(old)
    new.replace(path)
    fsync_path(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON with sorted keys, atomically. NaN is refused: it is no JSON."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def canonical_json(value: Any) -> bytes:
    """Return the one JSON encoding of `value` that hashes are taken over."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_path(path: Path) -> str:
    """Return the SHA-256 of a file, or of the sorted (relative name, SHA-256) pairs of a folder's files.

    A `content.json` in a folder is left out: it says how the rest came about, and the same bytes made by other code are
    the same input.
    """
    if path.is_file():
        return hash_file(path)
    files = sorted(p for p in path.rglob("*") if p.is_file() and p.name != CONTENT_NAME)
    return hashlib.sha256(canonical_json([(p.relative_to(path).as_posix(), hash_file(p)) for p in files])).hexdigest()
