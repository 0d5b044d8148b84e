import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from click.testing import CliRunner

from tumor_cascade.cli import main
from tumor_cascade.configuration import configure, override_params
from tumor_cascade.errors import ParamsError
from tumor_cascade.params import STAGES, read_yaml
from tumor_cascade.whole_pipeline import PipelineError, list_steps, overridden


@pytest.fixture
def params_path(tmp_path: Path) -> Path:
    configure("smoke", tmp_path / "params.yaml")
    return tmp_path / "params.yaml"


def test_overridden__for_a_while(params_path: Path) -> None:
    before = params_path.read_bytes()
    overrides = ("train_segmenter.fn_weight=0.8 train_segmenter.fp_weight=0.2", 'assemble_cascade.folds="[0, 1]"')
    with pytest.raises(ZeroDivisionError), overridden(params_path, overrides):
        values = read_yaml(params_path)
        assert (values["train_segmenter"]["fn_weight"], values["assemble_cascade"]["folds"]) == (0.8, [0, 1])
        assert "# phantom: generated" in params_path.read_text()
        raise ZeroDivisionError
    assert params_path.read_bytes() == before


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train_segmenter.fn_weight=2", r"train_segmenter.fn_weight is 2; must be less than or equal to 1"),
        ("train_segmenter.nothing=2", r"train_segmenter.nothing is no parameter; must be one of"),
        ("fn_weight", r"--set fn_weight: must read section.key=value"),
    ],
)
def test_overridden__a_wrong_value_writes_nothing(params_path: Path, override: str, message: str) -> None:
    before = params_path.read_bytes()
    with pytest.raises(ParamsError, match=message), overridden(params_path, (override,)):
        pass
    assert params_path.read_bytes() == before


def test_overridden__nothing(params_path: Path) -> None:
    before = params_path.stat().st_mtime_ns
    with overridden(params_path, ("",)):
        pass
    assert params_path.stat().st_mtime_ns == before


DVC_FILE = Path(__file__).parents[1] / "dvc.yaml"


def test_list_steps__are_those_of_dvc_with_every_fold(params_path: Path) -> None:
    configure("smoke", params_path, ("assemble_cascade.folds=[0, 2]",))
    steps = list_steps(DVC_FILE, read_yaml(params_path), ["validate_data"])
    assert steps["split_data"].needed == {"ingest_data"}
    assert steps["train_segmenter"].needed == {"ingest_data", "split_data"}
    assert list(steps["train_segmenter"].commands) == ["train_segmenter, fold 0", "train_segmenter, fold 2"]
    commands = [command[3:] for step in steps.values() for command in step.commands.values()]
    names = [stage for stage in STAGES if stage != "validate_data"]
    assert [command[0] for command in commands] == [*names[:2], *(names[2:3] * 2), *(names[3:4] * 2), *names[4:]]
    assert [command[2] for command in commands if command[1] == "--fold"] == ["0", "2", "0", "2"]
    segmenter = commands[5]
    assert segmenter[segmenter.index("--out-segmenter") + 1] == "artifacts/train_segmenter/fold-2/segmenter"


@pytest.mark.parametrize("option", [("--skip", "validate_data"), ("--jobs", "2")])
def test_pipeline__skip_and_jobs_without_dvc_only(option: tuple[str, str]) -> None:
    result = CliRunner().invoke(main, ["pipeline", *option])
    assert result.exit_code == 2 and "go with --without-dvc" in result.output


@contextmanager
def started_pipeline(params_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a pipeline with an overridden value, in its first stage; it is gone afterwards."""
    (params_path.parent / "dvc.yaml").write_text(DVC_FILE.read_text())
    command = [sys.executable, "-m", "tumor_cascade.cli", "pipeline", "--without-dvc"]
    started = subprocess.Popen(
        [*command, "--set", "split_data.seed=77"],
        cwd=params_path.parent,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        while b"seed: 77" not in params_path.read_bytes():
            assert started.poll() is None
            time.sleep(0.05)
        time.sleep(1)
        yield started
    finally:
        with suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.communicate()


def test_pipeline__stopped_leaves_the_params_as_they_were(params_path: Path) -> None:
    before = params_path.read_bytes()
    with started_pipeline(params_path) as started:
        started.send_signal(signal.SIGTERM)
        assert started.wait(60) != 0
    assert params_path.read_bytes() == before
    assert not list(params_path.parent.glob("*before-set"))


def test_pipeline__killed_is_undone_by_the_next(params_path: Path) -> None:
    before = params_path.read_bytes()
    with started_pipeline(params_path) as started:
        for _ in ("it lives", "its stage has outlived it"):
            with pytest.raises(PipelineError, match="wait for its end"), overridden(params_path, ()):
                pass
            started.kill()
            started.wait()
    assert params_path.read_bytes() != before
    with overridden(params_path, ()):
        assert params_path.read_bytes() == before
    assert not list(params_path.parent.glob("*before-set"))


def test_pipeline__killed_and_edited_is_left_to_the_user(params_path: Path) -> None:
    before = params_path.read_text()
    with started_pipeline(params_path):
        pass
    edited = params_path.read_text().replace("seed: 77", "seed: 78")
    params_path.write_text(edited)
    with pytest.raises(PipelineError, match="delete that file"), overridden(params_path, ("split_data.seed=5",)):
        pass
    assert params_path.read_text() == edited
    kept_path = params_path.with_name("params.yaml.before-set")
    assert json.loads(kept_path.read_text())["before"] == before
    kept_path.unlink()
    with overridden(params_path, ("split_data.seed=5",)):
        assert read_yaml(params_path)["split_data"]["seed"] == 5
    assert params_path.read_text() == edited


def test_override__an_open_quotation_is_named(params_path: Path) -> None:
    with pytest.raises(ParamsError, match="No closing quotation; quote values as a shell has it"):
        override_params(params_path, ["train_classifier.initialization=it's"])
