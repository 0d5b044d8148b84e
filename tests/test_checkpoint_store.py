"""Checkpoints in a store: another machine carries on; a store that is away costs a warning."""

import subprocess
import sys
from pathlib import Path

import pytest

from tumor_cascade.checkpoint_store import keep_checkpoint, restore_checkpoint
from tumor_cascade.errors import DataError

STORE = "TUMOR_CASCADE_CHECKPOINT_STORE"


def write_checkpoint(machine: Path, content: bytes) -> Path:
    path = machine / "checkpoints/train_segmenter/0123456789abcdef/last.ckpt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.with_name("progress.jsonl").write_bytes(b"log of " + content)
    return path


def test_restore_checkpoint__takes_over_what_another_machine_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STORE, str(tmp_path / "store"))
    for content in (b"epoch 1", b"epoch 2"):
        first = write_checkpoint(tmp_path / "first", content)
        keep_checkpoint(first)
    second = tmp_path / "second" / first.relative_to(tmp_path / "first")
    second.parent.mkdir(parents=True)
    restore_checkpoint(second)
    assert second.read_bytes() == b"epoch 2"
    assert second.with_name("progress.jsonl").read_bytes() == b"log of epoch 2"


PROCESS = """
import os, sys, time
from pathlib import Path
from tumor_cascade.checkpoint_store import await_restored, restore_checkpoint
checkpoint, rank = Path(sys.argv[1]), int(os.environ["LOCAL_RANK"])
if rank == 0:
    time.sleep(1)  # a store takes its time
    restore_checkpoint(checkpoint)
await_restored()
print(rank, checkpoint.read_text(), flush=True)
"""


def test_await_restored__all_processes_of_a_node_carry_on_from_one_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STORE, str(tmp_path / "store"))
    first = write_checkpoint(tmp_path / "first", b"epoch 3")
    keep_checkpoint(first)
    second = tmp_path / "second" / first.relative_to(tmp_path / "first")
    second.parent.mkdir(parents=True)
    (tmp_path / "process.py").write_text(PROCESS, encoding="utf-8")
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3", tmp_path / "process.py", second]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
    assert sorted(line for line in done.stdout.splitlines() if line) == ["0 epoch 3", "1 epoch 3", "2 epoch 3"]


def test_restore_checkpoint__leaves_a_machine_s_own_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STORE, str(tmp_path / "store"))
    keep_checkpoint(write_checkpoint(tmp_path / "first", b"epoch 9"))
    own = write_checkpoint(tmp_path / "second", b"epoch 1")
    restore_checkpoint(own)
    assert own.read_bytes() == b"epoch 1"


def test_restore_checkpoint__of_other_content_finds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STORE, str(tmp_path / "store"))
    keep_checkpoint(write_checkpoint(tmp_path / "first", b"epoch 1"))
    other = tmp_path / "second/checkpoints/train_segmenter/fedcba9876543210/last.ckpt"
    other.parent.mkdir(parents=True)
    restore_checkpoint(other)
    assert list(other.parent.iterdir()) == []


def test_keep_checkpoint__to_a_store_that_is_away_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(STORE, str(tmp_path / "file" / "store"))
    keep_checkpoint(write_checkpoint(tmp_path / "first", b"epoch 1"))
    assert "the checkpoint is on this machine only" in capsys.readouterr().err


def test_restore_checkpoint__from_a_store_that_cannot_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv(STORE, "s3://bucket/checkpoints")
    with pytest.raises(DataError, match="check that the server runs"):
        restore_checkpoint(tmp_path / "checkpoints/train_segmenter/0123456789abcdef/last.ckpt")


def test_keep_checkpoint__without_a_store_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STORE, raising=False)
    path = write_checkpoint(tmp_path, b"epoch 1")
    keep_checkpoint(path)
    restore_checkpoint(path)
    assert path.read_bytes() == b"epoch 1"
