"""`tumor-cascade-pipeline`: compile pipelines for a cluster, run one on this machine, submit one."""

import sys
from pathlib import Path

import click

from pipelines.catalog import PIPELINES, compile_pipeline
from pipelines.engine_commands import ENGINE_COMMANDS
from pipelines.placement import DEFAULT_PATH, read_placement
from pipelines.plan import RawData, build_plan, is_pinned
from tumor_cascade import __version__
from tumor_cascade.cli import ErrorGroup

PATH = click.Path(path_type=Path)


@click.group(cls=ErrorGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__)
def main() -> None:
    """Kubeflow pipelines of the tumor cascade. Research use only."""


@main.command(name="compile")
@click.option("--pipeline", "name", type=click.Choice(list(PIPELINES)), default="train_cascade", show_default=True)
@click.option("--image", required=True, help="Of all tasks, by digest: registry/name@sha256:...")
@click.option("--reference", type=PATH, help="Data that DVC has versioned: a file of `tumor-cascade data reference`.")
@click.option("--raw", default="", help="Raw data: s3://bucket/key-or-prefix.")
@click.option("--placement", type=PATH, default=DEFAULT_PATH, show_default="pipelines/placement.yaml")
@click.option("--params", "params_path", type=PATH, default="params.yaml", show_default=True)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override values of the params file.")
@click.option("--out", type=PATH, required=True, help="YAML file to write.")
def compile_command(
    name: str,
    image: str,
    reference: Path | None,
    raw: str,
    placement: Path,
    params_path: Path,
    overrides: tuple[str, ...],
    out: Path,
) -> None:
    """Write a pipeline as YAML."""
    if not is_pinned(image):
        click.secho(f"{image}: a tag can be moved; name the image by digest.", err=True, fg="yellow")
    data = RawData(raw, "" if reference is None else reference.read_text(encoding="utf-8"))
    plan = build_plan(image, params_path, overrides, data, read_placement(placement))
    compile_pipeline(name, plan, out)
    click.echo(f"Written: {out}")


for _command in ENGINE_COMMANDS:
    main.add_command(_command)


if __name__ == "__main__":
    sys.exit(main())
