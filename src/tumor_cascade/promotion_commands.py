"""The commands of promotion and of the registry's upkeep. What they need is imported when they run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from tumor_cascade import RESEARCH_USE
from tumor_cascade.commands import ANY_PATH, EXISTING, format_examples, params_option, set_option, warn
from tumor_cascade.data_flags import DATA_INPUTS, localize_slices
from tumor_cascade.errors import DataError, PromotionRefused
from tumor_cascade.executor_output import write_executor_output
from tumor_cascade.params import EvaluateCascadeParams, IngestDataParams, parse_section
from tumor_cascade.pod_options import executor_input_option, params_json_option, read_values, require_making
from tumor_cascade.stages.interface import ACTS

if TYPE_CHECKING:
    from tumor_cascade.stages.promote_cascade import JudgedPatients

SETTINGS = (
    "Settings: MLFLOW_TRACKING_URI (else mlflow.db here); TUMOR_CASCADE_LEDGER, a folder or s3://bucket/prefix (else "
    "`promotions` beside that file, or in the artifacts' bucket)."
)
# Where `dvc repro` leaves what a promotion reads, and where its decision goes.
PATHS = {
    "cascade": "artifacts/assemble_cascade/cascade",
    "report": "artifacts/evaluate_cascade/report",
    "slices": "artifacts/ingest_data/slices",
    "manifest": "artifacts/ingest_data/manifest.parquet",
    "splits": "artifacts/split_data/splits",
    "out-decision": "artifacts/promote_cascade/decision",
}
COLORS = {"promote": "green", "refuse": "red", "abstain": "yellow"}


def build_promotion_command() -> click.Command:
    """Return `promote_cascade`: artifacts as flags, like a stage's, all with defaults."""
    interface = ACTS["promote_cascade"]
    examples = ("promote_cascade", "promote_cascade --data new-patients --require-promotion")
    command = click.Command(
        "promote_cascade",
        callback=promote,
        short_help=interface.summary,
        help=(
            f"{interface.summary}\n\nCandidate and champion are scored on the same patients, whom neither has learned "
            "from. Each verdict is an entry in the ledger; a refusal or an abstention is a result, not a failure."
        ),
        epilog=f"{format_examples(*examples)}\n\n{SETTINGS}",
    )
    for option in (
        click.option("--policy", type=ANY_PATH, help="Rules, a committed file; by default policies/ knows the data."),
        click.option("--data", type=EXISTING, help="Judge on all patients of this folder or zip, with masks."),
        click.option("--layout", type=click.Choice(["kaggle", "images"]), default="kaggle", show_default=True),
        click.option("--require-promotion", "is_required", is_flag=True, help="Exit 4 unless it is champion then."),
        params_option,
        set_option,
        params_json_option,
        executor_input_option,
    ):
        command = option(command)
    for noun in (*interface.inputs, *(f"out-{noun}" for noun in interface.outputs)):
        kind, text = DATA_INPUTS.get(noun, (ANY_PATH, "Output." if noun.startswith("out-") else "Input."))
        command.params.append(click.Option([f"--{noun}"], type=kind, default=PATHS[noun], show_default=True, help=text))
    return command


@contextmanager
def judged_patients(
    data: Path | None, layout: Literal["kaggle", "images"], values: dict[str, Any], origin: str
) -> Iterator["JudgedPatients | None"]:
    """Yield the patients of a folder or zip, ingested for the while; None where none is named.

    Args:
        data: Folder or zip.
        layout: How it lies.
        values: Params as plain values.
        origin: What to call their source in messages.
    """
    if data is None:
        yield None
        return
    from tumor_cascade.labelled_folder import LabelledFolder, ingested_folder
    from tumor_cascade.stages.promote_cascade import JudgedPatients

    params = parse_section(values, "ingest_data", origin)
    assert isinstance(params, IngestDataParams)
    with ingested_folder(LabelledFolder(data, layout, params)) as (slices, manifest):
        yield JudgedPatients(slices, manifest, data.name)


