"""Which commit this code is, and whether it is all of it: as git says, or in an image the wheel's own record.

An image names its commit (TUMOR_CASCADE_COMMIT). What it runs is the package of an installed wheel, which keeps the
SHA-256 of every file; the wheel was built from that commit where TUMOR_CASCADE_DIRTY is unset or `false`.
"""

import base64
import binascii
import re
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from tumor_cascade.content import PACKAGE_DIR
from tumor_cascade.settings import get_fact
from tumor_cascade.storage import hash_file

DISTRIBUTION = "tumor-cascade"
# What makes a result. Params are not among them: every value stands in each output's content.json.
MAKING = ("src", "requirements.lock", "dvc.yaml", "pyproject.toml")
GIT_TIMEOUT_S = 60
CACHES = "__pycache__"


@dataclass(frozen=True)
class Checkout:
    """The state of the code.

    Attributes:
        commit: 40 hex digits, or None where nothing tells.
        changed: Files that make results and are not as committed.
    """

    commit: str | None
    changed: tuple[str, ...]


def describe_checkout() -> Checkout:
    """Return the state of this code, of the git checkout it stands in or of the image."""
    root = PACKAGE_DIR.parents[1]
    commit = ask_git(root, "rev-parse", "HEAD") if (root / ".git").exists() else None
    if commit is None:
        return describe_image()
    status = ask_git(root, "status", "--porcelain", "--untracked-files=all", "--no-renames", "--", *MAKING)
    if status is None:
        return Checkout(commit, ("the checkout, whose state git cannot tell,",))
    return Checkout(commit, tuple(line[3:] for line in status.splitlines()))


def describe_image() -> Checkout:
    """Return the state of an installed package: the commit that the image names, held to the wheel's record."""
    named = re.fullmatch(r"[0-9a-f]{40}", get_fact("COMMIT") or "")
    if named is None:
        return Checkout(None, ())
    changed = ["what the image was built from"] if get_fact("DIRTY") not in (None, "false") else []
    return Checkout(named[0], (*changed, *find_unrecorded()))


def find_unrecorded() -> list[str]:
    """Return the files of this package that are not as its wheel has recorded them, or the package without a wheel."""
    recorded = read_record()
    if not any(path.is_relative_to(PACKAGE_DIR) for path in recorded):
        return [f"{PACKAGE_DIR.name}, not installed from a wheel,"]
    files = {path for path in PACKAGE_DIR.rglob("*") if path.is_file() and CACHES not in path.parts}
    wanted = {path for path in recorded if path.is_relative_to(PACKAGE_DIR)}
    changed = (path for path in files | wanted if not path.is_file() or recorded.get(path) != hash_file(path))
    return sorted(path.relative_to(PACKAGE_DIR.parent).as_posix() for path in changed)


def read_record() -> dict[Path, str]:
    """Return path -> SHA-256 of the files of the installed distribution; nothing where there is none."""
    try:
        files = distribution(DISTRIBUTION).files or []
    except PackageNotFoundError:
        return {}
    hashed = ((file, file.hash.value) for file in files if file.hash is not None and file.hash.mode == "sha256")
    return {Path(str(file.locate())).resolve(): to_hex(value) for file, value in hashed}


def to_hex(digest: str) -> str:
    """Return a digest of a wheel's record, base64 without padding, as hexadecimal."""
    return binascii.hexlify(base64.urlsafe_b64decode(digest + "=" * (-len(digest) % 4))).decode()


def is_committed(path: Path, commit: str | None) -> bool:
    """Say whether a commit holds a file as it stands: as git says, or the record of the wheel that was built from it.

    Git answers in the file's own repository, and one that is not the code's does not know the code's commit.
    """
    folder = path.absolute().parent
    held = None if commit is None else ask_git(folder, "rev-parse", "--verify", f"{commit}:./{path.name}")
    if held is not None:
        return ask_git(folder, "hash-object", "--", path.name) == held
    return path.is_file() and read_record().get(path.resolve()) == hash_file(path)


def ask_git(folder: Path, *arguments: str) -> str | None:
    """Return what git prints, or None where it fails or is not there."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.rstrip("\n") if done.returncode == 0 else None
