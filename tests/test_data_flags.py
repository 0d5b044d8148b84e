"""Stages on references, stores and buckets: what they write does not depend on where their inputs came from."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from archives import make_archive
from object_server import BUCKET, CREDENTIALS, serve_objects
from packed_folders import find_key, read_files
from tumor_cascade.cli import main
from tumor_cascade.configuration import configure
from tumor_cascade.data_plane.publication import publish
from tumor_cascade.data_reference import write_reference
from tumor_cascade.object_store import open_store
from tumor_cascade.storage import hash_path

PHANTOM = ("ingest_data.phantom.num_slices=8", "split_data.num_canary_permutations=100")


@pytest.fixture(scope="module")
def endpoint_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve_objects(tmp_path_factory.mktemp("seaweedfs")) as url:
        yield url


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with params of a few patients, and the slices that a desk ingests."""
    folder = tmp_path_factory.mktemp("ingested")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        configure("smoke", Path("params.yaml"), PHANTOM)
        assert ingest("desk").exit_code == 0
    return folder


@pytest.fixture
def desk(ingested: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder to work in."""
    shutil.copytree(ingested, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUMOR_CASCADE_DATA_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TUMOR_CASCADE_DATA_STORE", raising=False)
    return tmp_path


@pytest.fixture
def pod(desk: Path) -> Path:
    """What `ingest_data --data-store` leaves in a pod: a reference, its store a folder, and the manifest."""
    reference = publish(desk / "desk/slices", desk / "desk/manifest.parquet", open_store("store")).reference
    write_reference(reference, desk / "pod/slices")
    shutil.copy(desk / "desk/manifest.parquet", desk / "pod")
    return desk / "pod"


@pytest.fixture
def bucket(desk: Path, endpoint_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL_S3": endpoint_url}.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{desk.name}"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def ingest(out: str, *flags: str, raw: str = "") -> Result:
    outputs = ("--out-slices", f"{out}/slices", "--out-manifest", f"{out}/manifest.parquet")
    return run("ingest_data", "--raw", raw, *outputs, *flags)


def split(data: str, out: str) -> Result:
    inputs = ("--slices", f"{data}/slices", "--manifest", f"{data}/manifest.parquet")
    return run("split_data", *inputs, "--out-splits", f"{out}/splits", "--out-metrics", f"{out}/metrics.json")


def test_ingest_data__through_a_store_gives_the_same_bytes(desk: Path, bucket: str) -> None:
    published = ingest("pod", "--data-store", bucket)
    assert published.exit_code == 0, published.output
    assert f" in {bucket}, " in published.output
    assert (desk / "pod/slices").is_file() and not list((desk / "cache").glob("*ingest*"))
    fetched = run("data", "fetch", "pod/slices", "fetched")
    assert fetched.exit_code == 0, fetched.output
    assert read_files(desk / "fetched") == read_files(desk / "desk")
    again = ingest("pod", "--data-store", bucket)
    assert " bytes in " in again.output and " 0 sent with the manifest" in again.output


def test_split_data__content_does_not_tell_where_the_slices_came_from(desk: Path, pod: Path) -> None:
    for data in ("desk", "pod"):
        result = split(data, f"of-{data}")
        assert result.exit_code == 0, result.output
    assert read_files(desk / "of-pod") == read_files(desk / "of-desk")
    assert "all whole in the cache" in split("pod", "of-pod").stderr


def test_ingest_data__an_empty_store_flag_means_the_environment(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = ingest("pod", "--data-store", "")
    assert refused.exit_code == 2
    assert "--data-store is empty and TUMOR_CASCADE_DATA_STORE is not set" in refused.output
    monkeypatch.setenv("TUMOR_CASCADE_DATA_STORE", str(desk / "store"))
    assert ingest("pod", "--data-store", "").exit_code == 0
    assert json.loads((desk / "pod/slices").read_text())["store"] == str(desk / "store")


def test_ingest_data__a_reference_is_passed_on(desk: Path, pod: Path) -> None:
    text = (pod / "slices").read_text()
    for out, reference in (("from-text", text), ("from-file", "pod/slices")):
        passed = ingest(out, "--reference", reference)
        assert passed.exit_code == 0, passed.output
        assert read_files(desk / out) == read_files(pod)
    assert not (desk / "cache/files").exists()  # no pixel was moved


def test_ingest_data__a_reference_to_other_params_is_refused(desk: Path, pod: Path) -> None:
    configure("smoke", Path("params.yaml"), (*PHANTOM, "ingest_data.max_side_px=999"))
    refused = ingest("other", "--reference", "pod/slices")
    assert refused.exit_code == 2
    assert "were ingested with other params (max_side_px is 999, in the store " in refused.output
    assert not (desk / "other").exists()


def test_ingest_data__a_reference_with_a_hole_is_refused(desk: Path, pod: Path) -> None:
    key = find_key(next((desk / "desk/slices").glob("*.npy")))
    (desk / "store" / key).unlink()
    refused = ingest("other", "--reference", "pod/slices")
    assert refused.exit_code == 3
    assert f"{key.removeprefix('files/md5/').replace('/', '')} is missing" in refused.output
    assert not (desk / "other").exists()


def test_ingest_data__a_reference_never_replaces_a_folder(desk: Path) -> None:
    before = hash_path(desk / "desk/slices")
    for flags in (("--data-store", "store"), ("--reference", "{}")):
        refused = ingest("desk", *flags)
        assert refused.exit_code == 2
        assert "--out-slices desk/slices is a folder, and a data reference is a file" in refused.output
    assert hash_path(desk / "desk/slices") == before


def test_ingest_data__raw_data_of_a_bucket_give_the_same_slices(desk: Path, bucket: str) -> None:
    configure("smoke", Path("params.yaml"), ["ingest_data.source=kaggle", "ingest_data.max_side_px=64"])
    archive, store = make_archive(desk / "raw"), open_store(f"{bucket}/raw")
    for path in filter(Path.is_file, archive.rglob("*")):
        store.upload(path, path.relative_to(archive).as_posix())
    assert ingest("local", raw="raw").exit_code == 0
    result = ingest("pod", raw=f"{bucket}/raw")
    assert result.exit_code == 0, result.output
    assert read_files(desk / "pod") == read_files(desk / "local")


def test_ingest_data__empty_raw_is_for_the_phantom_alone(desk: Path) -> None:
    configure("smoke", Path("params.yaml"), ["ingest_data.source=kaggle"])
    refused = ingest("pod")
    assert refused.exit_code == 2
    assert "--raw is empty, which is for the phantom alone" in refused.output


def test_ingest_data__the_folder_that_one_works_in_is_read(desk: Path) -> None:
    configure("smoke", Path("params.yaml"), ["ingest_data.source=kaggle"])
    refused = ingest("pod", raw=".")
    assert refused.exit_code == 3
    assert "params.yaml has no place in the layout" in refused.output


def test_ingest_data__that_fails_publishes_nothing(desk: Path) -> None:
    configure("smoke", Path("params.yaml"), ["ingest_data.source=kaggle"])
    assert ingest("pod", "--data-store", "store", raw="nowhere").exit_code == 3
    assert not (desk / "store").exists() and not (desk / "pod/slices").exists()


def test_split_data__another_manifest_than_the_slices_is_refused(desk: Path, pod: Path) -> None:
    (pod / "manifest.parquet").write_bytes(b"another")
    refused = split("pod", "out")
    assert refused.exit_code == 3
    assert "pod/manifest.parquet is not the manifest of the slices in pod/slices" in refused.output


def test_data__commands_on_references_of_nothing(desk: Path) -> None:
    Path("slices.json").write_text("{}")
    assert "slices.json is no data reference" in run("data", "verify", "slices.json").output
    assert "takes REFERENCE or --rev and --store" in run("data", "verify", "slices.json", "--rev", "HEAD").output
    assert "is no revision of the repository" in run("data", "reference", "--rev", "nowhere").output


def test_data_fetch__never_replaces_what_stands_there(desk: Path, pod: Path) -> None:
    refused = run("data", "fetch", "pod/slices", "desk")
    assert (refused.exit_code, "output folder desk holds something" in refused.output) == (2, True)
