"""Checkpoints that survive a kill at any moment: one file per training, written atomically, under an exclusive lock."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import torch
from filelock import FileLock, Timeout
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from tumor_cascade.checkpoint_store import keep_checkpoint, restore_checkpoint
from tumor_cascade.storage import atomic_file

CHECKPOINT_NAME = "last"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint files, written to a temporary file, flushed to disk, then renamed."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint so that `path` holds the old or the new one, never a part; keep a copy in the store."""
        with atomic_file(Path(path)) as temporary:
            torch.save(checkpoint, temporary)
        keep_checkpoint(Path(path))


def is_main_process() -> bool:
    """Say whether this process writes what a training leaves; of several that share a training, one does."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0


def is_first_of_node() -> bool:
    """Say whether this process is the first of those that share a training on this machine."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


@contextmanager
def lock_checkpoints(checkpoint_dir: Path) -> Iterator[Path]:
    """Hold a training's checkpoint folder alone; waits while another process trains the same content.

    A killed orchestrator leaves its trainer alive: a second start waits for it, then finds its finished checkpoint.
    The lock is the operating system's, so it ends with the process that holds it. Of the processes that share a
    training only the main one takes it. A machine that has no checkpoint yet takes over the store's.

    Yields:
        Path of the checkpoint file, which may not exist yet.
    """
    checkpoint_dir.mkdir(parents=True, exist_ok=True)
    checkpoint = checkpoint_dir / f"{CHECKPOINT_NAME}.ckpt"
    if not is_main_process():
        if is_first_of_node():
            restore_checkpoint(checkpoint)
        yield checkpoint
        return
    lock = FileLock(checkpoint_dir / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        click.echo(f"{checkpoint_dir.name}: another process trains the same content; waiting for it to end.", err=True)
        lock.acquire()
    try:
        restore_checkpoint(checkpoint)
        yield checkpoint
    finally:
        lock.release()


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """Return a checkpoint's content (tensors and plain values only), or None where there is no file."""
    if not path.exists():
        return None
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content
