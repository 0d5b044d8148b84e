import os
import pickle
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from processes import FORKSERVER, NUM_VALUES, follow, hold, make_checkpoint, run, save_within
from tumor_cascade.training.checkpoints import AtomicCheckpointIO, lock_checkpoints, read_checkpoint


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a checkpoint of epoch 1."""
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(make_checkpoint(1), path)
    return path


def read_epoch(path: Path) -> int:
    content = read_checkpoint(path)
    assert content is not None
    assert (content["state_dict"]["weight"] == content["epoch"]).all()
    return int(content["epoch"])


def test_save_checkpoint__replaces_the_old_one(path: Path) -> None:
    AtomicCheckpointIO().save_checkpoint(make_checkpoint(2), path)
    assert read_epoch(path) == 2
    assert [one.name for one in path.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("num_bytes", [1, 1000, 500_000, 4 * NUM_VALUES])
def test_save_checkpoint__killed_in_the_middle_of_a_write(path: Path, num_bytes: int) -> None:
    assert run(save_within, path, num_bytes, True) == -signal.SIGXFSZ
    assert read_epoch(path) == 1
    leftovers = [one for one in path.parent.iterdir() if one.suffix == ".tmp"]
    assert [one.stat().st_size for one in leftovers] == [num_bytes]  # killed at this very byte
    with lock_checkpoints(path.parent) as found:
        assert found == path and read_epoch(found) == 1
        AtomicCheckpointIO().save_checkpoint(make_checkpoint(2), found)
        assert read_epoch(found) == 2
        assert {one.name for one in path.parent.iterdir()} == {"last.ckpt", "lock"}


def test_save_checkpoint__full_disk_leaves_the_old_one(path: Path) -> None:
    assert run(save_within, path, 500_000, False) == 1
    assert read_epoch(path) == 1
    assert [one.name for one in path.parent.iterdir()] == ["last.ckpt"]


def test_read_checkpoint__missing_is_none(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path / "last.ckpt") is None


class Code:
    def __reduce__(self) -> Any:
        return os.mkdir, ("run-by-a-checkpoint",)


def test_read_checkpoint__runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"epoch": Code()}, "last.ckpt")
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        read_checkpoint(tmp_path / "last.ckpt")
    assert not (tmp_path / "run-by-a-checkpoint").exists()


@pytest.mark.parametrize("is_killed", [False, True])
def test_lock_checkpoints__second_process_waits_for_the_first(tmp_path: Path, is_killed: bool) -> None:
    held, go_on, entered = (FORKSERVER.Event() for _ in range(3))
    folder, stderr = tmp_path / "0123456789abcdef", tmp_path / "stderr"
    first = FORKSERVER.Process(target=hold, args=(folder, held, go_on), daemon=True)
    first.start()
    assert held.wait(30)
    second = FORKSERVER.Process(target=follow, args=(folder, stderr, entered), daemon=True)
    second.start()
    deadline = time.monotonic() + 30
    while not (stderr.exists() and stderr.read_text()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert stderr.read_text().startswith("0123456789abcdef: another process trains the same content; waiting")
    assert not entered.wait(0.3)
    if is_killed:
        first.kill()
    else:
        go_on.set()
    assert entered.wait(30)
    first.join()
    second.join()
    assert second.exitcode == 0
    assert (folder / "seen").read_text() == ("nothing" if is_killed else "by the first")


def test_lock_checkpoints__is_free_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), lock_checkpoints(tmp_path / "a"):
        raise ZeroDivisionError
    with lock_checkpoints(tmp_path / "a") as path, lock_checkpoints(tmp_path / "b") as other:
        assert path == tmp_path / "a" / "last.ckpt" and other == tmp_path / "b" / "last.ckpt"
