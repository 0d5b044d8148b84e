"""kill -9 at any moment, of anything, and the same final hashes as an undisturbed run.

Prints the steps at which it killed; TEST_KILL_SEED=<printed seed> chooses them again.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tumor_cascade.storage import hash_file
from workplaces import Workplace, make_workplace

MIN_TRAINING_S = 60
FIRST_NUM_EPOCHS = 32
TIMEOUT_S = 300
# Batch norm, averaging, a schedule, dropped sequences and noise: all state and all randomness that a resume could lose.
SETTINGS = (
    "train_segmenter.widths=[8, 16, 32, 64, 128]",
    "train_segmenter.lr_schedule=cosine",
    "train_segmenter.ema_decay=0.9",
    "train_segmenter.early_stopping_patience=1000",
)
OUTPUTS = {
    "ingest_data": ("slices", "manifest.parquet"),
    "split_data": ("splits", "metrics.json"),
    "train_segmenter/fold-0": ("segmenter", "report", "metrics.json"),
}
# Lightning takes callbacks from installed packages: this one, on the path of the child alone, tells the step.
STEP_LOG = """
import os, time
from pytorch_lightning import Callback

class StepLog(Callback):
    def on_train_batch_end(self, trainer, *_):
        with open(os.environ["TEST_STEP_LOG"], "a") as log:
            log.write(f"{os.getpid()} {trainer.global_step} {time.monotonic()}\\n")
"""
ENTRY_POINTS = "[pytorch_lightning.callbacks_factory]\nstep_log = step_log:StepLog\n"

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(3600)]


class WatchedWorkplace(Workplace):
    """A workplace whose commands run one by one in process groups of their own and tell each training step."""

    @property
    def artifacts(self) -> Path:
        return self.folder / "artifacts"

    def read_steps(self) -> list[tuple[int, int, float]]:
        """Return process, optimizer step and time of all steps so far."""
        path = self.folder / "steps.log"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(int(pid), int(step), float(at)) for pid, step, at in map(str.split, lines)]

    def read_output(self) -> str:
        return (self.folder / "output.log").read_text()

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a command; its output is added to output.log."""
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{self.folder / 'src'}{os.pathsep}{self.folder / 'plugin'}",
            "TEST_STEP_LOG": str(self.folder / "steps.log"),
            "TUMOR_CASCADE_NUM_THREADS": "1",
            "TUMOR_CASCADE_DEVICE": "cpu",
            "DVC_NO_ANALYTICS": "1",
        }
        with (self.folder / "output.log").open("ab") as log:
            return subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def finish(self, *command: str) -> None:
        """Run a command to its end; it must succeed."""
        assert self.start(*command).wait(TIMEOUT_S) == 0, self.read_output()[-3000:]


def make_watched(folder: Path, num_epochs: int) -> WatchedWorkplace:
    settings = (*SETTINGS, f"train_segmenter.max_epochs={num_epochs}")
    plugin = make_workplace(folder, "smoke", settings).folder / "plugin"
    (plugin / "step_log-1.dist-info").mkdir(parents=True)
    (plugin / "step_log.py").write_text(STEP_LOG)
    (plugin / "step_log-1.dist-info" / "entry_points.txt").write_text(ENTRY_POINTS)
    (plugin / "step_log-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: step_log\nVersion: 1\n")
    return WatchedWorkplace(folder)


def hash_outputs(place: WatchedWorkplace) -> dict[str, str]:
    """Return the SHA-256 of every output file of the three stages, and of nothing that is missing."""
    digests = {}
    for stage, names in OUTPUTS.items():
        for name in names:
            path = place.artifacts / stage / name
            files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
            assert files, path
            digests.update({one.relative_to(place.artifacts).as_posix(): hash_file(one) for one in files})
    return digests


def run_undisturbed(folder: Path) -> tuple[WatchedWorkplace, int]:
    """Run the stages by themselves, one command each, with a training of at least a minute; return its epochs."""
    num_epochs = FIRST_NUM_EPOCHS
    while True:
        place = make_watched(folder / f"undisturbed-{num_epochs}", num_epochs)
        data, split, train = (place.artifacts / name for name in ("ingest_data", "split_data", "train_segmenter"))
        inputs = ["--slices", f"{data}/slices", "--manifest", f"{data}/manifest.parquet"]
        ingest_outputs = ["--out-slices", f"{data}/slices", "--out-manifest", f"{data}/manifest.parquet"]
        place.finish("tumor-cascade", "ingest_data", "--raw", "data/raw", *ingest_outputs)
        split_outputs = ["--out-splits", f"{split}/splits", "--out-metrics", f"{split}/metrics.json"]
        place.finish("tumor-cascade", "split_data", *inputs, *split_outputs)
        out = train / "fold-0"
        outputs = ["--out-segmenter", f"{out}/segmenter", "--out-report", f"{out}/report"]
        inputs += ["--splits", f"{split}/splits", "--fold", "0"]
        place.finish("tumor-cascade", "train_segmenter", *inputs, *outputs, "--out-metrics", f"{out}/metrics.json")
        steps = place.read_steps()
        duration_s = steps[-1][2] - steps[0][2]
        if duration_s >= MIN_TRAINING_S:
            print(f"undisturbed training: {duration_s:.0f} s, {steps[-1][1]} steps, {num_epochs} epochs")
            return place, num_epochs
        num_epochs = int(num_epochs * 1.3 * MIN_TRAINING_S / duration_s) + 1


