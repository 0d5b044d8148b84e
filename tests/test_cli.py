import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from archives import encode, image_path, make_archive, make_image, make_patient_id
from products import write_product
from tumor_cascade.cli import Group, main
from tumor_cascade.configuration import PRESETS, PRESETS_DIR
from tumor_cascade.params import STAGES
from tumor_cascade.stages.interface import ACTS

HEAVY = ("torch", "pytorch_lightning", "matplotlib", "great_expectations", "pandas", "scipy", "mlflow", "boto3")
PHANTOM = str(PRESETS_DIR / "phantom.yaml")


@pytest.fixture(scope="module")
def cascade(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_product(tmp_path_factory.mktemp("product") / "cascade", gate_threshold=0.0))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return make_archive(tmp_path / "raw")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="tumor-cascade")


def test_main__help_lists_stages_in_order_apart_from_acts_and_other_commands() -> None:
    result = run("--help")
    assert result.exit_code == 0
    stages, rest = result.output.split("Stages, in the order")[1].split("After them, on the registry")
    acts, others = rest.split("Other commands:")
    assert list_commands(stages) == list(STAGES)
    assert list_commands(acts) == list(ACTS)
    assert {"configure", "phantom", "predict", "evaluate", "registry"} <= set(list_commands(others))
    assert "Research use only" in result.output


def list_commands(section: str) -> list[str]:
    """Return the names in a part of the help; lines that go on are indented further."""
    return [line.split()[0] for line in section.splitlines() if line.startswith("  ") and line[2] != " "]


