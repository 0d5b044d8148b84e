"""`tumor-cascade data`: packed slices in a store, for machines without DVC. What it needs is imported when it runs."""

from pathlib import Path

import click

from tumor_cascade.commands import ANY_PATH, EXISTING, format_examples
from tumor_cascade.errors import ParamsError
from tumor_cascade.out_folder import check_out_folder
from tumor_cascade.settings import get_data_cache

HEAD = "HEAD"
repository_option = click.option(
    "--repository",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=".",
    show_default=True,
    help="A checkout of this project.",
)
store_option = click.option("--store", help="Where `dvc push` has put them; by default the revision's DVC remote.")
rev_option = click.option("--rev", help="Git revision whose dvc.lock names the slices.  [default: HEAD]")


@click.group(
    short_help="Name, verify and fetch slices that `dvc push` has put into a store.",
    epilog=format_examples("data verify", "data reference --rev v1.2 > slices.json", "data fetch slices.json data"),
)
def data() -> None:
    """Name, verify and fetch packed slices in the store that `dvc push` fills; neither DVC nor its locks are used."""


@data.command(
    short_help="Print the data reference of a git revision.",
    epilog=format_examples("data reference", "data reference --rev v1.2 --store s3://bucket/tumor-cascade"),
)
@rev_option
@store_option
@repository_option
def reference(rev: str | None, store: str | None, repository: Path) -> None:
    """Print the data reference of a git revision: what `--slices` and `ingest_data --reference` take."""
    from tumor_cascade.data_plane.revision import resolve_revision

    click.echo(resolve_revision(repository, rev or HEAD, store).model_dump_json(indent=2))


@data.command(
    short_help="Find missing and corrupt objects.",
    epilog=format_examples("data verify", "data verify --rev v1.2", "data verify slices.json"),
)
@click.argument("reference", type=EXISTING, required=False)
@rev_option
@store_option
@repository_option
def verify(reference: Path | None, rev: str | None, store: str | None, repository: Path) -> None:
    """Read every byte of the slices in their store; exit 3 with the name of each missing or corrupt object.

    By default of the revision HEAD; with REFERENCE, a file, of what it names.
    """
    from tumor_cascade.data_plane.revision import find_remote, resolve_revision
    from tumor_cascade.data_plane.verification import verify as verify_reference
    from tumor_cascade.data_reference import read_reference
    from tumor_cascade.object_store import open_store

    if reference is not None and (rev or store):
        raise ParamsError("data verify takes REFERENCE or --rev and --store, not both; leave one out.")
    if reference is not None:
        found = read_reference(reference)
        place = open_store(found.store)
    else:
        found = resolve_revision(repository, rev or HEAD, store)
        place = find_remote(repository, rev or HEAD, store).open()
    verify_reference(found, place)
    click.echo(f"Complete: {found.num_files} files, {found.num_bytes:,} bytes and their manifest in {place.url}")


@data.command(short_help="Fetch slices and manifest.", epilog=format_examples("data fetch slices.json data"))
@click.argument("reference", type=EXISTING)
@click.argument("out", type=ANY_PATH)
def fetch(reference: Path, out: Path) -> None:
    """Fetch what REFERENCE names to OUT/slices and OUT/manifest.parquet, through the node's cache.

    Cache: TUMOR_CASCADE_DATA_CACHE, by default ~/.cache/tumor-cascade/data. What is whole in it is not fetched again.
    """
    import shutil

    from tumor_cascade.data_plane.cache import fetch as fetch_slices
    from tumor_cascade.data_plane.verification import fetch_manifest
    from tumor_cascade.data_reference import read_reference
    from tumor_cascade.object_store import open_store
    from tumor_cascade.storage import atomic_dir

    check_out_folder(out, [reference])
    found = read_reference(reference)
    store = open_store(found.store)
    fetched = fetch_slices(found, store, get_data_cache())
    with atomic_dir(out) as folder:
        shutil.copytree(fetched.folder, folder / "slices")
        (folder / "manifest.parquet").write_bytes(fetch_manifest(store, found))
    click.echo(f"{fetched.describe()}; in {out}")


DATA_COMMANDS = (data,)
