"""References from handmade histories; tests/e2e/test_data_plane.py has DVC's own."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from tumor_cascade.data_plane.revision import find_remote, resolve_revision
from tumor_cascade.data_reference import name_object
from tumor_cascade.errors import DataError, ParamsError

MANIFEST = b"a manifest"
MANIFEST_MD5, MANIFEST_SHA256 = hashlib.md5(MANIFEST).hexdigest(), hashlib.sha256(MANIFEST).hexdigest()
DIRECTORY = "0123456789abcdef" * 2
LOCK = f"""
schema: '2.0'
stages:
  ingest_data:
    outs:
    - path: artifacts/ingest_data/manifest.parquet
      hash: md5
      md5: {MANIFEST_MD5}
      size: 10
    - path: artifacts/ingest_data/slices
      hash: md5
      md5: {DIRECTORY}.dir
      size: 5033
      nfiles: 6
"""
CONFIG = """
[core]
    remote = storage
['remote "storage"']
    url = ../../store
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository whose first commit has no data, and whose tag `data` has."""
    folder = tmp_path / "repository"
    folder.mkdir()
    run_git(folder, "init", "--quiet", "--initial-branch", "main")
    run_git(folder, "commit", "--quiet", "--allow-empty", "--message", "Nothing")
    commit(folder, {".dvc/config": CONFIG, "dvc.lock": LOCK})
    run_git(folder, "tag", "data")
    path = tmp_path / "store" / name_object(MANIFEST_MD5)
    path.parent.mkdir(parents=True)
    path.write_bytes(MANIFEST)
    return folder


def run_git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True)


def commit(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    run_git(folder, "add", "--all")
    run_git(folder, "commit", "--quiet", "--message", "Data")


@pytest.mark.parametrize("rev", ["data", "HEAD", "main"])
def test_resolve_revision__reads_the_commit_and_not_the_folder(repository: Path, tmp_path: Path, rev: str) -> None:
    for name in ("dvc.lock", ".dvc/config"):
        (repository / name).write_text("edited")
    reference = resolve_revision(repository, rev)
    assert reference.model_dump() == {
        "store": str(tmp_path / "store"),  # DVC's relative paths start at .dvc
        "layout": "dvc-md5",
        "directory": DIRECTORY,
        "num_files": 6,
        "num_bytes": 5033,
        "manifest": {"md5": MANIFEST_MD5, "sha256": MANIFEST_SHA256},
    }


def test_resolve_revision__takes_the_manifest_from_dvc_s_cache_where_it_is_right(repository: Path) -> None:
    path = repository / ".dvc/cache" / name_object(MANIFEST_MD5)
    path.parent.mkdir(parents=True)
    path.write_bytes(MANIFEST)
    assert resolve_revision(repository, "data", "s3://nowhere/x").store == "s3://nowhere/x"  # and asks no server
    path.write_bytes(b"edited")
    assert resolve_revision(repository, "data").manifest.sha256 == MANIFEST_SHA256


def test_resolve_revision__without_the_manifest_in_the_store_is_refused(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "store" / name_object(MANIFEST_MD5)).unlink()
    with pytest.raises(DataError, match=rf"{MANIFEST_MD5} is missing \(artifacts/ingest_data/manifest\.parquet\)"):
        resolve_revision(repository, "data")


@pytest.mark.parametrize("rev", ["nowhere", "--output=evil", "", "HEAD:dvc.lock"])
def test_resolve_revision__an_unknown_revision_is_named(repository: Path, rev: str) -> None:
    with pytest.raises(ParamsError, match=f"'{rev}' is no revision of the repository in .*see `git log`"):
        resolve_revision(repository, rev)
    assert not (repository / "evil").exists()


def test_resolve_revision__outside_a_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="'HEAD' is no revision of the repository"):
        resolve_revision(tmp_path, "HEAD")


@pytest.mark.parametrize(
    ("lock", "message"),
    [
        ("stages: [", "has no outputs of ingest_data"),
        ("stages: {}", "has no outputs of ingest_data"),
        ("", "has no outputs of ingest_data"),
        (LOCK.replace("hash: md5\n      md5: 0", "hash: md5-dos2unix\n      md5: 0"), "has no MD5 of .*slices"),
        (LOCK.replace("manifest.parquet", "other.parquet"), "has no MD5 of .*manifest.parquet"),
    ],
)
def test_resolve_revision__another_lock_is_refused(repository: Path, lock: str, message: str) -> None:
    commit(repository, {"dvc.lock": lock})
    with pytest.raises(DataError, match=message):
        resolve_revision(repository, "HEAD")


def test_resolve_revision__without_a_lock_is_refused(repository: Path) -> None:
    with pytest.raises(DataError, match=r"revision data~1 has no dvc\.lock; run `dvc repro ingest_data`, `dvc push`"):
        resolve_revision(repository, "data~1")


def test_find_remote__reads_an_endpoint(repository: Path) -> None:
    text = CONFIG.replace("../../store", "s3://bucket/x") + "    endpointurl = http://127.0.0.1:9000\n"
    commit(repository, {".dvc/config": text})
    remote = find_remote(repository, "HEAD")
    assert (remote.url, remote.endpoint_url) == ("s3://bucket/x", "http://127.0.0.1:9000")


def test_find_remote__without_one_is_refused(repository: Path) -> None:
    commit(repository, {".dvc/config": "[core]\n    analytics = false\n"})
    with pytest.raises(ParamsError, match=r"has no default DVC remote in \.dvc/config; run `tumor-cascade remote URL`"):
        find_remote(repository, "HEAD")


@pytest.mark.parametrize("is_committed", [False, True])
def test_find_remote__credentials_in_its_url_are_refused_and_not_repeated(repository: Path, is_committed: bool) -> None:
    url = "s3://key:secret@bucket/x"
    if is_committed:
        commit(repository, {".dvc/config": CONFIG.replace("../../store", url)})
    with pytest.raises(ParamsError, match="the URL holds credentials, and it is kept and passed on") as raised:
        resolve_revision(repository, "HEAD", None if is_committed else url)
    assert "secret" not in str(raised.value)
