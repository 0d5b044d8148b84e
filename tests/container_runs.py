"""`tumor-cascade-pipeline run --local` as a user runs it: image built from a commit, servers, confined containers."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from needs import miss
from pipelines.engine import EngineError, connect_engine
from pipelines.task_watch import LABEL
from servers import find_ports, make_services_dir
from tumor_cascade.registry.services import ENVIRONMENT_NAME, Services
from workplaces import ROOT, Workplace

IMAGE = "tumor-cascade:test"
WHEELS = "build/wheels"  # downloaded once for all checkouts
ROOT_NAME = "outputs"


@dataclass(frozen=True)
class ContainerRun:
    """What a finished run leaves.

    Attributes:
        output: All that it printed.
        folder: Outputs, one folder per task.
        environment: What clients need to find its servers.
    """

    output: str
    folder: Path
    environment: dict[str, str]


def require_engine() -> Any:
    """Return a client of the Docker engine; without one the test is skipped."""
    try:
        return connect_engine()
    except EngineError as error:
        miss(str(error))


def commit_lenient_policy(workplace: Workplace) -> None:
    """Commit a policy that the four test patients of `smoke` can satisfy; the phantom's own needs eight."""
    path = workplace.folder / "policies/phantom.yaml"
    yaml = YAML()
    policy = yaml.load(path)
    policy["statistics"]["min_patients"] = 4
    policy["floors"] = dict.fromkeys(policy["floors"], 0.1)
    yaml.dump(policy, path)
    workplace.run("git", "commit", "--quiet", "--all", "--message", "A lenient policy")


def build_image(workplace: Workplace) -> None:
    """Build the image of a workplace's commit; packages come from this checkout where it has them."""
    if (ROOT / WHEELS).is_dir():
        shutil.copytree(ROOT / WHEELS, workplace.folder / WHEELS, copy_function=link_file)
    workplace.run("env", f"IMAGE={IMAGE}", "deploy/image.sh", "cpu")


def link_file(source: str, target: str) -> None:
    """Make a file the same as another one, by a link where both are on one disk."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@contextmanager
def run_in_containers(workplace: Workplace, kill_task: str, kill_epoch: int) -> Iterator[ContainerRun]:
    """Run `train_cascade` and kill one training on its way; yield the run while its servers go on.

    Args:
        workplace: Params and code; its image is built already.
        kill_task: Whose container is killed, with SIGKILL.
        kill_epoch: After whose line in the output.
    """
    ports = {"MLFLOW": find_ports(), "POSTGRES": find_ports(), "S3": find_ports((*range(9), 10_008))}
    settings = {f"TUMOR_CASCADE_{name}_PORT": str(port) for name, port in ports.items()}
    with make_services_dir() as data:
        place = replace(workplace, variables={**workplace.variables, **settings, "PYTHONUNBUFFERED": "1"})
        try:
            output = follow(place, ["--services", str(data), "--root", ROOT_NAME], kill_task, kill_epoch)
            exported = (data / ENVIRONMENT_NAME).read_text(encoding="utf-8").splitlines()
            environment = dict(line.removeprefix("export ").split("=", 1) for line in exported)
            (folder,) = (workplace.folder / ROOT_NAME).glob("train-cascade-*")
            yield ContainerRun(output, folder, environment)
        finally:
            Services(data, ports["MLFLOW"], ports["POSTGRES"], ports["S3"]).down()


def follow(place: Workplace, flags: list[str], kill_task: str, kill_epoch: int) -> str:
    """Run the command to its end, killing on its way; return its output."""
    command = [sys.executable, "-m", "pipelines.cli", "run", "--local", "--image", IMAGE, *flags]
    output, is_task, is_killed = "", False, False
    with subprocess.Popen(
        command,
        cwd=place.folder,
        env=place.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            output += line
            is_task = kill_task in line if "Executing task" in line else is_task
            if is_task and not is_killed and line.strip().startswith(f"epoch {kill_epoch}/"):
                kill_container()
                is_killed = True
    assert process.returncode == 0 and is_killed, output
    return output


def kill_container() -> None:
    """Kill the container of the task that runs, as a node that goes away does."""
    client = connect_engine()
    (container,) = client.containers.list(filters={"label": LABEL, "ancestor": IMAGE})
    container.kill()
    client.close()
