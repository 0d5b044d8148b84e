"""deploy/image.sh up to the engine: it brings the packages, whatever the Python of the machine has."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from workplaces import ROOT

# It knows every image and builds at once.
ENGINE = """#!/bin/sh
[ "$2 $3" != "inspect --format" ] || echo 1000
"""


def write_wheel(folder: Path, name: str) -> str:
    """Write a package that pip takes, with nothing in it; return its name."""
    info, wheel = f"{name}-1.0.dist-info", f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(folder / wheel, "w") as archive:
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


@pytest.mark.slow
def test_image__a_python_without_pip(tmp_path: Path) -> None:
    checkout, bare, index = (tmp_path / name for name in ("checkout", "bare", "index"))
    (checkout / "deploy").mkdir(parents=True)
    index.mkdir()
    shutil.copy(ROOT / "deploy/image.sh", checkout / "deploy")
    for lock in ("requirements.lock", "requirements-runtime.lock"):
        (checkout / lock).write_text("torch==1.0\n")
    wheels = {write_wheel(index, name) for name in ("torch", "hatchling")}
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "all"]):
        identity = ("-c", "user.name=me", "-c", "user.email=me@example.org")
        subprocess.run(["git", *identity, *command], cwd=checkout, check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    engine = bare / "bin/docker"
    engine.write_text(ENGINE)
    engine.chmod(0o755)
    environment = {"PATH": f"{bare}/bin:{os.defpath}", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index)}

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)

    assert "No module named pip" in run("python3", "-m", "pip").stderr
    done = run("deploy/image.sh")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("tumor-cascade:cpu: commit ")
    assert {path.name for path in (checkout / "build/wheels").iterdir()} == {*wheels, "made-from"}
