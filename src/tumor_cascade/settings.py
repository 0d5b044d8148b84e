"""Where things run, taken from the environment: nothing here changes a result's meaning, so none of it is a param."""

import os
from pathlib import Path

from tumor_cascade.errors import ParamsError

PREFIX = "TUMOR_CASCADE_"


def get_checkpoints_dir() -> Path:
    """Return the folder of training checkpoints: TUMOR_CASCADE_CHECKPOINTS, or `checkpoints`."""
    return Path(os.environ.get(f"{PREFIX}CHECKPOINTS", "checkpoints"))


def get_checkpoint_store() -> str | None:
    """Return where checkpoints are kept beyond this machine: TUMOR_CASCADE_CHECKPOINT_STORE, or None."""
    return os.environ.get(f"{PREFIX}CHECKPOINT_STORE") or None


def get_data_store() -> str | None:
    """Return where packed slices are published: TUMOR_CASCADE_DATA_STORE, or None."""
    return os.environ.get(f"{PREFIX}DATA_STORE") or None


def get_data_cache() -> Path:
    """Return the node's folder of fetched slices: TUMOR_CASCADE_DATA_CACHE, or `~/.cache/tumor-cascade/data`."""
    return Path(os.environ.get(f"{PREFIX}DATA_CACHE") or Path.home() / ".cache" / "tumor-cascade" / "data")


def get_weights_dir() -> Path:
    """Return the cache of downloaded weights: TUMOR_CASCADE_WEIGHTS, or `~/.cache/tumor-cascade`."""
    default = Path.home() / ".cache" / "tumor-cascade"
    return Path(os.environ.get(f"{PREFIX}WEIGHTS", default))


def get_device() -> str:
    """Return the device networks run on: TUMOR_CASCADE_DEVICE (`auto`, `cpu`, `cuda`), by default `auto`."""
    device = os.environ.get(f"{PREFIX}DEVICE", "auto")
    if device not in ("auto", "cpu", "cuda"):
        raise ParamsError(f"{PREFIX}DEVICE is {device!r}; must be auto, cpu or cuda. Set one of these or unset it.")
    return device


def get_num_threads() -> int | None:
    """Return the CPU threads of a training: TUMOR_CASCADE_NUM_THREADS, or None for torch's choice.

    The sums of floats depend on it: equal weights need equal numbers of threads.
    """
    return _get_count("NUM_THREADS")


def get_num_processes() -> int:
    """Return the processes of a training on this node, one per GPU or CPU share: TUMOR_CASCADE_NUM_PROCESSES, or 1."""
    return _get_count("NUM_PROCESSES") or 1


def get_num_nodes() -> int:
    """Return the nodes of a training, each started by a launcher such as torchrun: TUMOR_CASCADE_NUM_NODES, or 1."""
    return _get_count("NUM_NODES") or 1


def _get_count(name: str) -> int | None:
    value = os.environ.get(f"{PREFIX}{name}")
    if value is None:
        return None
    if not value.isdecimal() or int(value) < 1:
        raise ParamsError(f"{PREFIX}{name} is {value!r}; must be a whole number from 1. Set one or unset it.")
    return int(value)


def choose_device() -> str:
    """Return the torch device for inference: the GPU where there is one and it is not declined."""
    import torch

    device = get_device()
    if device == "cuda" and not torch.cuda.is_available():
        raise ParamsError(
            f"{PREFIX}DEVICE is cuda but torch sees no GPU; set it to cpu or auto, or install CUDA torch."
        )
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"


def get_port(name: str, default: int) -> int:
    """Return a port from the environment, e.g. TUMOR_CASCADE_MLFLOW_PORT.

    Raises:
        ParamsError: It is no number from 1 to 65535.
    """
    value = os.environ.get(f"{PREFIX}{name}", str(default))
    if not value.isdecimal() or not 1 <= int(value) <= 65535:
        raise ParamsError(f"{PREFIX}{name} is {value!r}; must be a port from 1 to 65535. Set one or unset it.")
    return int(value)


def get_runs_dir() -> Path:
    """Return the folder of execution records: TUMOR_CASCADE_RUNS, or `runs`."""
    return Path(os.environ.get(f"{PREFIX}RUNS", "runs"))


def get_fact(name: str) -> str | None:
    """Return what an image's environment says of itself, e.g. TUMOR_CASCADE_IMAGE_DIGEST; None where it is silent."""
    return os.environ.get(f"{PREFIX}{name}") or None
