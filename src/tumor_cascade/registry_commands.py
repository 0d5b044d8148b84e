"""The commands around tracking and registry. What they need is imported when they run: `--help` stays instant."""

import signal
from pathlib import Path

import click

from tumor_cascade.commands import ANY_PATH, format_examples, params_option, set_option, warn
from tumor_cascade.params import STAGES

SETTINGS = (
    "Settings: TUMOR_CASCADE_MLFLOW_PORT (5000), TUMOR_CASCADE_POSTGRES_PORT (5434), TUMOR_CASCADE_S3_PORT (8333; the "
    "eight ports after it and the one 10,008 above are taken too), TUMOR_CASCADE_SERVICES_HOST (127.0.0.1)."
)


@click.command(
    short_help="Show what the stages have written in MLflow.",
    epilog=format_examples("track", "track --watch", "track --artifacts elsewhere/artifacts"),
)
@click.option("--artifacts", type=ANY_PATH, default="artifacts", show_default=True, help="Outputs of `dvc repro`.")
@params_option
@click.option("--watch", "is_watching", is_flag=True, help="Go on until stopped.")
@click.option("--record", type=ANY_PATH, hidden=True, help="Of one execution; used by the stages themselves.")
def track(artifacts: Path, params_path: Path, is_watching: bool, record: Path | None) -> None:
    """Show what the stages have written in MLflow: one run per pipeline, one below it per stage and fold.

    Only what is missing is written, so it may be repeated at any time. The server is MLFLOW_TRACKING_URI; without it
    the file mlflow.db here, which `mlflow ui` shows. Where it is set, stages do all this by themselves.
    """
    from tumor_cascade.registry import tracking, watching

    if record is not None:
        watching.watch_execution(record) if is_watching else tracking.track_execution(record)
        return
    if is_watching:
        watching.watch_artifacts(artifacts, params_path)
    for label, run in tracking.track_artifacts(artifacts, params_path):
        click.echo(f"{label}: {run.info.run_id}")
    click.echo(f"See {tracking.link_pages(run.info.experiment_id)}")


@click.group(epilog=f"{format_examples('services up', 'services status', 'services down')}\n\n{SETTINGS}")
def services() -> None:
    """MLflow on PostgreSQL, artifacts on an S3 server: started and stopped on this machine."""


data_option = click.option(
    "--data", type=ANY_PATH, default="services", show_default=True, help="Folder of data, keys and logs."
)
host_option = click.option(
    "--host",
    envvar="TUMOR_CASCADE_SERVICES_HOST",
    default="127.0.0.1",
    show_default=True,
    help="Address of this machine to listen on, e.g. the gateway of a Docker network. Not one that strangers reach.",
)


@services.command()
@data_option
@host_option
def up(data: Path, host: str) -> None:
    """Start the servers that do not run and wait until all answer."""
    from tumor_cascade.registry.services import Services

    found = Services.open(data, host)
    started = found.up()
    click.echo(f"Started: {', '.join(started) or 'nothing, all run'}")
    for line in found.describe():
        click.echo(line)


@services.command()
@data_option
def down(data: Path) -> None:
    """Stop the servers; data stay."""
    from tumor_cascade.registry.services import Services

    click.echo(f"Stopped: {', '.join(Services.open(data).down()) or 'nothing ran'}")


@services.command()
@data_option
@click.option(
    "--host", envvar="TUMOR_CASCADE_SERVICES_HOST", help="Address to show.  [default: the one that they listen on]"
)
def status(data: Path, host: str | None) -> None:
    """Print which servers run, where, and what to put into the environment; exit 1 unless all run."""
    from tumor_cascade.registry.services import Services

    found = Services.open(data, host) if host else Services.open(data).where_they_run()
    for line in found.describe():
        click.echo(line)
    raise SystemExit(0 if found.is_complete() else 1)


known_artifacts_option = click.option(
    "--artifacts", type=ANY_PATH, default="artifacts", show_default=True, help="Outputs of `dvc repro`, where they are."
)