@pytest.mark.parametrize("command", sorted(main.commands))
def test_main__every_command_has_help_and_an_example(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"tumor-cascade {command} " in result.output.split("Examples:")[1]


def test_main__help_imports_nothing_heavy() -> None:
    code = f"""
import sys
from click.testing import CliRunner
from tumor_cascade.cli import main
for command in [None, *main.commands]:
    assert CliRunner().invoke(main, [*([command] if command else []), "--help"]).exit_code == 0, command
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-command"], "No such command"),
        (["predict"], "Missing argument 'SOURCE'"),
        (["predict", "no-such-file.png"], "'no-such-file.png' does not exist"),
        (["configure", "enormous"], "'enormous' is not one of"),
        (["train_segmenter", "--fold", "-1"], "-1 is not in the range x>=0"),
        (["phantom", "out", "--params", "no-such.yaml"], "no-such.yaml: cannot be read"),
    ],
)
def test_main__wrong_flags_or_params_exit_2(arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_main__value_out_of_range_exits_2(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(Path(PHANTOM).read_text().replace("confidence: 0.95", "confidence: 1.5"))
    flags = [
        f"--{noun}={tmp_path}" for noun in ("cascade", "slices", "manifest", "splits", "out-report", "out-metrics")
    ]
    result = run("evaluate_cascade", "--params", params, *flags)
    assert result.exit_code == 2
    assert "evaluate_cascade: params.yaml: evaluate_cascade.confidence is 1.5; must be less than 1" in result.output


def test_group__a_disk_that_takes_nothing_is_no_bug() -> None:
    group = Group("group")

    @group.command()
    @click.argument("code", type=int)
    def write(code: int) -> None:
        raise OSError(code, os.strerror(code), "out/.report.0a1b.tmp")

    result = CliRunner().invoke(group, ["write", str(errno.EROFS)])
    remedy = "make room, allow it, or name another folder"
    assert (result.exit_code, result.stderr) == (2, f"write: Read-only file system, in out; {remedy}.\n")
    assert isinstance(CliRunner().invoke(group, ["write", str(errno.ENOENT)]).exception, FileNotFoundError)


def test_group__a_bug_keeps_its_traceback() -> None:
    group = Group("group", commands=[click.Command("command", callback=lambda: 1 / 0)])
    result = CliRunner().invoke(group, ["command"])
    assert (result.exit_code, type(result.exception)) == (1, ZeroDivisionError)


def test_predict__patient_with_a_bad_slice(archive: Path, cascade: str, tmp_path: Path) -> None:
    image_path(archive, make_patient_id(0), 2).write_bytes(b"no image")
    result = run("predict", archive / "kaggle_3m" / make_patient_id(0), "--cascade", cascade, "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert "Slices: 2, called positive: 2, patients: 1, errors: 1." in result.stdout
    assert "Research use only" in result.stdout
    assert f"Not predicted: {make_patient_id(0)}_2.tif cannot be decoded as TIFF" in result.stderr
    lines = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["ok", "error", "ok"]


def test_predict__lone_image_says_that_context_was_missing(archive: Path, cascade: str, tmp_path: Path) -> None:
    result = run("predict", image_path(archive, make_patient_id(0), 2), "--cascade", cascade, "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert "Read without the other slices of their patient: 1." in result.stderr


def test_predict__names_of_terminal_codes_are_shown_escaped(cascade: str, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    for number in (1, 2):
        (tmp_path / "raw" / f"\x1b]0;title\x07_{number}.png").write_bytes(encode(make_image(number), "PNG"))
    result = run("predict", tmp_path / "raw", "--cascade", cascade, "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert r"Images '\x1b]0;title\x07'_<number> look like one patient's" in result.stderr
    assert "\x1b]" not in result.output


def test_predict__existing_output_needs_overwrite(archive: Path, cascade: str, tmp_path: Path) -> None:
    arguments = ["predict", archive, "--cascade", cascade, "--out", tmp_path / "out"]
    assert run(*arguments).exit_code == 0
    again = run(*arguments)
    assert again.exit_code == 2
    assert "add --overwrite" in again.output
    assert run(*arguments, "--overwrite").exit_code == 0


def test_predict__damaged_data_or_cascade_exit_3(archive: Path, cascade: str, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    result = run("predict", tmp_path / "bad.png", "--cascade", cascade, "--out", tmp_path / "out")
    assert (result.exit_code, "nothing was written" in result.output) == (3, True)
    (tmp_path / "empty").mkdir()
    result = run("predict", archive, "--cascade", tmp_path / "empty", "--out", tmp_path / "out")
    assert (result.exit_code, "content.json cannot be read" in result.output) == (3, True)
    assert not (tmp_path / "out").exists()


def test_evaluate__known_patients_are_told(archive: Path, tmp_path: Path) -> None:
    known = [make_patient_id(0)]
    cascade = write_product(tmp_path / "cascade", gate_threshold=0.0, validation_patients=known)
    result = run("evaluate", cascade, "--data", archive, "--out", tmp_path / "out", "--params", PHANTOM)
    assert result.exit_code == 0, result.output
    assert "Patients: 2. See" in result.stdout
    assert "1 of 2 patients known from training or validation" in result.stderr
    assert "marked leaky" in result.stderr
    assert (tmp_path / "out" / "report" / "report.html").is_file()


def test_evaluate__every_violation_of_the_data_exits_3(archive: Path, cascade: str, tmp_path: Path) -> None:
    for index in (0, 1):
        image_path(archive, make_patient_id(index), 2).write_bytes(b"no image")
    result = run("evaluate", cascade, "--data", archive, "--out", tmp_path / "out", "--params", PHANTOM)
    assert result.exit_code == 3
    assert all(f"{make_patient_id(index)}_2.tif cannot be decoded" in result.output for index in (0, 1))
    assert not (tmp_path / "out").exists()


def test_phantom__archive_that_ingest_data_reads(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    small = {"num_patients": 4, "num_slices": 8, "image_size_px": 48}
    overrides = [word for key, value in small.items() for word in ("--set", f"ingest_data.phantom.{key}={value}")]
    kaggle = ("--set", "ingest_data.source=kaggle")
    assert run("configure", "phantom", "--params", params, *overrides, *kaggle).exit_code == 0
    result = run("phantom", tmp_path / "raw", "--params", params)
    assert result.exit_code == 0, result.output
    assert len([path for path in (tmp_path / "raw" / "kaggle_3m").iterdir() if path.is_dir()]) == 4
    ingest = ["ingest_data", "--params", params, "--raw", tmp_path / "raw"]
    result = run(*ingest, "--out-slices", tmp_path / "slices", "--out-manifest", tmp_path / "manifest.parquet")
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "slices").glob("*.npy"))) == 4


def test_phantom__folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    result = run("phantom", tmp_path, "--params", PHANTOM)
    assert (result.exit_code, "choose another or empty it" in result.output) == (2, True)


@pytest.mark.parametrize("preset", PRESETS)
def test_configure__every_preset(preset: str, tmp_path: Path) -> None:
    result = run("configure", preset, "--params", tmp_path / "params.yaml")
    assert result.exit_code == 0
    assert f"preset {preset}" in result.output


def test_configure__unknown_key_exits_2_and_writes_nothing(tmp_path: Path) -> None:
    result = run("configure", "phantom", "--params", tmp_path / "params.yaml", "--set", "train_segmenter.speed=9")
    assert (result.exit_code, "train_segmenter.speed is no parameter" in result.output) == (2, True)
    assert not (tmp_path / "params.yaml").exists()
