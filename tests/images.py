"""The package as an image holds it: installed from a wheel, far from any git."""

import os
import subprocess
import sys
from pathlib import Path

COMMIT = "c" * 40


def install_wheel(repository: Path, folder: Path) -> Path:
    """Build a repository's wheel and install it, without what it needs, into a folder to make; return that."""
    dist, site = folder / "dist", folder / "site"
    run(repository, "-m", "hatchling", "build", "-t", "wheel", "-d", str(dist))
    (wheel,) = dist.glob("*.whl")
    run(repository, "-m", "pip", "--quiet", "install", "--no-deps", "--no-index", "--target", str(site), str(wheel))
    return site


def run_image(site: Path, folder: Path, *command: str, **facts: str) -> str:
    """Run Python in a folder, with the installed package and what its image says of itself; return what it prints.

    Args:
        site: Of `install_wheel`.
        folder: To run in.
        command: Of Python.
        facts: Name, as COMMIT -> value.
    """
    own = {f"TUMOR_CASCADE_{name}": value for name, value in facts.items()}
    rest = {name: value for name, value in os.environ.items() if not name.startswith(("TUMOR_CASCADE_", "MLFLOW_"))}
    return run(folder, *command, environment={**rest, **own, "PYTHONPATH": str(site)})


def run(folder: Path, *command: str, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
