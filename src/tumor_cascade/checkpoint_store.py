"""Where checkpoints outlive their machine: a preempted pod's training goes on in the next pod, not from zero.

The store is named by TUMOR_CASCADE_CHECKPOINT_STORE, `s3://bucket/prefix` or a folder that machines share; without it
checkpoints stay where they are written. Keys are `<stage>/<content>/<file>`: other content never meets them.
"""

import os
import tempfile
import time
from pathlib import Path

import click

from tumor_cascade.errors import DataError
from tumor_cascade.object_store import open_store
from tumor_cascade.settings import get_checkpoint_store

POLL_S = 0.1
PROGRESS_NAME = "progress.jsonl"  # as `training.progress` names it, which would bring torch along


def restore_checkpoint(path: Path) -> None:
    """Take a checkpoint and its log over from the store, where the machine has none and the store has one.

    Args:
        path: `<checkpoints>/<stage>/<content>/last.ckpt`.

    Raises:
        DataError: The store cannot be read. Starting from zero instead would cost hours.
    """
    url = get_checkpoint_store()
    if url is not None and not path.exists():
        store = open_store(url)
        # The checkpoint last: where it is, its log is too.
        if all(store.download(name_key(file), file) for file in (path.with_name(PROGRESS_NAME), path)):
            click.echo(f"{path.parent.name}: carries on from the checkpoint in {store.url}.", err=True)
    if mark := find_mark():
        mark.touch()


def await_restored() -> None:
    """Wait until the first of the processes that torchrun has started on this machine has taken the store's checkpoint.

    Otherwise one process would carry on where another begins. If the first one fails, torchrun ends all.
    """
    mark = find_mark()
    while mark is not None and os.environ.get("LOCAL_RANK", "0") != "0" and not mark.exists():
        time.sleep(POLL_S)


def find_mark() -> Path | None:
    """Return the file by which processes of one torchrun know that the checkpoint is there; None without torchrun."""
    restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT")
    name = f"tumor-cascade-{os.environ.get('TORCHELASTIC_RUN_ID')}-{os.getppid()}-{restarts}"
    return None if restarts is None else Path(tempfile.gettempdir(), name)


def keep_checkpoint(path: Path) -> None:
    """Copy a checkpoint and its log to the store. A store that is away costs a warning, not the training.

    Args:
        path: As of `restore_checkpoint`.
    """
    url = get_checkpoint_store()
    if url is None:
        return
    try:
        store = open_store(url)
        for file in (path.with_name(PROGRESS_NAME), path):
            if file.exists():
                store.upload(file, name_key(file))
    except DataError as error:
        click.secho(f"{path.parent.name}: the checkpoint is on this machine only: {error}", err=True, fg="yellow")


def name_key(path: Path) -> str:
    """Return the key of a file in a training's checkpoint folder."""
    return "/".join(path.parts[-3:])
