"""Trainings under several processes: the same gradients as one process, one set of outputs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from distributed import BATCH, Step, measure_share
from processes import FORKSERVER
from tumor_cascade.configuration import configure
from tumor_cascade.settings import get_num_nodes, get_num_processes


@pytest.mark.parametrize("role", ["classifier", "segmenter"])
def test_training_step__two_processes_give_the_gradients_of_one(role: str, tmp_path: Path) -> None:
    processes = [
        FORKSERVER.Process(target=measure_share, args=(role, rank, 2, tmp_path), daemon=True) for rank in (0, 1)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    shared, alone = load_file(tmp_path / "gradients.safetensors"), Step(role)
    alone(BATCH).backward()
    expected = {name: value.grad for name, value in alone.named_parameters() if value.grad is not None}
    assert shared.keys() == expected.keys() and len(expected) > 5
    for name, gradient in expected.items():
        torch.testing.assert_close(
            shared[name], gradient, rtol=1e-4, atol=1e-6, msg=lambda text, at=name: f"{at}: {text}"
        )


def run_stage(folder: Path, *arguments: str, num_processes: int = 1) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(folder),
        "OMP_NUM_THREADS": "1",
        "TUMOR_CASCADE_DEVICE": "cpu",
        "TUMOR_CASCADE_NUM_THREADS": "1",
        "TUMOR_CASCADE_NUM_PROCESSES": str(num_processes),
    }
    command = [str(Path(sys.executable).with_name("tumor-cascade")), *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("distributed")
    sizes = ["ingest_data.phantom.num_patients=8", "ingest_data.phantom.num_slices=8", "split_data.num_folds=2"]
    configure("smoke", folder / "params.yaml", [*sizes, "train_segmenter.max_epochs=2"])
    for stage, flags in (
        ("ingest_data", "--raw raw --out-slices slices --out-manifest manifest.parquet"),
        (
            "split_data",
            "--slices slices --manifest manifest.parquet --out-splits splits --out-metrics splits_metrics.json",
        ),
    ):
        done = run_stage(folder, stage, *flags.split())
        assert done.returncode == 0, done.stderr
    return folder


FLAGS = "--fold 0 --slices slices --manifest manifest.parquet --splits splits"
OUTPUTS = "--out-segmenter out/segmenter --out-report out/report --out-metrics out/metrics.json"


def test_train_segmenter__two_processes_leave_one_network(prepared: Path) -> None:
    done = run_stage(prepared, "train_segmenter", *FLAGS.split(), *OUTPUTS.split(), num_processes=2)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("epoch 2/2") == 1  # one process speaks
    metrics = json.loads((prepared / "out" / "metrics.json").read_text())
    assert metrics["segmenter/num_epochs"] == 2
    (log,) = prepared.glob("checkpoints/train_segmenter/*/progress.jsonl")
    assert [json.loads(line).get("epoch") for line in log.read_text().splitlines()] == [None, 0, 1]


def test_train_segmenter__a_batch_that_cannot_be_shared_is_refused(prepared: Path) -> None:
    other_fold = FLAGS.replace("--fold 0", "--fold 1")  # one that has not been trained
    done = run_stage(prepared, "train_segmenter", *other_fold.split(), *OUTPUTS.split(), num_processes=3)
    assert done.returncode == 2
    assert "batch_size is 16; must be a multiple of the 3 processes that share it" in done.stderr


def test_get_num_processes__one_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PROCESSES", "NODES"):
        monkeypatch.delenv(f"TUMOR_CASCADE_NUM_{name}", raising=False)
    assert (get_num_processes(), get_num_nodes()) == (1, 1)
    monkeypatch.setenv("TUMOR_CASCADE_NUM_NODES", "2")
    assert get_num_nodes() == 2
