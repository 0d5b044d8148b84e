"""`tumor-cascade pipeline`: all stages with `dvc repro`, then promotion, with values overridden for this once."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tumor_cascade.configuration import override_params
from tumor_cascade.errors import TumorCascadeError
from tumor_cascade.params import parse_params, read_yaml
from tumor_cascade.storage import atomic_file

RAW = Path("data", "raw")
DVC = (sys.executable, "-m", "dvc", "repro")
PROMOTION = (sys.executable, "-m", "tumor_cascade.cli", "promote_cascade")


class PipelineError(TumorCascadeError):
    """A step of the pipeline that failed; it has said why."""


def run_pipeline(params_path: Path, overrides: Sequence[str], *, has_promotion: bool) -> None:
    """Run every stage that a change affects, and offer the product to the registry's gate.

    Args:
        params_path: The file that DVC reads.
        overrides: See `override_params`; the file is as before when this ends.
        has_promotion: Whether the product is judged. A refusal is a verdict, not a failure.

    Raises:
        ParamsError: An override is wrong; nothing ran.
        PipelineError: A step failed.
    """
    RAW.mkdir(parents=True, exist_ok=True)  # of a fresh clone, where it would be missing even for the phantom
    programs = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    with overridden(params_path, overrides):
        for command in (DVC, PROMOTION) if has_promotion else (DVC,):
            done = subprocess.run(command, env=environment, check=False)
            if done.returncode:
                raise PipelineError(f"{' '.join(command[2:])} ended with {done.returncode}; see above.")


@contextmanager
def overridden(params_path: Path, overrides: Sequence[str]) -> Iterator[None]:
    """Give a params file other values for a while; on leaving it has its old bytes.

    Raises:
        ParamsError: A key is unknown, or a value breaks its rule; nothing was written.
    """
    if not any(overrides):
        yield
        return
    before, text = params_path.read_bytes(), override_params(params_path, overrides)
    with atomic_file(params_path) as temporary:
        temporary.write_text(text, encoding="utf-8")
        parse_params(read_yaml(temporary), " ".join([params_path.name, *(f"--set {one}" for one in overrides)]))
    try:
        yield
    finally:
        with atomic_file(params_path) as temporary:
            temporary.write_bytes(before)
