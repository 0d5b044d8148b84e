"""Slices that are in a store already take the place of an ingest: checked, then passed on."""

import json
from pathlib import Path
from typing import Any

from tumor_cascade.data_plane.objects import FaultyObject, read_directory, read_object, refuse_faults
from tumor_cascade.data_plane.verification import fetch_manifest, verify
from tumor_cascade.data_reference import DataReference, parse_reference, read_reference, write_reference
from tumor_cascade.errors import DataError, ParamsError
from tumor_cascade.object_store import ObjectStore, open_store
from tumor_cascade.storage import CONTENT_NAME, atomic_file

MAX_CONTENT_BYTES = 1 << 20


def hand_over(reference: DataReference, params: dict[str, Any], out_slices: Path, out_manifest: Path) -> None:
    """Write a reference and its manifest as the outputs of `ingest_data`.

    Each file is asked for its size alone: whoever fetches the slices reads and checks every byte.

    Args:
        reference: To slices in a store.
        params: Of `ingest_data`: the slices must have been ingested with these.
        out_slices: File for the reference.
        out_manifest: File for the manifest.

    Raises:
        DataError: Something is missing in the store, or the slices were not made by `ingest_data`.
        ParamsError: They were ingested with other params.
    """
    store = open_store(reference.store)
    verify(reference, store, reads_all=False)
    check_params(read_content(store, reference), params)
    with atomic_file(out_manifest) as temporary:
        temporary.write_bytes(fetch_manifest(store, reference))
    write_reference(reference, out_slices)


def take_reference(text: str) -> DataReference:
    """Return the reference in a file, or in a JSON text."""
    if text.lstrip().startswith("{"):
        return parse_reference(text, "--reference")
    return read_reference(Path(text))


def read_content(store: ObjectStore, reference: DataReference) -> dict[str, Any]:
    """Return what the slices say they are made of.

    Raises:
        DataError: They do not say it.
    """
    found = [entry.md5 for entry in read_directory(store, reference) if entry.path == CONTENT_NAME]
    if not found:
        raise DataError(
            f"{reference.directory}.dir has no {CONTENT_NAME}, so ingest_data has not made it; ingest again."
        )
    try:
        content = json.loads(read_object(store, found[0], MAX_CONTENT_BYTES))
        return {"params": dict(content["params"])}
    except FaultyObject as error:
        raise refuse_faults(store, [str(error)]) from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{CONTENT_NAME} of {reference.directory}.dir says no params; ingest again.") from error


def check_params(content: dict[str, Any], params: dict[str, Any]) -> None:
    """Refuse params under which these slices were not made."""
    ingested = content["params"]
    different = [
        f"{name} is {params.get(name)}, in the store {ingested.get(name)}"
        for name in sorted({*ingested, *params})
        if ingested.get(name) != params.get(name)
    ]
    if different:
        raise ParamsError(
            f"ingest_data: the referenced slices were ingested with other params ({'; '.join(different)}); use "
            "these, or ingest again."
        )
