"""`tumor-cascade pipeline`: all stages with `dvc repro`, then promotion, with values overridden for this once."""

import fcntl
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tumor_cascade.configuration import override_params
from tumor_cascade.errors import TumorCascadeError
from tumor_cascade.params import parse_params, read_yaml
from tumor_cascade.side_by_side import CLI, Step, run_steps
from tumor_cascade.storage import atomic_file

RAW = Path("data", "raw")
PARAMS_PATH = Path("params.yaml")  # that DVC reads
DVC_FILE = Path("dvc.yaml")
DVC = (sys.executable, "-m", "dvc", "repro")
PROMOTION = (*CLI, "promote_cascade")


class PipelineError(TumorCascadeError):
    """A pipeline that cannot run here now."""


def run_pipeline(
    params_path: Path,
    overrides: Sequence[str],
    *,
    has_promotion: bool,
    has_dvc: bool = True,
    skipped: Sequence[str] = (),
    num_jobs: int = 1,
) -> None:
    """Run every stage that a change affects, and offer the product to the registry's gate.

    Args:
        params_path: The file that DVC reads.
        overrides: See `override_params`; the file is as before when this ends.
        has_promotion: Whether the product is judged. A refusal is a verdict, not a failure.
        has_dvc: Whether DVC runs the stages; if not, all of them run.
        skipped: Stages left out, without DVC.
        num_jobs: Commands that run at the same time, without DVC: the trainings need nothing of each other.

    Raises:
        ParamsError: An override is wrong; nothing ran.
        PipelineError: Another one runs here.
        CommandError: A stage failed.
    """
    RAW.mkdir(parents=True, exist_ok=True)  # of a fresh clone, where it would be missing even for the phantom
    programs = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    with overridden(params_path, overrides) as lock:
        whole = {"dvc": Step({"dvc repro": DVC})}
        steps = whole if has_dvc else list_steps(DVC_FILE, read_yaml(params_path), skipped)
        if has_promotion:
            steps["promote_cascade"] = Step({"promote_cascade": PROMOTION}, frozenset(steps))
        run_steps(steps, num_jobs, environment, [lock])


def list_steps(dvc_path: Path, values: dict[str, Any], skipped: Sequence[str] = ()) -> dict[str, Step]:
    """Return the stages of a dvc.yaml in its order, a matrix unrolled, as commands of this interpreter's.

    Args:
        dvc_path: The file; what a stage reads of another stands in `artifacts/<the other>`.
        values: Sections of the params file, which a matrix may name.
        skipped: Stages left out.
    """
    steps = {}
    for name, stage in read_yaml(dvc_path)["stages"].items():
        if name in skipped:
            continue
        ((axis, reference),) = stage.get("matrix", {"": ""}).items()
        section, _, key = reference.strip("${}").partition(".")
        commands = {}
        for item in values[section][key] if axis else [None]:
            program, *arguments = shlex.split(stage["cmd"].replace(f"${{item.{axis}}}", str(item)))
            assert program == "tumor-cascade" and not re.search(r"\$\{", " ".join(arguments))
            commands[f"{name}, {axis} {item}" if axis else name] = (*CLI, *arguments)
        deps = [Path(dep).parts for dep in stage["deps"]]
        steps[name] = Step(commands, frozenset(dep[1] for dep in deps if dep[0] == "artifacts").difference(skipped))
    return steps


@contextmanager
def overridden(params_path: Path, overrides: Sequence[str]) -> Iterator[int]:
    """Give a params file other values for a while; on leaving it has its old bytes, after a kill when next entered.

    Yields:
        Descriptor of the lock that keeps other pipelines away from the file. Children that are given it hold it too, so
        that the lock outlives a killed parent whose children still read the file.

    Raises:
        ParamsError: A key is unknown, or a value breaks its rule; nothing was written.
        PipelineError: Another pipeline runs here, or one was killed and the file edited since.
    """
    kept_path = params_path.with_name(f"{params_path.name}.before-set")
    with params_path.with_name(f".{params_path.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PipelineError(
                f"Another pipeline works with {params_path.name} here: wait for its end, or work in another clone."
            ) from None
        except OSError:  # a file system without locks, where pipelines are not kept apart
            pass
        _put_back(params_path, kept_path)
        if not any(overrides):
            yield lock.fileno()
            return
        text, before = override_params(params_path, overrides), params_path.read_bytes().decode()
        parse_params(yaml.safe_load(text), " ".join([params_path.name, *(f"--set {one}" for one in overrides)]))
        _write(kept_path, json.dumps({"before": before, "overridden": text}))
        _write(params_path, text)
        try:
            yield lock.fileno()
        finally:
            _write(params_path, before)
            kept_path.unlink()


def _put_back(params_path: Path, kept_path: Path) -> None:
    """Undo what a killed process left overridden; nothing that a person has written since is touched."""
    if not kept_path.exists():
        return
    texts = json.loads(kept_path.read_bytes())
    if params_path.read_bytes().decode() not in texts.values():
        raise PipelineError(
            f"{params_path.name} was edited after a pipeline with --set was killed. Its text from before stands in "
            f'{kept_path.name} as "before": take what you need, then delete that file.'
        )
    _write(params_path, texts["before"])
    kept_path.unlink()


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_bytes(text.encode())
