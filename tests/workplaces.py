"""Copies of the project to run whole pipelines in, as a user does: git, DVC and the installed command."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT_S = 1700
# What belongs to other tests or to the developer: MLflow's client leaves the last server in this process's environment.
FOREIGN = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_RUN_ID",
    "MLFLOW_EXPERIMENT_ID",
    "TUMOR_CASCADE_CHECKPOINTS",
    "TUMOR_CASCADE_LEDGER",
)


@dataclass(frozen=True)
class Workplace:
    """A git repository with this code, and an environment that finds it.

    Attributes:
        folder: Of the repository.
        variables: More of the environment.
    """

    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """Variables of its commands."""
        return {
            **{name: value for name, value in os.environ.items() if name not in FOREIGN},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder / "src"),
            "DVC_NO_ANALYTICS": "1",
            "NO_COLOR": "1",
            **self.variables,
            **{
                f"GIT_{who}_{what}": "test@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
            },
        }

    def run(self, *command: str, is_failure_expected: bool = False) -> str:
        """Run a command in the folder; return all that it printed."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert (done.returncode != 0) == is_failure_expected, f"{' '.join(command)}:\n{done.stdout}"
        return done.stdout

    def read_json(self, path: str) -> dict[str, Any]:
        """Return the object in a JSON file of the folder."""
        value: dict[str, Any] = json.loads((self.folder / path).read_text(encoding="utf-8"))
        return value

    def find_runs(self, output: str) -> list[str]:
        """Return the stages that `dvc repro` says it ran."""
        return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def make_workplace(folder: Path, preset: str, settings: Sequence[str] = ()) -> Workplace:
    """Return a fresh repository with the files of this one, committed or not, and a preset's params."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / "data" / "raw").mkdir(parents=True)
    workplace = Workplace(folder)
    workplace.run("tumor-cascade", "configure", preset, *(f"--set={setting}" for setting in settings))
    workplace.run("git", "init", "--quiet", "--initial-branch", "main")
    workplace.run("git", "add", "--all")
    workplace.run("git", "commit", "--quiet", "--message", "As it stands")
    return workplace
