"""What a git revision has under version control: its dvc.lock and DVC remote, read without DVC and its locks."""

import configparser
import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tumor_cascade.data_plane.objects import MAX_MANIFEST_BYTES, FaultyObject, hash_bytes, read_object, refuse_faults
from tumor_cascade.data_reference import LAYOUT, DataReference, ManifestReference, name_object
from tumor_cascade.errors import DataError, ParamsError
from tumor_cascade.object_store import ObjectStore, open_store, refuse_credentials

STAGE = "ingest_data"
SLICES, MANIFEST = "artifacts/ingest_data/slices", "artifacts/ingest_data/manifest.parquet"
DVC_CACHE = Path(".dvc/cache")


@dataclass(frozen=True)
class Remote:
    """A DVC remote: its URL and, of an S3 server other than Amazon's, the endpoint."""

    url: str
    endpoint_url: str | None = None

    def open(self) -> ObjectStore:
        """Return the store; an endpoint that the environment names goes first."""
        return open_store(self.url, self.endpoint_url)


def resolve_revision(repository: Path, rev: str, store_url: str | None = None) -> DataReference:
    """Return the reference to the slices of a git revision.

    Args:
        repository: A checkout of this project.
        rev: Anything that git knows: a branch, a tag, a commit.
        store_url: Where `dvc push` has put them; by default the revision's DVC remote.

    Raises:
        ParamsError: An unknown revision, one without a DVC remote, or credentials in its URL.
        DataError: A revision whose dvc.lock does not know the slices, or a manifest that is nowhere to be read.
    """
    outs = read_outs(repository, rev)
    remote = find_remote(repository, rev, store_url)
    slices, manifest = outs[SLICES], str(outs[MANIFEST]["md5"])
    content = read_manifest(repository, manifest, remote)
    return DataReference(
        store=remote.url,
        layout=LAYOUT,
        directory=str(slices["md5"]).removesuffix(".dir"),
        num_files=slices["nfiles"],
        num_bytes=slices["size"],
        manifest=ManifestReference(md5=manifest, sha256=hashlib.sha256(content).hexdigest()),
    )


def find_remote(repository: Path, rev: str, store_url: str | None = None) -> Remote:
    """Return the default DVC remote of a revision, or what stands in its place.

    Raises:
        ParamsError: There is none, or its URL holds credentials.
    """
    config = configparser.ConfigParser(interpolation=None)
    config.read_string(read_file(repository, rev, ".dvc/config") or "")
    name = config.get("core", "remote", fallback="")
    section = f"'remote \"{name}\"'"
    endpoint_url = config.get(section, "endpointurl", fallback=None)
    url = store_url or config.get(section, "url", fallback="")
    if not url:
        raise ParamsError(
            f"revision {rev} has no default DVC remote in .dvc/config; run `tumor-cascade remote URL` and commit, or "
            "give --store."
        )
    refuse_credentials(url)
    if not urlsplit(url).scheme:  # DVC's relative paths start at the config file
        url = str((repository / ".dvc" / url).resolve() if store_url is None else Path(url).resolve())
    return Remote(url, endpoint_url)


def read_outs(repository: Path, rev: str) -> dict[str, dict[str, Any]]:
    """Return what dvc.lock of a revision says about slices and manifest.

    Raises:
        DataError: There is no dvc.lock, or it does not know them by MD5.
    """
    remedy = "run `dvc repro ingest_data`, `dvc push`, and commit dvc.lock"
    text = read_file(repository, rev, "dvc.lock")
    if text is None:
        raise DataError(f"revision {rev} has no dvc.lock; {remedy}.")
    try:
        lock = YAML(typ="safe", pure=True).load(text)
        outs = {out["path"]: out for out in lock["stages"][STAGE]["outs"]}
    except (YAMLError, KeyError, TypeError) as error:
        raise DataError(f"dvc.lock of revision {rev} has no outputs of {STAGE}; {remedy}.") from error
    missing = [path for path in (SLICES, MANIFEST) if outs.get(path, {}).get("hash") != "md5"]
    if missing:
        raise DataError(f"dvc.lock of revision {rev} has no MD5 of {' and '.join(missing)}; {remedy}.")
    return outs


def read_manifest(repository: Path, md5: str, remote: Remote) -> bytes:
    """Return the manifest's bytes, from DVC's cache at hand or from the remote; its SHA-256 stands in no dvc.lock."""
    cached = repository / DVC_CACHE / name_object(md5)
    if cached.is_file() and hash_bytes(content := cached.read_bytes()) == md5:
        return content
    store = remote.open()
    try:
        return read_object(store, md5, MAX_MANIFEST_BYTES)
    except FaultyObject as error:
        raise refuse_faults(store, [f"{error} ({MANIFEST})"]) from None


def read_file(repository: Path, rev: str, path: str) -> str | None:
    """Return a file of a revision, or None where the revision has no such file.

    Raises:
        ParamsError: There is no such revision.
    """
    commit = _run_git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}")
    if commit is None:
        raise ParamsError(f"{rev!r} is no revision of the repository in {repository.resolve()}; see `git log`.")
    return _run_git(repository, "show", f"{commit.strip()}:./{path}")


def _run_git(repository: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=repository, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise ParamsError(f"git is not installed, or {repository} does not exist: revisions need both.") from error
    return done.stdout if done.returncode == 0 else None
