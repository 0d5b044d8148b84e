"""Which commit this code is, and whether it is all of it."""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tumor_cascade.content import PACKAGE_DIR
from tumor_cascade.settings import PREFIX

# What makes a result. Params are not among them: every value stands in each output's content.json.
MAKING = ("src", "requirements.lock", "dvc.yaml", "pyproject.toml")
GIT_TIMEOUT_S = 60


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
    """Return the commit of this code: of the git checkout it stands in, or of the image (TUMOR_CASCADE_COMMIT)."""
    root = PACKAGE_DIR.parents[1]
    commit = ask_git(root, "rev-parse", "HEAD") if (root / ".git").exists() else None
    if commit is None:
        named = re.fullmatch(r"[0-9a-f]{40}", os.environ.get(f"{PREFIX}COMMIT", ""))
        return Checkout(named[0] if named else None, ())
    status = ask_git(root, "status", "--porcelain", "--untracked-files=all", "--no-renames", "--", *MAKING) or ""
    return Checkout(commit, tuple(line[3:] for line in status.splitlines()))


def is_committed(path: Path) -> bool:
    """Say whether a file is in git as it stands."""
    folder = path.absolute().parent
    is_known = ask_git(folder, "ls-files", "--error-unmatch", "--", path.name) is not None
    return is_known and not ask_git(folder, "status", "--porcelain", "--", path.name)


def ask_git(folder: Path, *arguments: str) -> str | None:
    """Return what git prints, or None where it fails or is not there."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.rstrip("\n") if done.returncode == 0 else None
