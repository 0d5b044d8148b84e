"""The command `tumor-cascade-pipeline run`."""

import signal
from pathlib import Path

import click

from pipelines.compile_command import PATH, choose_data
from pipelines.placement import read_placement
from pipelines.plan import build_plan
from tumor_cascade.registry_commands import SETTINGS

LOCAL = ("train_cascade", "cross_validate")


@click.command(
    epilog=f"{SETTINGS} Threads: OMP_NUM_THREADS, TUMOR_CASCADE_NUM_THREADS.",
    short_help="Run a pipeline in containers on this machine.",
)
@click.option("--local", is_flag=True, required=True, expose_value=False, help="Here; on a cluster: submit.")
@click.option("--pipeline", "name", type=click.Choice(LOCAL), default=LOCAL[0], show_default=True)
@click.option("--image", default="tumor-cascade:cpu", show_default=True, help="name:tag, as `make image` builds it.")
@click.option("--reference", type=PATH, help="Data that DVC has versioned: a file of `tumor-cascade data reference`.")
@click.option("--raw", default="", help="Raw data in the S3 server: s3://bucket/key-or-prefix.")
@click.option("--params", "params_path", type=PATH, default="params.yaml", show_default=True, help="Params file.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override values of the params file.")
@click.option("--root", type=PATH, default="runs/pipelines", show_default=True, help="Folder for outputs.")
@click.option("--services", type=PATH, default="services", show_default=True, help="Folder of the servers' data.")
@click.option("--memory", default="6g", show_default=True, help="Limit of each container.")
def run(
    name: str,
    image: str,
    reference: Path | None,
    raw: str,
    params_path: Path,
    overrides: tuple[str, ...],
    root: Path,
    services: Path,
    memory: str,
) -> None:
    """Run a pipeline on this machine's Docker engine, task after task.

    MLflow on PostgreSQL and an S3 server are started on the gateway of an internal Docker network and go on afterwards
    (`tumor-cascade services down` stops them). Containers run without any privilege over a root file system that they
    cannot write, and reach these servers only.
    """
    from pipelines.local_run import LocalRun, read_decision, run_locally

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: no container outlives the run
    plan = build_plan(image, params_path, overrides, choose_data(None, reference, raw), read_placement())
    folder = run_locally(LocalRun(name, root, services, memory), plan)
    decision = read_decision(folder)
    if decision is not None:
        click.secho(f"{decision['verdict']}: {decision['sentence']}", bold=True)
    click.echo(f"Outputs: {folder}")
