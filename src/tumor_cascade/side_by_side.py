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
    children = _Children(num_jobs > 1, environment, descriptors)
    running: dict[Future[None], str] = {}
    with ThreadPoolExecutor(num_jobs) as pool:
        try:
            while sorter.is_active():
                for name in sorter.get_ready():
                    running |= {pool.submit(children.run, *one): name for one in steps[name].commands.items()}
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                for job in ended:
                    job.result()
                    name = running.pop(job)
                    left[name] -= 1
                    if not left[name]:
                        sorter.done(name)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            children.stop()
            raise


class _Children:
    """Processes that can be stopped from another thread, whether they have been started yet or not."""

    def __init__(self, is_labelled: bool, environment: Mapping[str, str] | None, descriptors: Sequence[int]) -> None:
        self.is_labelled, self.environment, self.descriptors = is_labelled, environment, descriptors
        self.started: list[subprocess.Popen[str]] = []
        self.is_stopped = False

    def run(self, label: str, command: Command) -> None:
        """Run a command to its end.

        Raises:
            CommandError: It failed, or was stopped.
        """
        click.echo(f"> {label}", err=True)
        out, err = (subprocess.PIPE, subprocess.STDOUT) if self.is_labelled else (None, None)
        with subprocess.Popen(
            command, env=self.environment, pass_fds=self.descriptors, stdout=out, stderr=err, text=True
        ) as child:
            self.started.append(child)
            if self.is_stopped:  # since before it was noted down
                child.terminate()
            for line in child.stdout or ():
                click.echo(f"{label}: {line}", nl=False, err=True)
        if child.returncode:
            raise CommandError(f"{' '.join(command[2:])} ended with {child.returncode}; see above.")

    def stop(self) -> None:
        """Stop what runs and whatever is started after this."""
        self.is_stopped = True
        for child in self.started:
            child.terminate()
