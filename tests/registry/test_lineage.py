import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from outputs import read_content_id, write_outputs
from tumor_cascade.cli import main
from tumor_cascade.errors import DataError, ParamsError
from tumor_cascade.registry.lineage import Finding, explain
from tumor_cascade.registry.origin import open_product
from tumor_cascade.registry.versions import hash_files
from tumor_cascade.storage import CONTENT_NAME, write_json

CASCADE = Path("artifacts/assemble_cascade/cascade")


def list_findings(cascade: Path = CASCADE, artifacts: Path = Path("artifacts")) -> list[Finding]:
    with open_product(str(cascade)) as product:
        return list(explain(product, artifacts))


def find_broken(findings: list[Finding]) -> list[str]:
    return [finding.text for finding in findings if finding.state == "BROKEN"]


@pytest.fixture
def artifacts(workplace: Path) -> Path:
    return write_outputs(workplace)


def test_explain__a_whole_chain(artifacts: Path) -> None:
    findings = list_findings()
    assert not find_broken(findings)
    text = "\n".join(str(finding) for finding in findings)
    for stage in ("ingest_data", "split_data", "train_classifier", "train_segmenter", "evaluate_cascade"):
        assert f"{stage} {read_content_id(artifacts, stage)}" in text
    assert "slices: 16 of 4 patients, pixels as hashed" in text
    assert {finding.state for finding in findings} == {"ok", "-"}


@pytest.mark.parametrize(
    ("edited", "expected"),
    [
        (CASCADE / "segmenters/fold-0/weights.safetensors", "segmenters/fold-0: bytes"),
        (CASCADE / "classifiers/fold-0/config.json", "classifiers/fold-0: bytes"),
        (Path("artifacts/ingest_data/slices/AA_0000.npy"), "slices: AA_0000.npy"),
    ],
)
def test_explain__an_edited_file(artifacts: Path, edited: Path, expected: str) -> None:
    edited.write_bytes(edited.read_bytes()[:-1] + b"!")
    (broken,) = find_broken(list_findings())
    assert broken.startswith(expected)


def test_explain__an_edited_record(artifacts: Path) -> None:
    path = CASCADE / "segmenters/fold-0" / CONTENT_NAME
    content = json.loads(path.read_text())
    content["params"]["train_segmenter"]["fn_weight"] = 0.9
    write_json(path, content)
    assert find_broken(list_findings()) == [f"train_segmenter {content['content_id']}"]


def test_explain__an_added_network(artifacts: Path) -> None:
    shutil.copytree(CASCADE / "segmenters/fold-0", CASCADE / "segmenters/fold-9")  # `load_cascade` would average it in
    assert find_broken(list_findings()) == ["segmenters/fold-9 is not what the cascade was made from"]


def test_explain__data_elsewhere_are_out_of_reach_not_broken(artifacts: Path) -> None:
    findings = list_findings(artifacts=Path("nowhere"))
    assert not find_broken(findings)
    assert any("manifest" in finding.text and "not here" in finding.text for finding in findings)


def test_explain__files_of_a_version(artifacts: Path) -> None:
    version = Path("version")
    CASCADE.parent.rename("version")
    (version / "artifacts").mkdir()
    (version / "cascade").rename(version / "artifacts" / "cascade")
    name = "artifacts/cascade/cascade.json"
    files = hash_files(version)
    for shell in ("MLmodel", "registered_model_meta"):
        (version / shell).touch()
    (version / "artifacts/cascade/notes.json").touch()
    (version / name).write_text("{}")
    write_json(version / "artifacts" / "version.json", {"files": {**files, "gone.json": 64 * "0"}})
    assert find_broken(list_findings(version)) == [
        "artifacts/cascade/cascade.json was edited",
        "artifacts/cascade/notes.json was added",
        "gone.json is missing",
    ]


def test_open_product__neither_folder_nor_version(workplace: Path) -> None:
    with pytest.raises(
        ParamsError, match="champion is neither a folder nor a version of tumor-cascade; no version is registered"
    ):
        list_findings(Path("champion"))
    Path("empty").mkdir()
    with pytest.raises(DataError, match="empty holds no cascade; name the folder that `assemble_cascade` has written"):
        list_findings(Path("empty"))


@pytest.mark.parametrize("is_named", [True, False])
def test_open_product__a_question_makes_no_database(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, is_named: bool
) -> None:
    if not is_named:
        monkeypatch.delenv("MLFLOW_TRACKING_URI")
    Path("mlflow.db").unlink()
    with pytest.raises(ParamsError, match="champion is neither a folder nor a version of tumor-cascade; no version"):
        list_findings(Path("champion"))
    assert not Path("mlflow.db").exists()


def test_explain_command__exit_code(artifacts: Path) -> None:
    assert CliRunner().invoke(main, ["explain", str(CASCADE)]).exit_code == 0
    (CASCADE / "segmenters/fold-0/weights.safetensors").write_text("other")
    done = CliRunner().invoke(main, ["explain", str(CASCADE)])
    assert done.exit_code == 3
    assert "1 of" in done.output
