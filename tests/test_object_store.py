"""Compare-and-create on a folder, and on a real S3 server: of any number of writers exactly one makes a key."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from object_server import BUCKET, CREDENTIALS, find_ports, serve_objects
from processes import download_within, put_and_die, run
from tumor_cascade.errors import DataError, ParamsError
from tumor_cascade.object_store import FolderStore, ObjectStore, S3Store, open_store

NUM_WRITERS = 20


@pytest.fixture(scope="module")
def endpoint_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve_objects(tmp_path_factory.mktemp("seaweedfs")) as url:
        yield url


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    if request.param == "folder":
        return open_store(str(tmp_path / "store"))
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", request.getfixturevalue("endpoint_url"))
    return open_store(f"s3://{BUCKET}/{tmp_path.name}")


def test_store__keeps_what_came_first(store: ObjectStore) -> None:
    assert store.get("ledger/1.json") is None
    assert store.list_keys("ledger/") == []
    assert store.put_if_absent("ledger/1.json", b"first")
    assert not store.put_if_absent("ledger/1.json", b"second")
    assert store.put_if_absent("evidence/1.json", b"other")
    assert store.get("ledger/1.json") == b"first"
    assert store.list_keys("ledger/") == ["ledger/1.json"]


def test_upload__replaces_what_stood_there(store: ObjectStore, tmp_path: Path) -> None:
    path, copy = tmp_path / "file", tmp_path / "copy"
    for content in (b"first", b"second" * 3_000_000):  # the second one in several parts
        path.write_bytes(content)
        store.upload(path, "a/key")
        assert store.download("a/key", copy)
        assert copy.read_bytes() == content


def test_download__of_a_missing_key_leaves_no_file(store: ObjectStore, tmp_path: Path) -> None:
    assert not store.download("nowhere", tmp_path / "copy")
    assert not list(tmp_path.glob("*copy*"))


def test_download__what_a_killed_one_left_is_swept_by_the_next(
    store: ObjectStore, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    is_s3 = isinstance(store, S3Store)
    environment = {**CREDENTIALS, "AWS_ENDPOINT_URL_S3": request.getfixturevalue("endpoint_url")} if is_s3 else {}
    (tmp_path / "file").write_bytes(bytes(100_000))
    store.upload(tmp_path / "file", "key")
    copy = tmp_path / "copies" / "copy"
    assert run(download_within, store.url, environment, copy, 10_000) == -signal.SIGXFSZ
    assert list(copy.parent.iterdir())
    assert store.download("key", copy)
    assert list(copy.parent.iterdir()) == [copy]
    assert copy.stat().st_size == 100_000


def test_remove__of_a_key_that_is_there_or_not(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store.upload(tmp_path / "file", "a/key")
    for _ in range(2):
        store.remove("a/key")
        assert store.find_size("a/key") is None


def test_put_if_absent__of_twenty_writers_one_wins(store: ObjectStore) -> None:
    for turn in range(5):
        contents = [f"writer {number}".encode() * 1000 for number in range(NUM_WRITERS)]
        with ThreadPoolExecutor(NUM_WRITERS) as pool:
            made = list(pool.map(lambda content, turn=turn: store.put_if_absent(f"key-{turn}", content), contents))
        assert sum(made) == 1
        assert store.get(f"key-{turn}") == contents[made.index(True)]


def test_put_if_absent__the_same_content_again_counts_as_made_on_s3(
    endpoint_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**CREDENTIALS, "MLFLOW_S3_ENDPOINT_URL": endpoint_url}.items():
        monkeypatch.setenv(name, value)
    store = S3Store(BUCKET, tmp_path.name)
    assert [store.put_if_absent("key", b"mine") for _ in range(2)] == [True, True]  # as after a lost answer
    assert not store.put_if_absent("key", b"yours")


def test_folder__a_killed_writer_leaves_no_key(tmp_path: Path) -> None:
    assert run(put_and_die, tmp_path) == -signal.SIGKILL
    store = FolderStore(tmp_path)
    assert (store.get("key"), store.list_keys("")) == (None, [])
    assert store.put_if_absent("key", b"whole")
    assert store.list_keys("") == ["key"]


def test_folder__that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/key: cannot be written \(.*\); the folder must be writable"):
        FolderStore(tmp_path / "file").put_if_absent("key", b"")


def test_folder__that_cannot_be_read(tmp_path: Path) -> None:
    store, key = FolderStore(tmp_path), "x" * 300  # longer than names can be
    for read in (store.get, store.find_size, store.stream, lambda key: store.download(key, tmp_path / "copy")):
        with pytest.raises(DataError, match=r"x: cannot be read \(File name too long\); check the folder and its perm"):
            read(key)


def test_open_store__credentials_in_a_url_are_refused_and_not_repeated() -> None:
    with pytest.raises(ParamsError, match="the URL holds credentials") as raised:
        open_store("s3://key:secret@bucket/x")
    assert "secret" not in str(raised.value)


def test_s3__a_server_that_is_away_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{find_ports(1)[0]}")
    with pytest.raises(
        DataError, match=r"^s3://results/x: Could not connect to the endpoint.*check that the server runs"
    ):
        open_store("s3://results/x").get("key")


def test_open_store__file_url(tmp_path: Path) -> None:
    assert open_store(f"file://{tmp_path}/a%20b").url == str(tmp_path / "a b")


@pytest.mark.parametrize("url", ["", "gs://bucket/x", "s3:///x"])
def test_open_store__another_kind_of_url_is_refused(url: str) -> None:
    with pytest.raises(ParamsError, match="is neither a folder nor s3://bucket/prefix; correct it"):
        open_store(url)
