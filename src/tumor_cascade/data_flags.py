"""Around a stage of the command line: slices that come as a reference, go to a store, or start in a bucket.

A stage reads and writes folders. In a pod `--slices` and `--out-slices` are references instead: the folder is fetched
before the stage runs, or published after it. Nothing of this enters an output: its bytes decide, not their way here.
"""

import contextlib
import errno
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel

from tumor_cascade.errors import DataError, ParamsError
from tumor_cascade.pod_options import StoredPath
from tumor_cascade.settings import get_data_cache, get_data_store
from tumor_cascade.storage import hash_file, temporary_dir

# Type and help of input flags that take more than a path.
DATA_INPUTS: dict[str, tuple[Any, str]] = {
    "raw": (StoredPath(path_type=Path), "Input: a folder, a zip, or s3://bucket/key-or-prefix; '' for the phantom."),
    "slices": (click.Path(path_type=Path), "Input: a folder, or a data reference, whose slices are fetched first."),
}
INGEST_OPTIONS = (
    click.option(
        "--data-store",
        metavar="URL",
        help="Publish the slices to this folder or s3://bucket/prefix ('': TUMOR_CASCADE_DATA_STORE) and write a "
        "data reference in place of the folder.",
    ),
    click.option(
        "--reference",
        metavar="JSON",
        help="Ingest nothing: check the slices of this data reference (a file or its text) and pass it on.",
    ),
)


def run_on_folders(section: BaseModel, flags: Mapping[str, Any], execute: Callable[..., None]) -> None:
    """Run a stage with folders in the place of references, stores and buckets.

    Args:
        section: Params of the stage.
        flags: As the command line gives them.
        execute: Runs the stage with the flags that its function has.

    Raises:
        ParamsError: Flags that contradict each other or the params.
        DataError: Data that cannot be fetched or published.
    """
    paths = {name: value for name, value in flags.items() if name not in ("data_store", "reference")}
    if flags.get("reference"):
        pass_on_reference(section, flags["reference"], paths)
        return
    with (
        local_raw(localize_slices(paths), needs_raw=getattr(section, "source", "phantom") != "phantom") as with_raw,
        published_slices(with_raw, flags.get("data_store")) as folders,
    ):
        execute(**folders)


def localize_slices(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags of a stage with a folder in the place of a reference.

    Args:
        flags: As the command line gives them; where `slices` is a file, it is a data reference.

    Raises:
        DataError: The slices cannot be fetched, or the manifest is another one.
    """
    slices, manifest = flags.get("slices"), flags.get("manifest")
    if not isinstance(slices, Path) or not slices.is_file():
        return dict(flags)
    from tumor_cascade.data_plane.cache import fetch
    from tumor_cascade.data_reference import read_reference
    from tumor_cascade.object_store import open_store

    reference = read_reference(slices)
    if manifest is not None and manifest.is_file() and hash_file(manifest) != reference.manifest.sha256:
        raise DataError(f"{manifest} is not the manifest of the slices in {slices}; give both of one ingest.")
    fetched = fetch(reference, open_store(reference.store), get_data_cache())
    click.echo(fetched.describe(), err=True)
    return {**flags, "slices": fetched.folder}


@contextlib.contextmanager
def published_slices(flags: Mapping[str, Any], data_store: str | None) -> Iterator[dict[str, Any]]:
    """Yield the flags of `ingest_data` with a folder to write to; publish it once the stage has ended well.

    Args:
        flags: As the command line gives them.
        data_store: A store; empty for TUMOR_CASCADE_DATA_STORE; None where the slices stay a folder.

    Raises:
        ParamsError: No store is named, or `--out-slices` is a folder.
        DataError: The store cannot be written.
    """
    if data_store is None:
        yield dict(flags)
        return
    url, out = data_store or get_data_store(), flags["out_slices"]
    if url is None:
        raise ParamsError("--data-store is empty and TUMOR_CASCADE_DATA_STORE is not set; name a store in one of them.")
    check_reference_path(out)
    from tumor_cascade.data_plane.publication import publish
    from tumor_cascade.data_reference import write_reference
    from tumor_cascade.object_store import open_store

    store = open_store(url)
    cache = get_data_cache()
    try:
        with temporary_dir(cache / "ingest") as scratch:
            yield {**flags, "out_slices": scratch / "slices"}
            publication = publish(scratch / "slices", flags["out_manifest"], store)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DataError(
            f"{cache}: {error.strerror}, and the slices stand there until they are published; free space, or name "
            "another folder in TUMOR_CASCADE_DATA_CACHE."
        ) from error
    write_reference(publication.reference, out)
    total = publication.reference.num_bytes
    click.echo(f"slices: {total:,} bytes in {store.url}, {publication.sent_bytes:,} sent with the manifest", err=True)


@contextlib.contextmanager
def local_raw(flags: Mapping[str, Any], *, needs_raw: bool) -> Iterator[dict[str, Any]]:
    """Yield the flags of `ingest_data` with raw data of a bucket in a temporary folder.

    Raises:
        ParamsError: `--raw` is empty where raw data are read.
        DataError: The raw data cannot be fetched.
    """
    raw = flags.get("raw")
    if needs_raw and raw == "":
        raise ParamsError("--raw is empty, which is for the phantom alone; name a folder, a zip or s3://bucket/prefix.")
    if not isinstance(raw, str):
        yield dict(flags)
        return
    if not needs_raw:
        yield {**flags, "raw": Path()}
        return
    from tumor_cascade.data_plane.raw_data import download_raw

    with download_raw(raw) as local:
        yield {**flags, "raw": local}


def pass_on_reference(section: BaseModel, text: str, flags: Mapping[str, Any]) -> None:
    """Take slices that are in a store already as the outputs of `ingest_data`.

    Args:
        section: Params of `ingest_data`, with which they must have been made.
        text: A file with a data reference, or its JSON text.
        flags: As the command line gives them.

    Raises:
        DataError: It is no reference, or its store has a hole.
        ParamsError: The slices were made with other params, or `--out-slices` is a folder.
    """
    check_reference_path(flags["out_slices"])
    from tumor_cascade.data_plane.handover import hand_over, take_reference

    reference = take_reference(text)
    hand_over(reference, section.model_dump(mode="json"), flags["out_slices"], flags["out_manifest"])
    click.echo(f"slices: {reference.num_bytes:,} bytes are in {reference.store}; nothing was ingested", err=True)


def check_reference_path(path: Path) -> None:
    """Refuse to write a reference in the place of a folder."""
    if path.is_dir():
        raise ParamsError(
            f"--out-slices {path} is a folder, and a data reference is a file; remove it or name another."
        )
