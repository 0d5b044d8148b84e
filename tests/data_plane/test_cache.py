"""Fetching from a real S3 server while everything that can break does: never a wrong byte, and little work twice."""

import contextlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from object_server import kill_server, serve_objects
from packed_folders import PublishedFolder, find_key, publish_folder, read_files
from tumor_cascade.data_plane.cache import fetch
from tumor_cascade.data_plane.verification import verify
from tumor_cascade.data_reference import write_reference
from tumor_cascade.errors import DataError
from tumor_cascade.object_store import ObjectStore, open_store
from tumor_cascade.settings import PREFIX

NUM_MANY, MANY_BYTES = 600, 20_000
TIMEOUT_S = 120


@pytest.fixture
def published(store: ObjectStore, tmp_path: Path) -> PublishedFolder:
    return publish_folder(tmp_path / "made", store)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def list_objects(cache: Path) -> dict[str, int]:
    """Return the bytes of each object that has its name."""
    return {
        path.name: path.stat().st_size for path in (cache / "files").rglob("*") if path.is_file() and not path.suffix
    }


def list_unfinished(cache: Path) -> list[Path]:
    return [path for path in cache.glob(".incoming.*") if path.is_dir()]


def start_fetch(reference: Path, out: Path, cache: Path) -> subprocess.Popen[str]:
    """Start `data fetch` as a pod does."""
    command = [sys.executable, "-m", "tumor_cascade.cli", "data", "fetch", str(reference), str(out)]
    environment = {**os.environ, f"{PREFIX}DATA_CACHE": str(cache)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_objects(cache: Path, number: int) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while len(list_objects(cache)) < number:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def wait_for_content(published: PublishedFolder) -> None:
    """Wait until a server that has been started again finds its data: it answers before that."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        with contextlib.suppress(DataError):
            verify(published.reference, published.store)
            return
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_fetch__gives_the_files_and_then_finds_them(published: PublishedFolder, tmp_path: Path) -> None:
    first = fetch(published.reference, published.store, tmp_path / "cache")
    assert read_files(first.folder) == read_files(published.slices)
    assert (first.num_bytes, first.num_fetched, first.fetched_bytes, first.again_bytes) == (5033, 5, 4033, 0)
    second = fetch(published.reference, published.store, tmp_path / "cache")
    assert (second.folder, second.num_fetched, second.fetched_bytes) == (first.folder, 0, 0)
    assert second.describe() == "slices: 5,033 bytes, all whole in the cache"
    assert not list_unfinished(tmp_path / "cache")


def test_fetch__from_a_whole_cache_needs_no_store(published: PublishedFolder, tmp_path: Path) -> None:
    folder = fetch(published.reference, published.store, tmp_path / "cache").folder
    assert fetch(published.reference, open_store(str(tmp_path / "nowhere")), tmp_path / "cache").folder == folder


def test_fetch__two_revisions_share_what_they_have_in_common(published: PublishedFolder, tmp_path: Path) -> None:
    fetch(published.reference, published.store, tmp_path / "cache")
    next_one = publish_folder(tmp_path / "next", published.store, num_files=7)  # of the same random sequence
    assert fetch(next_one.reference, published.store, tmp_path / "cache").fetched_bytes == 1000


def test_fetch__a_hole_is_refused_by_name_and_the_rest_kept(published: PublishedFolder, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    holes = [published.slices / "patient-1.npy", published.slices / "patient-3.npy"]
    for key in published.store.list_keys(""):
        if key not in map(find_key, holes):
            published.store.download(key, tmp_path / "store" / key)
    with pytest.raises(DataError, match="has 2 missing or corrupt objects") as refused:
        fetch(published.reference, store, tmp_path / "cache")
    names = sorted(find_key(path).removeprefix("files/md5/").replace("/", "") for path in holes)
    assert refused.value.violations == [f"{name} is missing" for name in names]
    assert not (tmp_path / "cache" / "slices").exists()
    assert fetch(published.reference, published.store, tmp_path / "cache").num_fetched == 2


@pytest.mark.parametrize("num_bytes", [999, 1000, 20_000])
def test_fetch__a_corrupt_object_is_named_and_never_used(
    published: PublishedFolder, tmp_path: Path, num_bytes: int
) -> None:
    (tmp_path / "corrupt").write_bytes(bytes(num_bytes))
    published.store.upload(tmp_path / "corrupt", find_key(published.slices / "patient-1.npy"))
    with pytest.raises(DataError, match=r"- \w{32} is corrupt: "):
        fetch(published.reference, published.store, tmp_path / "cache")
    assert sorted(list_objects(tmp_path / "cache").values()) == [33, 1000, 1000, 1000]
    assert not (tmp_path / "cache" / "slices").exists() and not list_unfinished(tmp_path / "cache")


def test_fetch__edited_cache_is_found_and_fetched_again(published: PublishedFolder, tmp_path: Path) -> None:
    folder = fetch(published.reference, published.store, tmp_path / "cache").folder
    edited = folder / "patient-1.npy"
    stat = edited.stat()
    with edited.open("r+b") as stream:  # in place, and with its old time: the object behind the hard link too
        stream.write(b"edited")
    os.utime(edited, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (folder / "patient-2.npy").unlink()
    (folder / "patient-3.npy").unlink()
    (folder / "patient-3.npy").write_bytes(b"another file")
    (folder / "stranger.npy").touch()
    (folder / "more" / "deep").mkdir()
    (folder / "more" / "deep" / "stranger.npy").touch()
    (folder / "content.json").unlink()
    (folder / "content.json").symlink_to(published.slices / "content.json")
    again = fetch(published.reference, published.store, tmp_path / "cache")
    assert read_files(folder) == read_files(published.slices)
    assert not (folder / "content.json").is_symlink() and not (folder / "more" / "deep").exists()
    assert (again.num_fetched, again.fetched_bytes, again.again_bytes) == (1, 1000, 1000)


def test_fetch__a_full_disk_is_told_and_the_next_try_carries_on(
    store: ObjectStore, small_disk: Path, tmp_path: Path
) -> None:
    published = publish_folder(tmp_path / "made", store, num_files=30, num_bytes=4000)
    with pytest.raises(
        DataError, match=r"No space left on device\); the slices need 116,033 bytes, .* are free\. Free"
    ):
        fetch(published.reference, store, small_disk)
    objects = list_objects(small_disk)
    assert objects and set(objects.values()) <= {4000, 33}
    assert not (small_disk / "slices").exists() and not list_unfinished(small_disk)
    shutil.copytree(small_disk, tmp_path / "larger")
    assert fetch(published.reference, store, tmp_path / "larger").num_fetched == 29 - len(objects)
    assert read_files(tmp_path / "larger" / "slices" / published.reference.directory) == read_files(published.slices)


def test_fetch__several_pods_at_once_all_succeed(store: ObjectStore, tmp_path: Path) -> None:
    published = publish_folder(tmp_path / "made", store, num_files=100, num_bytes=20_000)
    write_reference(published.reference, tmp_path / "slices.json")
    pods = [start_fetch(tmp_path / "slices.json", tmp_path / f"pod-{pod}", tmp_path / "cache") for pod in range(3)]
    for number, pod in enumerate(pods):
        output = pod.communicate(timeout=TIMEOUT_S)[0]
        assert pod.returncode == 0, output
        assert read_files(tmp_path / f"pod-{number}" / "slices") == read_files(published.slices)
    assert not list_unfinished(tmp_path / "cache")


@pytest.mark.slow
def test_fetch__a_server_killed_half_way_is_told_and_the_rest_fetched_later(
    tmp_path: Path, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "server").mkdir()
    cache = tmp_path / "cache"
    with serve_objects(tmp_path / "server") as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        published = publish_folder(tmp_path / "made", open_store(store.url), num_files=NUM_MANY, num_bytes=MANY_BYTES)
        reference = published.reference
        # A process of its own: beside the fetch's threads, a thread may not get its turn before all is there.
        killer = multiprocessing.get_context("fork").Process(
            target=lambda: (wait_for_objects(cache, NUM_MANY // 3), kill_server(tmp_path / "server"))
        )
        killer.start()
        with pytest.raises(DataError, match=r"check that the server runs.* of 599 objects are whole in .* next try"):
            fetch(reference, open_store(store.url), cache)
        killer.join()
        assert killer.exitcode == 0
    whole = list_objects(cache)
    assert NUM_MANY // 3 <= len(whole) < 599 and set(whole.values()) <= {MANY_BYTES, 33}
    with serve_objects(tmp_path / "server") as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        wait_for_content(replace(published, store=open_store(store.url)))
        again = fetch(reference, open_store(store.url), cache)
    assert (again.num_fetched, again.again_bytes) == (599 - len(whole), 0)
    assert read_files(again.folder) == read_files(published.slices)


def test_fetch__a_killed_fetch_leaves_nothing_half_and_says_what_comes_again(
    store: ObjectStore, tmp_path: Path
) -> None:
    published = publish_folder(tmp_path / "made", store, num_files=NUM_MANY, num_bytes=MANY_BYTES)
    write_reference(published.reference, tmp_path / "slices.json")
    cache = tmp_path / "cache"
    pod = start_fetch(tmp_path / "slices.json", tmp_path / "out", cache)
    wait_for_objects(cache, NUM_MANY // 3)
    pod.send_signal(signal.SIGKILL)
    pod.communicate()
    whole = list_objects(cache)
    assert NUM_MANY // 3 <= len(whole) < 599 and set(whole.values()) <= {MANY_BYTES, 33}
    assert not (tmp_path / "out").exists()
    [left] = list_unfinished(cache)
    (left / "half").write_bytes(bytes(123))  # whatever it had begun, and at least this
    num_left = sum(path.stat().st_size for path in left.iterdir())
    again = fetch(published.reference, store, cache)
    assert (again.num_fetched, again.again_bytes) == (599 - len(whole), num_left)
    assert again.describe().endswith(f"{num_left:,} of them again")
    assert read_files(again.folder) == read_files(published.slices) and not list_unfinished(cache)
