"""The command line: one sub-command per stage, and what a person does around them."""

import errno
import importlib
import sys
from pathlib import Path
from typing import Any

import click

from tumor_cascade import __version__, params
from tumor_cascade.checkpoint_store import await_restored
from tumor_cascade.commands import ANY_PATH, COMMANDS, format_examples, params_option, set_option
from tumor_cascade.data_commands import DATA_COMMANDS
from tumor_cascade.data_flags import DATA_INPUTS, INGEST_OPTIONS, run_on_folders
from tumor_cascade.errors import ParamsError, TumorCascadeError
from tumor_cascade.executor_output import write_executor_output
from tumor_cascade.pod_options import (
    NETWORKS,
    executor_input_option,
    lay_out_networks,
    params_json_option,
    read_values,
    require_making,
    unwrap_single,
)
from tumor_cascade.promotion_commands import PROMOTION_COMMANDS
from tumor_cascade.registry.stage_log import record_execution
from tumor_cascade.registry_commands import REGISTRY_COMMANDS
from tumor_cascade.results_commands import RESULTS_COMMANDS
from tumor_cascade.stages.interface import ACTS, INTERFACES, StageInterface

EXIT_CODES = (
    "Exit codes: 2 wrong params or flags, 3 data or artifacts that break their contract, 4 promotion refused where "
    "that was to be fatal; 1 anything else: with a message a server, a run or a check that failed, with a traceback a "
    "bug."
)


UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)


class ErrorGroup(click.Group):
    """Shows our own errors as text, and a disk that takes nothing; anything else keeps its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a sub-command."""
        try:
            return super().invoke(ctx)
        except TumorCascadeError as error:
            click.secho(f"{ctx.invoked_subcommand}: {error}", err=True, fg="red")
            ctx.exit(error.exit_code)
        except OSError as error:
            if error.errno not in UNWRITABLE or error.filename is None:
                raise
            where = Path(error.filename).parent
            remedy = "make room, allow it, or name another folder"
            click.secho(f"{ctx.invoked_subcommand}: {error.strerror}, in {where}; {remedy}.", err=True, fg="red")
            ctx.exit(ParamsError.exit_code)


class Group(ErrorGroup):
    """Lists stages apart from other commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of use."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write three lists, the stages in the order in which they run."""
        parts = {
            "Stages, in the order in which `dvc repro` runs them": list(INTERFACES),
            "After them, on the registry that people share": list(ACTS),
            "Other commands": [name for name in self.commands if name not in (*INTERFACES, *ACTS)],
        }
        for title, names in parts.items():
            with formatter.section(title):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(90)) for name in names])


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog=f"{format_examples('configure smoke', 'predict slice.png', 'COMMAND --help')}\n\n{EXIT_CODES}",
)
@click.version_option(__version__)
def main() -> None:
    """Brain MRI tumor cascade, from raw slices to an evaluated two-model product. Research use only."""


def build_stage_command(stage: str, interface: StageInterface) -> click.Command:
    """Return the sub-command of a stage: its params section, its inputs and its outputs as flags."""

    def run(
        params_path: Path,
        overrides: tuple[str, ...],
        params_json: str | None,
        executor_input: str | None,
        **flags: Any,
    ) -> None:
        require_making(stage)
        values, origin = read_values(stage, params_path, overrides, params_json)
        section = params.parse_section(values, stage, origin)

        def execute(**laid: Any) -> None:
            if interface.has_fold:
                await_restored()
            with record_execution(stage, values, laid):
                getattr(importlib.import_module(f"tumor_cascade.stages.{stage}"), stage)(section, **laid)

        with lay_out_networks(flags) as laid:
            run_on_folders(section, laid, execute)
        write_executor_output(stage, executor_input, flags)

    nouns = (*interface.inputs, *(f"out-{noun}" for noun in interface.outputs))
    flags = " ".join(f"--{noun} {noun.upper()}" for noun in nouns)
    example = f"{stage} {'--fold 0 ' if interface.has_fold else ''}{flags}"
    command = click.Command(stage, callback=run, help=interface.summary, epilog=format_examples(example))
    ingest_options = INGEST_OPTIONS if stage == "ingest_data" else ()
    for option in (params_option, set_option, params_json_option, executor_input_option, *ingest_options):
        command = option(command)
    if interface.has_fold:
        command.params.append(click.Option(["--fold"], type=click.IntRange(0), required=True, help="Validation fold."))
    command.params += [build_path_option(noun) for noun in nouns]
    return command


def build_path_option(noun: str) -> click.Option:
    """Return the flag of an artifact."""
    if noun in NETWORKS:
        text = "Input: the folder of all folds, or one network; may be repeated."
        return click.Option(
            [f"--{noun}"], type=ANY_PATH, required=True, multiple=True, callback=unwrap_single, help=text
        )
    kind, text = DATA_INPUTS.get(noun, (ANY_PATH, "Output." if noun.startswith("out-") else "Input."))
    return click.Option([f"--{noun}"], type=kind, required=True, help=text)


_STAGE_COMMANDS = (build_stage_command(*item) for item in INTERFACES.items())
for _command in (
    *_STAGE_COMMANDS,
    *PROMOTION_COMMANDS,
    *DATA_COMMANDS,
    *COMMANDS,
    *RESULTS_COMMANDS,
    *REGISTRY_COMMANDS,
):
    main.add_command(_command)


if __name__ == "__main__":
    sys.exit(main())
