"""The commands of promotion as people type them, on a database in a folder."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from archives import make_archive, make_patient_id
from candidates import judge_as, write_candidate
from tumor_cascade.cli import main
from tumor_cascade.configuration import build_preset
from tumor_cascade.data.manifest import read_manifest
from tumor_cascade.promotion_commands import judged_patients
from tumor_cascade.registry.client import connect
from tumor_cascade.registry.entries import PolicyRef
from tumor_cascade.registry.promotion import promote
from tumor_cascade.registry.shared import open_shared

POLICY = PolicyRef(name="paper", sha256="4" * 64)


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two versions have become champion."""
    folder = tmp_path_factory.mktemp("promoted")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        connect()
        shared = open_shared()
        for name in ("a", "b"):
            cascade = write_candidate(folder / name, name)
            judgement = judge_as("promote", card=f"# Card of {name}\n")
            promote(shared.registry, shared.store, cascade, POLICY, lambda *_, judgement=judgement: judgement)
    return folder


@pytest.fixture
def workplace(promoted: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(promoted)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("TUMOR_CASCADE_LEDGER", raising=False)
    return promoted


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def test_registry__list_card_audit_rollback_recover(workplace: Path) -> None:
    listed = run("registry", "list")
    assert listed.output.splitlines()[0] == f"Ledger: {workplace}/promotions"
    assert "champion" in listed.output.splitlines()[2]
    assert run("registry", "card").output.endswith("# Card of b\n\n")
    assert run("registry", "card", "1").output.endswith("# Card of a\n\n")
    audit = run("registry", "audit")
    assert (audit.exit_code, audit.output.splitlines()[-1]) == (
        0,
        "No differences: ledger, aliases, tags and files agree.",
    )
    rolled = run("registry", "rollback", "--why", "misses small tumors")
    assert rolled.output.splitlines()[-1] == "Version 1 is champion; ledger entry 3."
    open_shared().registry.set_alias("champion", 2)
    found = run("registry", "audit")
    assert found.exit_code == 3
    assert "alias champion points to version 2; after ledger entry 3 it is 1" in found.output
    assert run("registry", "recover").output.splitlines()[-2:] == ["alias champion: 2 -> 1", "Changes: 1"]
    assert run("registry", "audit").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("registry", "card", "9"), 2, "9 is no version; must be one of 1, 2, champion"),
        (("registry", "rollback", "--to", "7", "--why", "x"), 2, "version 7 is no former champion"),
        (("registry", "rollback"), 2, "Missing option '--why'"),
        (("promote_cascade",), 2, "params.yaml: cannot be read"),
    ],
)
def test_commands__what_goes_wrong_is_said(
    workplace: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    done = run(*arguments)
    assert done.exit_code == code
    assert message in done.output


def test_promote_cascade__data_without_a_policy(workplace: Path) -> None:
    shutil.rmtree(workplace / "artifacts", ignore_errors=True)
    assert run("configure", "smoke").exit_code == 0
    done = run("promote_cascade")
    assert done.exit_code == 2
    assert "no policy is made for data of the source None; name one with --policy" in done.output


def test_judged_patients__below_a_lone_folder_are_there_for_the_while(tmp_path: Path) -> None:
    make_archive(tmp_path / "outer" / "inner" / "patients", num_patients=3)
    (tmp_path / "outer" / "README.md").touch()
    with judged_patients(tmp_path / "outer", "kaggle", build_preset("phantom"), "test") as judged:
        assert judged is not None
        assert judged.name == "outer"
        expected = {make_patient_id(number) for number in range(3)}
        assert set(read_manifest(judged.manifest)["patient_id"]) == expected
        assert {path.stem for path in judged.slices.glob("*.npy")} == expected
    assert not judged.slices.exists()
