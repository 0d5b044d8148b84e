from collections.abc import Iterator
from pathlib import Path

import pytest

from object_server import BUCKET, CREDENTIALS, serve_objects
from tumor_cascade.object_store import ObjectStore, open_store


@pytest.fixture(scope="session")
def endpoint_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve_objects(tmp_path_factory.mktemp("seaweedfs")) as url:
        yield url


@pytest.fixture
def store(endpoint_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """Return a place of its own on a real S3 server."""
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL_S3": endpoint_url}.items():
        monkeypatch.setenv(name, value)
    return open_store(f"s3://{BUCKET}/{tmp_path.parent.name}-{tmp_path.name}")
