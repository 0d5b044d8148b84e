"""The benchmarks run: they are called by hand, so nothing else would tell that the code has left them behind."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize("encoder", ["residual", "efficientnet_lite0"])
def test_training_speed_prints_a_ratio_per_precision_and_layout(encoder: str) -> None:
    command = [sys.executable, BENCHMARKS / "training_speed.py", "--encoder", encoder]
    command += ["--size", "32", "--batch-size", "2", "--batches", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("images/s") == 4
    assert "x1.00" in done.stdout


@pytest.mark.parametrize("name", sorted(path.name for path in BENCHMARKS.glob("*.py")))
def test_help_names_what_is_measured(name: str) -> None:
    done = subprocess.run([sys.executable, BENCHMARKS / name, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"benchmarks/{name}" in done.stdout
