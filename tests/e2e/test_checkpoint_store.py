"""A training that loses its machine goes on on another one, from checkpoints in an S3 bucket, to the same weights."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from object_server import BUCKET, CREDENTIALS
from packed_folders import read_files
from workplaces import Workplace

HELD_EPOCH, NUM_EPOCHS = 4, 10  # of preset `smoke`
TIMEOUT_S = 300
# Lightning takes callbacks from installed packages: this one, on the path of the child alone, tells each step and stops
# the training for ever where it begins an epoch.
STEP_LOG = """
import os, time
from pathlib import Path
from pytorch_lightning import Callback

class StepLog(Callback):
    def on_train_epoch_start(self, trainer, *_):
        if str(trainer.current_epoch) == os.environ.get("TEST_HELD_EPOCH"):
            Path(os.environ["TEST_STEP_LOG"]).with_name("held").touch()
            time.sleep(3600)

    def on_train_batch_end(self, trainer, *_):
        with open(os.environ["TEST_STEP_LOG"], "a") as log:
            log.write(f"{trainer.current_epoch} {trainer.global_step}\\n")
"""

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@dataclass(frozen=True)
class Machine:
    """A folder with its own checkpoints, beside data that all machines see."""

    folder: Path
    data: Path

    def start(self, **environment: str) -> subprocess.Popen[bytes]:
        """Start the segmenter's training."""
        plugin = self.folder / "plugin"
        (plugin / "step_log-1.dist-info").mkdir(parents=True)
        (plugin / "step_log.py").write_text(STEP_LOG)
        (plugin / "step_log-1.dist-info/entry_points.txt").write_text(
            "[pytorch_lightning.callbacks_factory]\nstep_log = step_log:StepLog\n"
        )
        (plugin / "step_log-1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: step_log\nVersion: 1\n")
        artifacts = self.data / "artifacts"
        inputs = ("--slices", "ingest_data/slices", "--manifest", "ingest_data/manifest.parquet")
        flags = [part if part.startswith("--") else str(artifacts / part) for part in inputs]
        flags += ["--splits", str(artifacts / "split_data/splits"), "--params", str(self.data / "params.yaml")]
        outputs = (
            "--out-segmenter",
            "out/segmenter",
            "--out-report",
            "out/report",
            "--out-metrics",
            "out/metrics.json",
        )
        command = [sys.executable, "-m", "tumor_cascade.cli", "train_segmenter", "--fold", "0", *flags, *outputs]
        paths = {"PYTHONPATH": f"{self.data / 'src'}{os.pathsep}{plugin}", "TEST_STEP_LOG": str(self.folder / "steps")}
        with (self.folder / "output.log").open("wb") as log:
            return subprocess.Popen(
                command, cwd=self.folder, env={**os.environ, **paths, **environment}, stdout=log, stderr=log
            )

    def read_steps(self) -> list[tuple[int, int]]:
        """Return epoch and optimizer step of each batch that was trained here."""
        return [(int(epoch), int(step)) for epoch, step in map(str.split, (self.folder / "steps").open())]

    def read_output(self) -> str:
        return (self.folder / "output.log").read_text()


def make_machine(folder: Path, data: Path) -> Machine:
    folder.mkdir()
    return Machine(folder, data)


def test_train_segmenter__killed_on_one_machine_carries_on_on_another(
    smoke: Workplace, endpoint_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL_S3": endpoint_url}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TUMOR_CASCADE_CHECKPOINT_STORE", f"s3://{BUCKET}/{tmp_path.name}/checkpoints")
    first, second = (make_machine(tmp_path / name, smoke.folder) for name in ("first", "second"))

    training = first.start(TEST_HELD_EPOCH=str(HELD_EPOCH))
    deadline = time.monotonic() + TIMEOUT_S
    while not (first.folder / "held").exists():
        assert training.poll() is None and time.monotonic() < deadline, first.read_output()
        time.sleep(0.1)
    training.send_signal(signal.SIGKILL)
    training.wait()
    shutil.rmtree(first.folder / "checkpoints")  # with its machine
    assert first.read_steps()[-1][0] == HELD_EPOCH - 1

    assert second.start().wait(TIMEOUT_S) == 0, second.read_output()
    assert f"carries on from the checkpoint in s3://{BUCKET}/{tmp_path.name}/checkpoints" in second.read_output()
    steps = second.read_steps()
    per_epoch = first.read_steps()[-1][1] // HELD_EPOCH
    assert (steps[0], steps[-1]) == ((HELD_EPOCH, HELD_EPOCH * per_epoch + 1), (NUM_EPOCHS - 1, NUM_EPOCHS * per_epoch))
    undisturbed = smoke.folder / "artifacts/train_segmenter/fold-0"
    for name in ("segmenter", "report"):
        assert read_files(second.folder / "out" / name) == read_files(undisturbed / name)