@click.command(
    short_help="Print the chain from a product to its data and check every hash.",
    epilog=format_examples("explain champion", "explain 3", "explain artifacts/assemble_cascade/cascade"),
)
@click.argument("product", metavar="VERSION_OR_FOLDER")
@known_artifacts_option
def explain(product: str, artifacts: Path) -> None:
    """Print the chain from a version of tumor-cascade, or a cascade's folder, to its data; exit 3 if it is broken.

    Every hash that can be reached is computed again. `other` marks what is true but not of this checkout.
    """
    from tumor_cascade.registry.lineage import BrokenChainError
    from tumor_cascade.registry.lineage import explain as list_findings
    from tumor_cascade.registry.origin import open_product

    with open_product(product) as opened:
        findings = list(list_findings(opened, artifacts))
    for finding in findings:
        click.echo(finding)
    broken = sum(finding.state == "BROKEN" for finding in findings)
    if broken:
        raise BrokenChainError(f"{product} is not what it says it is: {broken} of {len(findings)} lines are BROKEN.")


@click.command(
    short_help="Print, or run, the commands that make a product again.",
    epilog=format_examples("reproduce champion", "reproduce champion --params", "reproduce 3 --run"),
)
@click.argument("product", metavar="VERSION_OR_FOLDER")
@known_artifacts_option
@click.option("--params", "is_params_wanted", is_flag=True, help="Print the params file only.")
@click.option("--run", "is_run_wanted", is_flag=True, help="Run the commands, in a work tree under build/reproduce.")
def reproduce(product: str, artifacts: Path, is_params_wanted: bool, is_run_wanted: bool) -> None:
    """Print the commands that make a version of tumor-cascade, or a cascade's folder, again from data/raw."""
    from tumor_cascade.registry import reproduction
    from tumor_cascade.registry.origin import open_product

    with open_product(product) as opened:
        origin = reproduction.find_origin(opened, artifacts)
        if is_params_wanted:
            click.echo(origin.render_params(), nl=False)
            return
        if origin.is_dirty:
            warn(f"Made with uncommitted changes beside commit {origin.commit}: they are lost unless you have them.")
        if not is_run_wanted:
            for line in reproduction.list_commands(origin, product):
                click.echo(line)
            return
        is_equal = reproduction.run_commands(origin, opened)
    click.echo("Same bytes." if is_equal else "Same content, other bytes: floats depend on CPU or GPU and on threads.")


@click.command(
    short_help="Run all stages and offer the product to the gate.",
    epilog=format_examples(
        "pipeline", 'pipeline --promote --set "train_segmenter.fn_weight=0.8"', "pipeline --without-dvc --jobs 10"
    ),
)
@set_option
@click.option("--promote", "has_promotion", is_flag=True, help="Judge the product; a refusal is no failure.")
@click.option(
    "--without-dvc", is_flag=True, help="Run every command of dvc.yaml; trainings carry on where they stopped."
)
@click.option("--skip", "skipped", multiple=True, type=click.Choice(STAGES), help="Leave a stage out, without DVC.")
@click.option(
    "--jobs",
    "num_jobs",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Commands that run at the same time, without DVC: the folds' trainings need nothing of each other.",
)
def pipeline(
    overrides: tuple[str, ...], has_promotion: bool, without_dvc: bool, skipped: tuple[str, ...], num_jobs: int
) -> None:
    """Run `dvc repro`, with values of params.yaml overridden for this once; the file is as before afterwards."""
    from tumor_cascade.whole_pipeline import PARAMS_PATH, run_pipeline

    if (skipped or num_jobs > 1) and not without_dvc:
        raise click.UsageError("--skip and --jobs go with --without-dvc: DVC decides itself what has to run, and when.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: params.yaml is put back
    run_pipeline(
        PARAMS_PATH,
        overrides,
        has_promotion=has_promotion,
        has_dvc=not without_dvc,
        skipped=skipped,
        num_jobs=num_jobs,
    )


REGISTRY_COMMANDS = (pipeline, track, services, explain, reproduce)
