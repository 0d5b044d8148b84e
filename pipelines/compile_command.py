"""The command `tumor-cascade-pipeline compile`."""

from pathlib import Path

import click

from pipelines.catalog import INGESTING, PIPELINES, compile_pipeline
from pipelines.placement import DEFAULT_PATH, read_placement
from pipelines.plan import RawData, build_plan, is_pinned
from tumor_cascade.data_reference import read_reference
from tumor_cascade.errors import ParamsError
from tumor_cascade.pod_options import S3_SCHEME

PATH = click.Path(path_type=Path)


@click.command(name="compile")
@click.option("--pipeline", "name", type=click.Choice(list(PIPELINES)), default="train_cascade", show_default=True)
@click.option("--image", required=True, help="Of all tasks, by digest: registry/name@sha256:...")
@click.option("--rev", help="Git revision whose data are taken: those that `dvc push` has stored.")
@click.option("--reference", type=PATH, help="The same as a file: `tumor-cascade data reference > FILE`.")
@click.option("--raw", default="", help="Raw data instead: s3://bucket/key-or-prefix, ingested by the first task.")
@click.option(
    "--placement",
    type=PATH,
    default=DEFAULT_PATH,
    show_default="pipelines/placement.yaml",
    help="Nodes, limits, retries, names of secret and config map.",
)
@click.option("--params", "params_path", type=PATH, default="params.yaml", show_default=True, help="Params file.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override values of the params file.")
@click.option("--out", type=PATH, required=True, help="YAML file to write.")
def compile_command(
    name: str,
    image: str,
    rev: str | None,
    reference: Path | None,
    raw: str,
    placement: Path,
    params_path: Path,
    overrides: tuple[str, ...],
    out: Path,
) -> None:
    """Write a pipeline as YAML for `submit`, or for an upload by hand."""
    warn_of_tag(image)
    data = choose_data(rev, reference, raw)
    plan = build_plan(image, params_path, overrides, data, read_placement(placement), ingests=name in INGESTING)
    compile_pipeline(name, plan, out)
    click.echo(f"Written: {out}")


def warn_of_tag(image: str) -> None:
    """Say so where an image is not named by digest."""
    if not is_pinned(image):
        click.secho(f"{image}: a tag can be moved; name the image by digest for a cluster.", err=True, fg="yellow")


def choose_data(rev: str | None, reference: Path | None, raw: str) -> RawData:
    """Return what a pipeline starts from.

    Raises:
        ParamsError: More than one is named, or the revision is unknown.
        DataError: The revision has no data, or the file is no reference.
    """
    if sum(map(bool, (rev, reference, raw))) > 1:
        raise ParamsError("--rev, --reference and --raw name different data; give one of them.")
    if not rev and reference is None:
        return RawData(url=raw)
    if rev:
        from tumor_cascade.data_plane.revision import resolve_revision

        found = resolve_revision(Path(), rev)
    else:
        assert reference is not None
        found = read_reference(reference)
    if not found.store.startswith(S3_SCHEME):
        click.secho(f"{found.store}: a folder; pods must find it under the same path.", err=True, fg="yellow")
    return RawData(reference=found.model_dump_json())
