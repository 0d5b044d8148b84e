"""Commands of this package in processes of their own, each as soon as what it needs has ended."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from graphlib import TopologicalSorter

import click

from tumor_cascade.errors import TumorCascadeError

CLI = (sys.executable, "-m", "tumor_cascade.cli")
Command = tuple[str, ...]


class CommandError(TumorCascadeError):
    """A command that failed; it has said why."""


@dataclass(frozen=True)
class Step:
    """Commands that need nothing of each other.

    Attributes:
        commands: By the label that tells their lines apart.
        needed: Names of steps that end before.
    """

    commands: Mapping[str, Command]
    needed: frozenset[str] = field(default=frozenset())


def run_steps(
    steps: Mapping[str, Step],
    num_jobs: int,
    environment: Mapping[str, str] | None = None,
    descriptors: Sequence[int] = (),
) -> None:
    """Run all commands of all steps.

    Args:
        steps: By name.
        num_jobs: Commands at the same time; with more than one, a label stands before each line.
        environment: Of the commands; None for this process's.
        descriptors: Open files that they keep.

    Raises:
        CommandError: A command failed. Those that ran beside it were stopped.
    """
    sorter = TopologicalSorter({name: step.needed for name, step in steps.items()})
    sorter.prepare()
    left = {name: len(step.commands) for name, step in steps.items()}
    running: dict[Future[None], str] = {}
    children: list[subprocess.Popen[str]] = []
    with ThreadPoolExecutor(num_jobs) as pool:
        try:
            while sorter.is_active():
                for name in sorter.get_ready():
                    for label, command in steps[name].commands.items():
                        prefix = f"{label}: " if num_jobs > 1 else ""
                        job = pool.submit(_run_labelled, label, prefix, command, environment, descriptors, children)
                        running[job] = name
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                for job in ended:
                    job.result()
                    name = running.pop(job)
                    left[name] -= 1
                    if not left[name]:
                        sorter.done(name)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in children:
                child.terminate()
            raise


def run_command(
    command: Command,
    environment: Mapping[str, str] | None = None,
    descriptors: Sequence[int] = (),
    *,
    prefix: str = "",
    children: list[subprocess.Popen[str]] | None = None,
) -> None:
    """Run a command to its end, its lines behind a prefix where there is one.

    Args:
        command: Program and arguments.
        environment: See `run_steps`.
        descriptors: See `run_steps`.
        prefix: Of each line.
        children: Where the process is noted, for others to stop it.

    Raises:
        CommandError: It failed.
    """
    out, err = (subprocess.PIPE, subprocess.STDOUT) if prefix else (None, None)
    with subprocess.Popen(command, env=environment, pass_fds=descriptors, stdout=out, stderr=err, text=True) as child:
        if children is not None:
            children.append(child)
        try:
            for line in child.stdout or ():
                click.echo(f"{prefix}{line}", nl=False, err=True)
            child.wait()
        except BaseException:
            child.kill()
            raise
    if child.returncode:
        raise CommandError(f"{' '.join(command[2:])} ended with {child.returncode}; see above.")


def _run_labelled(
    label: str,
    prefix: str,
    command: Command,
    environment: Mapping[str, str] | None,
    descriptors: Sequence[int],
    children: list[subprocess.Popen[str]],
) -> None:
    click.echo(f"> {label}", err=True)
    run_command(command, environment, descriptors, prefix=prefix, children=children)