def wait_until(is_reached: Callable[[], object], process: subprocess.Popen[bytes], place: WatchedWorkplace) -> None:
    """Wait for a moment in the life of a running process."""
    deadline = time.monotonic() + TIMEOUT_S
    while not is_reached():
        assert process.poll() is None, place.read_output()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.001)


def reach_step(place: WatchedWorkplace, process: subprocess.Popen[bytes], wanted: int) -> int:
    """Wait until this process trains and has reached a step; return the trainer's process id."""
    num_before = len(place.read_steps())
    wait_until(lambda: any(step >= wanted for _, step, _ in place.read_steps()[num_before:]), process, place)
    return place.read_steps()[-1][0]


def find_stage(dvc: subprocess.Popen[bytes], stage: str) -> int | None:
    """Return the process id of a stage that dvc runs."""
    for child in psutil.Process(dvc.pid).children(recursive=True):
        try:
            if child.name() != "sh" and stage in child.cmdline():
                return child.pid
        except psutil.NoSuchProcess:
            continue
    return None


def is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def measure_leftovers(folder: Path) -> list[int]:
    """Return the sizes of temporary files and folders; those of a living writer may vanish at any moment."""
    sizes = []
    for path in folder.rglob(".*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            sizes.append(path.stat().st_size)
    return sizes


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[str], None]]:
    """Print past pytest's capture: what was killed is part of the result."""

    def write(text: str) -> None:
        with capsys.disabled():
            print(f"\n  {text}", end="", flush=True)

    yield write


def test_kill__same_hashes_as_an_undisturbed_run(tmp_path: Path, say: Callable[[str], None]) -> None:
    seed = int(os.environ.get("TEST_KILL_SEED", random.SystemRandom().randrange(10**6)))
    rng = random.Random(seed)
    say(f"TEST_KILL_SEED={seed}")
    undisturbed, num_epochs = run_undisturbed(tmp_path)
    steps = undisturbed.read_steps()
    num_steps, duration_s = steps[-1][1], steps[-1][2] - steps[0][2]
    say(f"undisturbed: {num_steps} steps in {num_epochs} epochs, {duration_s:.0f} s")

    killed = make_watched(tmp_path / "killed", num_epochs)

    def repro() -> subprocess.Popen[bytes]:
        return killed.start("dvc", "repro", "train_segmenter")

    def draw_step(low: float, high: float) -> int:
        return rng.randint(int(low * num_steps), int(high * num_steps))

    def say_killed(what: str) -> None:
        say(f"killed {what} at step {killed.read_steps()[-1][1]} of {num_steps}")

    # The stage, while it ingests.
    num_volumes, dvc = rng.randint(1, 15), repro()
    data = killed.artifacts / "ingest_data"
    wait_until(lambda: len(list(data.glob(".slices.*.tmp/*.npy"))) >= num_volumes, dvc, killed)
    pid = find_stage(dvc, "ingest_data")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert dvc.wait(TIMEOUT_S) != 0
    say(f"killed the stage while it ingested, after {num_volumes} of 16 patients")
    assert not (data / "slices").exists() and not (data / "manifest.parquet").exists()

    # The stage, while it trains.
    dvc = repro()
    os.kill(reach_step(killed, dvc, draw_step(0.02, 0.15)), signal.SIGKILL)
    assert dvc.wait(TIMEOUT_S) != 0
    say_killed("the stage")
    assert not measure_leftovers(data)  # what the killed ingest had left is swept away

    # The whole group.
    dvc = repro()
    trainer = reach_step(killed, dvc, draw_step(0.15, 0.3))
    os.killpg(dvc.pid, signal.SIGKILL)
    dvc.wait(TIMEOUT_S)
    psutil.wait_procs([psutil.Process(trainer)] if is_alive(trainer) else [], timeout=30)
    assert not is_alive(trainer)
    say_killed("the whole group")

    # The stage, inside a checkpoint write.
    checkpoints = killed.folder / "checkpoints"
    for attempt in range(1, 6):
        dvc = repro()
        trainer = reach_step(killed, dvc, draw_step(0.3, 0.4))
        wait_until(lambda: any(measure_leftovers(checkpoints)), dvc, killed)
        os.kill(trainer, signal.SIGKILL)
        assert dvc.wait(TIMEOUT_S) != 0
        halves = measure_leftovers(checkpoints)
        if halves:
            say_killed(f"the stage inside a checkpoint write, {halves[0]} bytes of it written (attempt {attempt}),")
            break
    assert halves

    # The parent alone: its trainer lives on, and the next start waits for it.
    dvc = repro()
    trainer = reach_step(killed, dvc, draw_step(0.45, 0.5))
    os.kill(dvc.pid, signal.SIGKILL)
    dvc.wait(TIMEOUT_S)
    say_killed("the dvc parent")
    assert is_alive(trainer)
    killed.finish("dvc", "repro", "train_segmenter")
    assert "another process trains the same content; waiting" in killed.read_output()

    assert hash_outputs(killed) == hash_outputs(undisturbed)
    assert not measure_leftovers(killed.artifacts) and not measure_leftovers(checkpoints)
    say("same hashes\n")