def promote(
    params_path: Path,
    overrides: tuple[str, ...],
    params_json: str | None,
    executor_input: str | None,
    policy: Path | None,
    data: Path | None,
    layout: Literal["kaggle", "images"],
    is_required: bool,
    **flags: Path,
) -> None:
    """Run the stage and tell its verdict."""
    from tumor_cascade.registry.checkout import describe_checkout
    from tumor_cascade.registry.policy import choose_policy
    from tumor_cascade.registry.shared import open_shared
    from tumor_cascade.stages.promote_cascade import PromotionSettings, promote_cascade, read_source

    require_making("promote_cascade")
    values, origin = read_values("promote_cascade", params_path, overrides, params_json)
    scoring = parse_section(values, "evaluate_cascade", origin)
    assert isinstance(scoring, EvaluateCascadeParams)
    flags = localize_slices(flags)
    settings = PromotionSettings(
        policy_path=policy or choose_policy(read_source(flags["slices"])),
        params=scoring,
        shared=open_shared(),
        checkout=describe_checkout(),
    )
    click.echo(f"Ledger: {settings.shared.store.url}")
    if data is None:
        warn("Judged on the locked test set, which this opens; --data judges on other patients.")
    with judged_patients(data, layout, values, origin) as judged:
        outcome = promote_cascade(replace(settings, judged=judged), **flags)
    write_executor_output("promote_cascade", executor_input, flags)
    entry = outcome.entry
    earlier = "" if outcome.is_new else ", as entered before"
    click.secho(f"Version {entry.to.version}: {entry.why}", fg=COLORS.get(entry.kind))
    click.echo(
        f"Ledger entry {entry.sequence} ({entry.kind}){earlier}. See {flags['out_decision'] / 'comparison.html'}"
    )
    click.echo(RESEARCH_USE)
    if is_required and not outcome.is_promoted:
        raise PromotionRefused(f"version {entry.to.version} is not champion: {entry.why}")


@click.group(
    epilog=f"{format_examples('registry list', 'registry audit', 'registry rollback --why REASON')}\n\n{SETTINGS}"
)
def registry() -> None:
    """Look after registered versions: list, audit, recover, roll back."""


def open_registry() -> Any:
    """Return registry and ledger, and say where the ledger is."""
    from tumor_cascade.registry.shared import open_shared

    shared = open_shared()
    click.echo(f"Ledger: {shared.store.url}")
    return shared


@registry.command(name="list")
def list_versions() -> None:
    """List all versions with their aliases and last ledger entries."""
    from tumor_cascade.registry.upkeep import list_registered

    shared = open_registry()
    for one in list_registered(shared.registry, shared.read_chain()):
        last = one.entry
        story = "never judged" if last is None else f"entry {last.sequence}, {last.time}, {last.who}: {last.why}"
        click.echo(f"{one.ref.version:>4}  {one.ref.content_id[:12]}  {','.join(one.aliases) or '-':<10}  {story}")


@registry.command()
def recover() -> None:
    """Make aliases, tags and descriptions what the ledger says, after an interrupted promotion or edits by hand."""
    from tumor_cascade.registry.upkeep import recover as recover_registry

    shared = open_registry()
    changes = recover_registry(shared.registry, shared.store)
    for change in changes:
        click.echo(change)
    click.echo(f"Changes: {len(changes)}")


@registry.command(
    epilog=format_examples('registry rollback --why "misses small tumors"', "registry rollback --to 3 --why ...")
)
@click.option("--why", required=True, help="In a sentence; it stays in the ledger.")
@click.option("--to", "version", type=click.IntRange(1), help="An earlier champion; by default the one before.")
def rollback(why: str, version: int | None) -> None:
    """Make an earlier champion champion again, with a ledger entry of its own."""
    from tumor_cascade.registry.upkeep import roll_back

    shared = open_registry()
    entry = roll_back(shared.registry, shared.store, why, version)
    click.echo(f"Version {entry.to.version} is champion; ledger entry {entry.sequence}.")


@registry.command()
def audit() -> None:
    """Compare aliases, tags and every file with the ledger, and the ledger with itself; exit 3 on any difference."""
    from tumor_cascade.registry.upkeep import audit as audit_registry

    shared = open_registry()
    findings = audit_registry(shared.registry, shared.store)
    if findings:
        raise DataError(findings, "the audit has found:")
    click.echo("No differences: ledger, aliases, tags and files agree.")


@registry.command()
@click.argument("version", default="champion")
def card(version: str) -> None:
    """Print the model card of VERSION, a number or an alias; by default the champion's."""
    from tumor_cascade.registry.upkeep import read_model_card

    shared = open_registry()
    click.echo(read_model_card(shared.registry, shared.store, shared.read_chain(), version))


PROMOTION_COMMANDS = (build_promotion_command(), registry)
