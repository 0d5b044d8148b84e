"""The command line: one sub-command per stage, and what a person does around them."""

import importlib
import sys
from pathlib import Path
from typing import Any

import click

from tumor_cascade import __version__, params
from tumor_cascade.errors import TumorCascadeError
from tumor_cascade.stages.interface import INTERFACES, StageInterface

PARAMS_FILE = click.Path(path_type=Path, dir_okay=False)
ANY_PATH = click.Path(path_type=Path)


class Group(click.Group):
    """Shows our own errors as text with their exit code; anything else is a bug and keeps its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a sub-command."""
        try:
            return super().invoke(ctx)
        except TumorCascadeError as error:
            click.secho(f"{ctx.invoked_subcommand}: {error}", err=True, fg="red")
            ctx.exit(error.exit_code)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__)
def main() -> None:
    """Brain MRI tumor cascade, from raw slices to an evaluated two-model product. Research use only.

    The stages run in this order; `dvc repro` runs them all:
    ingest_data, validate_data, split_data, train_classifier, train_segmenter, assemble_cascade, evaluate_cascade.
    """


def build_stage_command(stage: str, interface: StageInterface) -> click.Command:
    """Return the sub-command of a stage: its params section, its inputs and its outputs as flags."""
    options: list[click.Parameter] = [
        click.Option(
            ["--params", "params_path"], type=PARAMS_FILE, default="params.yaml", show_default=True, help="Params file."
        )
    ]
    if interface.has_fold:
        options.append(click.Option(["--fold"], type=click.IntRange(0), required=True, help="Validation fold."))
    options += [click.Option([f"--{noun}"], type=ANY_PATH, required=True, help="Input.") for noun in interface.inputs]
    options += [
        click.Option([f"--out-{noun}"], type=ANY_PATH, required=True, help="Output.") for noun in interface.outputs
    ]

    def run(params_path: Path, **flags: Any) -> None:
        section = params.read_section(params_path, stage)
        getattr(importlib.import_module(f"tumor_cascade.stages.{stage}"), stage)(section, **flags)

    flags = " ".join(
        f"--{flag} {flag.upper()}" for flag in (*interface.inputs, *(f"out-{n}" for n in interface.outputs))
    )
    epilog = f"Example: tumor-cascade {stage} {'--fold 0 ' if interface.has_fold else ''}{flags}"
    return click.Command(stage, params=options, callback=run, help=interface.summary, epilog=epilog)


for _stage, _interface in INTERFACES.items():
    main.add_command(build_stage_command(_stage, _interface))


if __name__ == "__main__":
    sys.exit(main())
