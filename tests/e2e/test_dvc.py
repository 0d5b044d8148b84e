"""`dvc repro` as its users expect it: nothing twice, only what a change affects, and a clone that needs no run."""

import re
import shutil
import time
from pathlib import Path

import pytest

from workplaces import Workplace

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture
def copy(smoke: Workplace, tmp_path: Path) -> Workplace:
    """The finished run in a folder that a test may change."""
    shutil.copytree(smoke.folder, tmp_path / "copy", symlinks=True)
    return Workplace(tmp_path / "copy")


def test_repro__second_time_does_nothing(smoke: Workplace) -> None:
    started = time.monotonic()
    output = smoke.run("dvc", "repro")
    print(f"no-op repro: {time.monotonic() - started:.1f} s")
    assert smoke.find_runs(output) == []
    assert "Data and pipelines are up to date." in output


def test_repro__segmenter_param_retrains_the_segmenter_only(copy: Workplace) -> None:
    before = copy.read_json("artifacts/train_classifier/fold-0/classifier/content.json")
    copy.run("tumor-cascade", "configure", "smoke", "--set", "train_segmenter.max_epochs=1")
    assert copy.find_runs(copy.run("dvc", "repro")) == ["train_segmenter@0", "assemble_cascade", "evaluate_cascade"]
    assert copy.read_json("artifacts/train_classifier/fold-0/classifier/content.json") == before
    assert "segmenter/val_dice" in copy.run("dvc", "metrics", "diff")
    assert "train_segmenter.max_epochs" in copy.run("dvc", "params", "diff")
    copy.run("dvc", "plots", "diff", "--out", "plots")
    assert (copy.folder / "plots" / "index.html").is_file()


@pytest.mark.parametrize(
    ("path", "stage"),
    [
        ("training/losses.py", "train_segmenter@0"),
        ("evaluation/surfaces.py", "evaluate_cascade"),  # its dep is the folder
        ("data/stratification.py", "split_data"),
    ],
)
def test_status__edited_library_file_makes_its_stage_stale(copy: Workplace, path: str, stage: str) -> None:
    with (copy.folder / "src/tumor_cascade" / path).open("a", encoding="utf-8") as file:
        file.write("\n# edited\n")
    assert re.search(rf"modified: +src/tumor_cascade/{path.split('/')[0]}", copy.run("dvc", "status", stage))
    assert "up to date" in copy.run("dvc", "status", "train_classifier@0")


def test_exp_run__override_on_the_command_line(copy: Workplace) -> None:
    output = copy.run("dvc", "exp", "run", "-S", "evaluate_cascade.num_bootstrap=200", "--name", "fewer")
    assert copy.find_runs(output) == ["evaluate_cascade"]
    assert "num_bootstrap: 200" in (copy.folder / "params.yaml").read_text(encoding="utf-8")
    assert "fewer" in copy.run("dvc", "exp", "show", "--csv")


def test_remote__push_clone_pull_and_nothing_runs(copy: Workplace, tmp_path: Path) -> None:
    copy.run("tumor-cascade", "remote", str(tmp_path / "store"))
    copy.run("git", "commit", "--quiet", "--all", "--message", "A remote")
    copy.run("dvc", "push")
    clone = Workplace(tmp_path / "clone")
    copy.run("git", "clone", "--quiet", str(copy.folder), str(clone.folder))
    (clone.folder / "data" / "raw").mkdir(parents=True)
    clone.run("dvc", "pull")
    assert clone.find_runs(clone.run("dvc", "repro")) == []
    assert "Research use only" in (clone.folder / "artifacts/evaluate_cascade/report/report.html").read_text("utf-8")
