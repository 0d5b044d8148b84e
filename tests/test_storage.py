import fcntl
import json
import math
import os
import signal
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from processes import FORKSERVER, run, write_file_often, write_folder
from tumor_cascade.storage import atomic_dir, atomic_file, canonical_json, hash_file, hash_path, write_json


def list_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with one old file, alone in its parent."""
    path = tmp_path / "parent" / "slices"
    with atomic_dir(path) as temporary:
        (temporary / "old").write_text("old")
    return path


def test_atomic_file__replaces_on_success(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.json"
    for text in ("one", "two"):
        with atomic_file(path) as temporary:
            temporary.write_text(text)
            assert temporary.parent == path.parent
        assert path.read_text() == text
    assert list_names(path.parent) == ["file.json"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_atomic_file__failure_leaves_the_old(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old" and list_names(tmp_path) == ["file.json"]


def test_atomic_file__many_writers_of_one_file(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    writers = [(path, str(n) * 5000, 60, atomic_file) for n in range(3)]
    processes = [FORKSERVER.Process(target=write_file_often, args=args, daemon=True) for args in writers]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert path.read_text() in {str(n) * 5000 for n in range(3)} and list_names(tmp_path) == ["file.json"]


def test_atomic_dir__replaces_on_success(folder: Path) -> None:
    with atomic_dir(folder) as temporary:
        (temporary / "sub").mkdir()
        (temporary / "sub" / "new").write_text("new")
        assert list_names(folder) == ["old"]
    assert list_names(folder) == ["sub"] and list_names(folder.parent) == ["slices"]
    assert folder.stat().st_mode & 0o777 == 0o755


def test_atomic_dir__failure_leaves_the_old(folder: Path) -> None:
    with pytest.raises(ZeroDivisionError), atomic_dir(folder) as temporary:
        (temporary / "new").write_text("half")
        raise ZeroDivisionError
    assert list_names(folder) == ["old"] and list_names(folder.parent) == ["slices"]


def test_atomic_dir__killed_while_writing_leaves_the_old(folder: Path) -> None:
    assert run(write_folder, folder, "first file") == -signal.SIGKILL
    assert list_names(folder) == ["old"]
    assert len(list_names(folder.parent)) == 3  # what it had written, hidden, and its lock
    with atomic_dir(folder) as temporary:
        (temporary / "new").write_text("new")
    assert list_names(folder) == ["new"] and list_names(folder.parent) == ["slices"]


def test_atomic_dir__killed_between_the_renames_shows_nothing_half_written(folder: Path) -> None:
    assert run(write_folder, folder, "first rename") == -signal.SIGKILL
    assert not folder.exists()
    hidden = sorted(list_names(path) for path in folder.parent.iterdir() if path.is_dir())
    assert hidden == [["a", "b"], ["old"]]  # both whole
    with atomic_dir(folder) as temporary:
        (temporary / "new").write_text("new")
    assert list_names(folder) == ["new"] and list_names(folder.parent) == ["slices"]


@pytest.mark.parametrize("is_nfs", [False, True])
def test_atomic_dir__leaves_the_work_of_a_living_writer_alone(
    folder: Path, is_nfs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lock_over_nfs(descriptor: int, operation: int, flock: Callable[[int, int], None] = fcntl.flock) -> None:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):  # another machine's lock on a folder is not seen
            flock(descriptor, operation)

    if is_nfs:
        monkeypatch.setattr(fcntl, "flock", lock_over_nfs)
    written, go_on = FORKSERVER.Event(), FORKSERVER.Event()
    other = FORKSERVER.Process(target=write_folder, args=(folder, "never", written, go_on), daemon=True)
    other.start()
    assert written.wait(30)
    with atomic_dir(folder) as temporary:
        (temporary / "mine").write_text("new")
    assert list_names(folder) == ["mine"] and len(list_names(folder.parent)) == 3
    go_on.set()
    other.join()
    assert other.exitcode == 0
    assert list_names(folder) == ["a", "b"] and list_names(folder.parent) == ["slices"]


def test_atomic_dir__names_with_wildcards_and_neighbors(tmp_path: Path) -> None:
    neighbor = tmp_path / ".ab.xyz.tmp"
    neighbor.mkdir()
    for name in ("[a]*", "a"):
        with atomic_dir(tmp_path / name) as temporary:
            (temporary / "x").write_text("x")
    assert list_names(tmp_path) == [".ab.xyz.tmp", "[a]*", "a"]


def test_atomic_dir__threads_write_different_folders(tmp_path: Path) -> None:
    def write(number: int) -> None:
        with atomic_dir(tmp_path / f"fold-{number % 4}") as temporary:
            write_json(temporary / "a.json", number)

    with ThreadPoolExecutor(4) as pool:
        for start in range(0, 20, 4):
            list(pool.map(write, range(start, start + 4)))
    assert list_names(tmp_path) == [f"fold-{n}" for n in range(4)]


def test_write_json__is_sorted_and_readable(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [0.1, None]})
    assert (tmp_path / "a.json").read_text() == '{\n  "a": [\n    0.1,\n    null\n  ],\n  "b": 1\n}\n'
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [0.1, None], "b": 1}


def test_write_json__refuses_nan_and_leaves_the_old(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": math.nan})
    assert (tmp_path / "a.json").read_text() == "1\n" and list_names(tmp_path) == ["a.json"]


def test_canonical_json__one_text_per_value() -> None:
    assert canonical_json({"b": [1, 2.5], "a": {"d": None, "c": "ä"}}) == b'{"a":{"c":"\\u00e4","d":null},"b":[1,2.5]}'
    assert canonical_json({"a": 1, "b": 2}) == canonical_json(dict(reversed({"a": 1, "b": 2}.items())))


def test_hash_file__literal(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    # FIPS 180-2, example B.1.
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert hash_file(tmp_path / "a") == hash_path(tmp_path / "a") == expected


def fill(folder: Path, names: list[str]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"content of {name}")
    return folder


def test_hash_path__does_not_depend_on_order_place_or_time(tmp_path: Path) -> None:
    names = ["b", "a", "sub/c", "sub/a", "A"]
    first, second = fill(tmp_path / "x", names), fill(tmp_path / "elsewhere" / "y", names[::-1])
    os.utime(second / "a", (0, 0))
    (second / "b").chmod(0o600)
    assert hash_path(first) == hash_path(second)


@pytest.mark.parametrize("change", ["content", "name", "more", "fewer", "moved"])
def test_hash_path__depends_on_names_and_bytes(tmp_path: Path, change: str) -> None:
    folder = fill(tmp_path / "x", ["a", "b", "sub/c"])
    before = hash_path(folder)
    if change == "content":
        (folder / "a").write_text("other")
    elif change == "name":
        (folder / "a").rename(folder / "d")
    elif change == "more":
        (folder / "d").touch()
    elif change == "fewer":
        (folder / "b").unlink()
    else:
        (folder / "b").rename(folder / "sub" / "b")
    assert hash_path(folder) != before


def test_hash_path__a_description_of_the_content_is_none(tmp_path: Path) -> None:
    folder = fill(tmp_path / "x", ["a"])
    before = hash_path(folder)
    fill(folder, ["content.json", "sub/content.json"])
    assert hash_path(folder) == before
