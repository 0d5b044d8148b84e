"""`tumor-cascade-pipeline`: compile pipelines for a cluster, run one on this machine, submit one."""

import sys

import click

from pipelines.compile_command import compile_command
from pipelines.engine_commands import ENGINE_COMMANDS
from pipelines.run_command import run
from pipelines.submit_command import submit
from tumor_cascade import __version__
from tumor_cascade.cli import ErrorGroup


@click.group(cls=ErrorGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__)
def main() -> None:
    """Kubeflow pipelines of the tumor cascade. Research use only."""


for _command in (compile_command, run, submit, *ENGINE_COMMANDS):
    main.add_command(_command)


if __name__ == "__main__":
    sys.exit(main())
