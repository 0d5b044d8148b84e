"""`tumor-cascade-pipeline trainjob` and `kserve`: manifests for engines beside pipelines."""

from pathlib import Path
from typing import Any

import click

from pipelines.compile_command import PATH, choose_data, warn_of_tag
from pipelines.inference_service import render_inference_service
from pipelines.placement import DEFAULT_PATH, read_placement
from pipelines.plan import build_plan
from pipelines.train_job import STAGES, render_train_job
from tumor_cascade.errors import ParamsError
from tumor_cascade.storage import atomic_file

image_option = click.option("--image", required=True, help="By digest: registry/name@sha256:...")
placement_option = click.option(
    "--placement", type=PATH, default=DEFAULT_PATH, show_default="pipelines/placement.yaml", help="Cluster settings."
)
out_option = click.option("--out", type=PATH, required=True, help="YAML file to write, for `kubectl apply -f`.")


@click.command(name="trainjob")
@click.argument("stage", type=click.Choice(STAGES))
@click.option("--fold", type=click.IntRange(0), required=True, help="Validation fold.")
@image_option
@click.option("--reference", type=PATH, help="Data that DVC has versioned: a file of `tumor-cascade data reference`.")
@click.option("--raw", default="", help="Raw data: s3://bucket/key-or-prefix; each node ingests them for itself.")
@placement_option
@click.option("--params", "params_path", type=PATH, default="params.yaml", show_default=True)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override values of the params file.")
@out_option
def train_job(
    stage: str,
    fold: int,
    image: str,
    reference: Path | None,
    raw: str,
    placement: Path,
    params_path: Path,
    overrides: tuple[str, ...],
    out: Path,
) -> None:
    """Write a training on several nodes as manifests of Kubeflow Trainer.

    Its result is its last checkpoint, in TUMOR_CASCADE_CHECKPOINT_STORE: a pipeline over the same data and params finds
    that this training has ended, and goes on from there.
    """
    warn_of_tag(image)
    data = choose_data(None, reference, raw)
    plan = build_plan(image, params_path, overrides, data, read_placement(placement))
    write_manifests(render_train_job(plan, stage, fold), out)


@click.command(name="kserve")
@image_option
@click.option("--alias", default="champion", show_default=True, help="Of tumor-cascade in the registry.")
@placement_option
@out_option
def kserve(image: str, alias: str, placement: Path, out: Path) -> None:
    """Write the version that an alias points to now as an InferenceService of KServe.

    The registry is MLFLOW_TRACKING_URI. Neither KServe nor the server asks for a login: that is the gateway's.
    """
    warn_of_tag(image)
    version, content_id = find_version(alias)
    write_manifests([render_inference_service(image, version, content_id, read_placement(placement))], out)
    click.echo(f"{alias}: version {version}, content {content_id[:12]}")


def find_version(alias: str) -> tuple[int, str]:
    """Return number and content_id of the version that an alias points to.

    Raises:
        ParamsError: There is no such alias.
        DataError: By the ledger, where it can be reached, it is another version's.
    """
    from tumor_cascade.registry.aliases import require_alias
    from tumor_cascade.registry.client import connect
    from tumor_cascade.registry.shared import find_ledger
    from tumor_cascade.registry.versions import PRODUCT, ModelRegistry

    registry = ModelRegistry(connect(), "")
    aliases, _ = registry.read_model()
    if alias not in aliases:
        known = ", ".join(sorted(aliases)) or "none"
        raise ParamsError(f"{PRODUCT} has no alias {alias} in this registry; it has: {known}. Promote a cascade first.")
    if (chain := find_ledger(registry)) is not None:
        require_alias(chain, alias, aliases[alias])
    contents = {one.ref.version: one.ref.content_id for one in registry.list_versions(PRODUCT)}
    return aliases[alias], contents[aliases[alias]]


def write_manifests(manifests: list[dict[str, Any]], out: Path) -> None:
    """Write manifests as one YAML file."""
    from ruamel.yaml import YAML

    yaml: Any = YAML(typ="safe", pure=True)
    yaml.default_flow_style, yaml.sort_base_mapping_type_on_output, yaml.width = False, False, 2**31
    with atomic_file(out) as temporary, temporary.open("w", encoding="utf-8") as stream:
        yaml.dump_all(manifests, stream)
    click.echo(f"Written: {out}")


ENGINE_COMMANDS = (train_job, kserve)
