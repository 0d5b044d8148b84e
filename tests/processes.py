"""Work for processes of their own: they are killed, held back or run short of disk, as no function in a test can be."""

import multiprocessing
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from tumor_cascade.object_store import FolderStore, open_store
from tumor_cascade.storage import atomic_dir
from tumor_cascade.stored_prediction import local_out
from tumor_cascade.training.checkpoints import AtomicCheckpointIO, lock_checkpoints

# A server that has imported what takes seconds forks each process in a moment. This project's own modules are left to
# each process, which takes them from where the tests are run.
FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(
    [
        "matplotlib.figure",
        "monai.networks.nets",
        "pyarrow.parquet",
        "pytorch_lightning",
        "scipy.ndimage",
        "sklearn.metrics",
    ]
)
NUM_VALUES = 250_000  # a megabyte of float32


def run(target: Any, *args: Any) -> int:
    """Return the exit code of a function in a process of its own; minus the signal where one killed it."""
    process = FORKSERVER.Process(target=target, args=args, daemon=True)  # one that hangs holds nobody up
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def make_checkpoint(epoch: int) -> dict[str, Any]:
    """Return a megabyte that knows its epoch."""
    return {"epoch": epoch, "state_dict": {"weight": torch.full((NUM_VALUES,), float(epoch))}}


def save_within(path: Path, num_bytes: int, is_killed: bool) -> None:
    """Save epoch 2 where the system lets no file grow beyond a size: it kills the writer, or its write fails."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL if is_killed else signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))
    AtomicCheckpointIO().save_checkpoint(make_checkpoint(2), path)


def hold(folder: Path, held: Any, go_on: Any) -> None:
    """Hold a lock until told to go on."""
    with lock_checkpoints(folder):
        held.set()
        go_on.wait()
        (folder / "done").write_text("by the first")


def follow(folder: Path, stderr: Path, entered: Any) -> None:
    """Take the same lock and write down what the first one left."""
    os.dup2(os.open(stderr, os.O_WRONLY | os.O_CREAT), 2)
    with lock_checkpoints(folder):
        (folder / "seen").write_text((folder / "done").read_text() if (folder / "done").exists() else "nothing")
        entered.set()


def write_folder(path: Path, kill_after: str, written: Any = None, go_on: Any = None) -> None:
    """Write a folder and die: after its first file, or between the two renames that swap it in."""
    if kill_after == "first rename":
        replace = Path.replace

        def replace_and_die(self: Path, target: Path) -> None:
            replace(self, target)
            os.kill(os.getpid(), signal.SIGKILL)

        Path.replace = replace_and_die  # type: ignore[method-assign,assignment]
    with atomic_dir(path) as folder:
        (folder / "a").write_text("new")
        if written is not None:
            written.set()
            go_on.wait()
        if kill_after == "first file":
            os.kill(os.getpid(), signal.SIGKILL)
        (folder / "b").write_text("new")


def write_file_often(path: Path, text: str, times: int, writer: Any) -> None:
    """Write a file again and again, while others do the same."""
    for _ in range(times):
        with writer(path) as temporary:
            temporary.write_text(text)


def put_and_die(folder: Path) -> None:
    """Write a key where linking it kills the process."""
    os.link = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
    FolderStore(folder).put_if_absent("key", b"half")


def download_within(url: str, environment: dict[str, str], path: Path, num_bytes: int) -> None:
    """Download a key named "key" where the system kills whoever lets a file grow beyond a size."""
    os.environ.update(environment)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))
    open_store(url).download("key", path)


def overwrite_and_die(url: str, environment: dict[str, str]) -> None:
    """Write other predictions to a bucket, where reading the second mask kills the process."""
    os.environ.update(environment)

    def die(event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and str(args[0]).endswith("b.png"):
            os.kill(os.getpid(), signal.SIGKILL)

    with local_out(url, is_overwrite=True) as folder:
        (folder / "masks").mkdir(parents=True)
        for name in ("masks/a.png", "masks/b.png", "predictions.jsonl"):
            (folder / name).write_text("new")
        sys.addaudithook(die)
