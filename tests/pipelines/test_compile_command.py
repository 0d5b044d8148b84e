import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from compiled import IMAGE, list_tasks
from pipelines.cli import main
from pipelines.golden import REFERENCE
from tumor_cascade.configuration import configure


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params of `smoke` and a data reference."""
    monkeypatch.chdir(tmp_path)
    configure("smoke", tmp_path / "params.yaml")
    (tmp_path / "reference.json").write_text(REFERENCE.model_dump_json(), encoding="utf-8")
    return tmp_path


def run(*arguments: str, image: str = IMAGE) -> Result:
    return CliRunner().invoke(main, ["compile", "--image", image, "--out", "out.yaml", *arguments])


def read_ingest(workplace: Path) -> list[str]:
    tasks = list_tasks((workplace / "out.yaml").read_text(encoding="utf-8"))
    return next(task.arguments for task in tasks if task.stage == "ingest_data")


def test_compile__the_phantom_needs_no_data(workplace: Path) -> None:
    result = run()
    assert (result.exit_code, result.output) == (0, "Written: out.yaml\n")
    arguments = read_ingest(workplace)
    assert arguments[arguments.index("--raw") + 1] == arguments[arguments.index("--reference") + 1] == ""


def test_compile__a_reference_is_a_constant_of_the_first_task(workplace: Path) -> None:
    assert run("--reference", "reference.json").exit_code == 0
    arguments = read_ingest(workplace)
    assert json.loads(arguments[arguments.index("--reference") + 1]) == REFERENCE.model_dump()


def test_compile__overrides_reach_the_task(workplace: Path) -> None:
    assert run("--set", "ingest_data.phantom.num_patients=20").exit_code == 0
    assert '"num_patients":20' in read_ingest(workplace)[read_ingest(workplace).index("--params-json") + 1]


def test_compile__batch_predict_needs_no_data_of_its_own(workplace: Path) -> None:
    assert run("--pipeline", "batch_predict", "--set", "ingest_data.source=kaggle").exit_code == 0


def test_compile__a_tag_is_taken_with_a_warning(workplace: Path) -> None:
    result = run(image="tumor-cascade:cpu")
    assert result.exit_code == 0
    assert "tumor-cascade:cpu: a tag can be moved; name the image by digest" in result.output


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (("--raw", "s3://bucket/raw"), 2, "ingest_data.source is phantom, which reads no raw data"),
        (("--raw", "s3://bucket/raw", "--reference", "reference.json"), 2, "name different data; give one of them"),
        (("--set", "ingest_data.source=kaggle"), 2, "ingest_data.source is kaggle and no data are named; give --rev"),
        (("--reference", "params.yaml"), 3, "is no data reference"),
        (("--pipeline", "cross_validate"), 2, "cross_validate needs all of split_data.num_folds"),
        (("--set", "train_segmenter.fn_weight=1.4"), 2, "train_segmenter.fn_weight is 1.4"),
        (("--placement", "missing.yaml"), 2, "missing.yaml: cannot be read"),
    ],
)
def test_compile__what_cannot_run_is_refused_here(
    workplace: Path, arguments: tuple[str, ...], exit_code: int, message: str
) -> None:
    result = run(*arguments)
    assert result.exit_code == exit_code, result.output
    assert message in result.output
    assert not (workplace / "out.yaml").exists()
