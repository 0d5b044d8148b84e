import json
import signal
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from archives import make_archive
from object_server import BUCKET, CREDENTIALS, KEYS, serve_objects
from processes import overwrite_and_die, run
from products import write_product
from tumor_cascade.errors import DataError, ParamsError
from tumor_cascade.stored_prediction import check_bucket, local_out, predict_stored, write_counts


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, serve_objects(tmp_path_factory.mktemp("objects")) as url:
        for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL_S3": url}.items():
            patch.setenv(name, value)
        yield url


@pytest.fixture(scope="module")
def cascade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_product(tmp_path_factory.mktemp("product") / "cascade", gate_threshold=0.0)


def list_keys(endpoint: str, prefix: str) -> set[str]:
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **KEYS)
    found = client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    return {one["Key"].removeprefix(prefix) for one in found}


def test_predict_stored__from_bucket_to_bucket_as_from_folder_to_folder(
    endpoint: str, cascade: Path, tmp_path: Path
) -> None:
    archive = make_archive(tmp_path / "raw")
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **KEYS)
    for path in archive.rglob("*.*"):
        client.upload_file(str(path), BUCKET, f"images/{path.relative_to(archive).as_posix()}")
    here = predict_stored(archive, cascade, None, tmp_path / "out", is_overwrite=False)
    there = predict_stored(f"s3://{BUCKET}/images", cascade, None, f"s3://{BUCKET}/answers", is_overwrite=False)
    assert there == here
    assert here.num_slices > 0
    files = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    assert list_keys(endpoint, "answers/") == files
    lines = client.get_object(Bucket=BUCKET, Key="answers/predictions.jsonl")["Body"].read()
    assert lines == (tmp_path / "out" / "predictions.jsonl").read_bytes()
    with pytest.raises(ParamsError, match="answers holds earlier predictions; add --overwrite"):
        predict_stored(archive, cascade, None, f"s3://{BUCKET}/answers", is_overwrite=False)
    write_counts(there, tmp_path / "metrics")
    counts = json.loads((tmp_path / "metrics").read_text(encoding="utf-8"))
    assert counts["num_slices"] == here.num_slices
    assert counts["num_errors"] == len(here.errors)


def test_predict_stored__nothing_goes_to_the_bucket_if_nothing_can_be_predicted(endpoint: str, tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "raw")
    with pytest.raises(DataError, match=r"missing/content\.json cannot be read"):
        predict_stored(archive, tmp_path / "missing", None, f"s3://{BUCKET}/none", is_overwrite=False)
    assert not list_keys(endpoint, "none")


@pytest.mark.parametrize("out", ["s3://bucket/p", "s3://bucket/p/", "s3://bucket/p/out", "s3://bucket"])
def test_predict_stored__output_at_in_or_around_what_is_read(cascade: Path, out: str) -> None:
    with pytest.raises(ParamsError, match=f"output {out} lies at, in or around s3://bucket/p, which is read; choose"):
        predict_stored("s3://bucket/p", cascade, None, out, is_overwrite=True)
    check_bucket("s3://bucket/predictions", "s3://bucket/p")


def test_local_out__killed_leaves_no_earlier_lines_beside_new_masks(endpoint: str) -> None:
    url, names = f"s3://{BUCKET}/killed", {"masks/a.png", "masks/b.png", "predictions.jsonl"}
    with local_out(url, is_overwrite=False) as folder:
        (folder / "masks").mkdir(parents=True)
        for name in names:
            (folder / name).write_text("earlier")
    assert list_keys(endpoint, "killed/") == names
    assert run(overwrite_and_die, url, {**CREDENTIALS, "AWS_ENDPOINT_URL_S3": endpoint}) == -signal.SIGKILL
    assert list_keys(endpoint, "killed/") == {"masks/a.png", "masks/b.png"}
