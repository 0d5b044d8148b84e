"""Promotion as a user does it: on real servers, from a real pipeline, and between real trainings."""

import json
import shutil
from pathlib import Path

import pytest

from champions import (
    NEW_PATIENTS,
    NUM_GENERATED,
    NUM_KNOWN,
    POLICY,
    SMOKE_FLOORS,
    Champion,
    commit_policy,
    generate_patients,
)
from images import COMMIT, install_wheel, run_image
from tumor_cascade.object_store import open_store
from tumor_cascade.registry.runs import CONTENT_TAG
from tumor_cascade.registry.shared import Shared, open_shared
from tumor_cascade.registry.versions import PRODUCT
from workplaces import Workplace

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SHORT_TRAINING = "train_classifier.max_epochs=1 train_segmenter.max_epochs=4"  # fewer may mark nearly everything


@pytest.fixture
def shared(promoted: Champion, monkeypatch: pytest.MonkeyPatch) -> Shared:
    """Registry and ledger of the servers."""
    for name, value in promoted.environment.items():
        monkeypatch.setenv(name, value)
    return open_shared()


def test_servers__a_smoke_pipeline_is_first_not_decided_and_then_champion(promoted: Champion, shared: Shared) -> None:
    chain = shared.read_chain()
    assert shared.store.url == "s3://ledger/tumor-cascade"
    assert [(entry.kind, entry.to.version) for entry in chain.entries[:2]] == [("abstain", 1), ("promote", 1)]
    assert shared.registry.read_model()[0]["champion"] == promoted.version
    decision = promoted.workplace.read_json("artifacts/promote_cascade/decision/decision.json")
    assert (decision["champion"], decision["verdict"]) == (None, "promote")
    assert len(decision["patients"]["names"]) == NUM_GENERATED - NUM_KNOWN
    assert decision["patients"]["excluded"] == {"candidate": NUM_KNOWN}
    assert "No differences" in promoted.workplace.run("tumor-cascade", "registry", "audit")


def test_servers__one_content_id_from_run_to_version(promoted: Champion, shared: Shared) -> None:
    content = promoted.workplace.read_json("artifacts/assemble_cascade/cascade/content.json")
    version = shared.registry.client.get_model_version(PRODUCT, str(promoted.version))
    assert version.tags[CONTENT_TAG] == content["content_id"]
    logged = shared.registry.client.get_logged_model(version.source.removeprefix("models:/"))
    assert logged.tags[CONTENT_TAG] == content["content_id"]
    promoted.workplace.run("tumor-cascade", "track")
    found = shared.registry.client.search_runs(
        [shared.registry.experiment_id], f"tags.content_id = '{content['content_id']}'"
    )
    assert [run.data.tags["stage"] for run in found] == ["assemble_cascade"]


def test_servers__explain_and_reproduce_the_champion(promoted: Champion) -> None:
    explained = promoted.workplace.run("tumor-cascade", "explain", "champion")
    assert "BROKEN" not in explained
    assert "pixels as hashed; phantom" in explained
    content_id = promoted.workplace.read_json("artifacts/assemble_cascade/cascade/content.json")["content_id"]
    commit = promoted.workplace.read_json(f"runs/assemble_cascade/{content_id}.json")["commit"]
    commands = promoted.workplace.run("tumor-cascade", "reproduce", "champion")
    assert f"git worktree add --detach build/reproduce/{content_id[:8]} {commit}" in commands


def test_servers__an_edited_file_and_a_moved_alias_are_named_and_the_alias_is_put_back(
    promoted: Champion, shared: Shared, tmp_path: Path
) -> None:
    run = promoted.workplace.run
    artifacts = open_store("s3://mlflow")
    name = read_artifact_folder(shared, promoted.version) + "/artifacts/cascade/cascade.json"
    before, edited = tmp_path / "before.json", tmp_path / "edited.json"
    assert artifacts.download(name, before)
    edited.write_text(before.read_text().replace("gate_threshold", "gate_threshold ", 1))
    artifacts.upload(edited, name)
    shared.registry.set_alias("champion", None)
    try:
        found = run("tumor-cascade", "registry", "audit", is_failure_expected=True)
        assert "tumor-cascade version 1: artifacts/cascade/cascade.json was edited" in found
        assert "alias champion points to version none; after ledger entry 2 it is 1: moved by hand" in found
        found = run("tumor-cascade", "explain", str(promoted.version), is_failure_expected=True)
        assert "BROKEN   artifacts/cascade/cascade.json was edited" in found
    finally:
        artifacts.upload(before, name)
    assert "alias champion: none -> 1" in run("tumor-cascade", "registry", "recover")
    assert "No differences" in run("tumor-cascade", "registry", "audit")


def read_artifact_folder(shared: Shared, version: int) -> str:
    """Return where the bucket has the files of a version."""
    logged = shared.registry.client.get_model_version(PRODUCT, str(version)).source.removeprefix("models:/")
    keys = open_store("s3://mlflow").list_keys("")
    (found,) = [key for key in keys if f"/{logged}/" in key and key.endswith("/MLmodel")]
    return found.removesuffix("/MLmodel")


@pytest.fixture(scope="module")
def trial(smoke: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """The smoke product in `full/`, one of a short training in `artifacts/`, and a registry that knows neither.

    Its policy has no floors, which a short training would not reach.
    """
    place = Workplace(tmp_path_factory.mktemp("trial") / "work")
    shutil.copytree(smoke.folder, place.folder, symlinks=True)
    commit_policy(place, dict.fromkeys(SMOKE_FLOORS, 0.0))
    generate_patients(place)
    shutil.copytree(place.folder / "artifacts", place.folder / "full")
    place.run("tumor-cascade", "pipeline", "--set", SHORT_TRAINING)
    return place


def offer(trial: Workplace, artifacts: str, *flags: str, is_failure_expected: bool = False) -> str:
    """Offer the product of an artifacts folder to the gate; return what it says of it."""
    paths = ("--cascade", f"{artifacts}/assemble_cascade/cascade", "--report", f"{artifacts}/evaluate_cascade/report")
    command = ("tumor-cascade", "promote_cascade", "--policy", POLICY, "--data", NEW_PATIENTS, *paths, *flags)
    return trial.run(*command, is_failure_expected=is_failure_expected)


def read_verdicts(trial: Workplace) -> list[tuple[str, int]]:
    """Return kind and version of each ledger entry."""
    paths = sorted((trial.folder / "promotions/ledger").glob("*.json"))
    entries = [json.loads(path.read_text()) for path in paths]
    return [(entry["kind"], entry["to"]["version"]) for entry in entries]


def test_trainings__full_length_replaces_a_short_one_which_does_not_come_back(trial: Workplace) -> None:
    assert "Version 1: Promoted: every check is passed." in offer(trial, "artifacts")  # the first one
    assert "Version 2: Promoted: every check is passed." in offer(trial, "full", "--require-promotion")
    decision = trial.read_json("artifacts/promote_cascade/decision/decision.json")
    (primary,) = [check["numbers"] for check in decision["checks"] if check["group"] == "primary"]
    assert primary["candidate"] - primary["champion"] == pytest.approx(primary["gain"], abs=2e-6)  # six digits each
    assert primary["gain_low"] > 0
    refused = offer(trial, "artifacts", "--require-promotion", is_failure_expected=True)
    assert "promote_cascade: version 1 is not champion: Refused: it fails Volume Dice of the cascade" in refused
    assert read_verdicts(trial) == [("promote", 1), ("promote", 2), ("refuse", 1)]


def test_trainings__a_rollback_holds_until_someone_takes_it_back(trial: Workplace) -> None:
    back = trial.run("tumor-cascade", "registry", "rollback", "--why", "to see the way back")
    assert "Version 1 is champion; ledger entry 4." in back
    refused = offer(trial, "full", "--require-promotion", is_failure_expected=True)
    assert "version 2 is not champion: Refused: it fails Not withdrawn." in refused
    trial.run("tumor-cascade", "registry", "rollback", "--to", "2", "--why", "it was right")
    assert read_verdicts(trial)[3:] == [("rollback", 1), ("refuse", 2), ("rollback", 2)]
    assert "No differences" in trial.run("tumor-cascade", "registry", "audit")


def test_image__an_installed_wheel_judges_without_git(smoke: Workplace, tmp_path: Path) -> None:
    site = install_wheel(smoke.folder, tmp_path / "image")
    place = tmp_path / "pod"
    place.mkdir()
    artifacts = smoke.folder / "artifacts"
    inputs = {
        "cascade": artifacts / "assemble_cascade/cascade",
        "report": artifacts / "evaluate_cascade/report",
        "slices": artifacts / "ingest_data/slices",
        "manifest": artifacts / "ingest_data/manifest.parquet",
        "splits": artifacts / "split_data/splits",
        "params": smoke.folder / "params.yaml",
    }
    flags = [word for name, path in inputs.items() for word in (f"--{name}", str(path))]
    command = ("-m", "tumor_cascade.cli", "promote_cascade", *flags, "--out-decision", "decision")
    said = run_image(site, place, *command, COMMIT=COMMIT)
    assert "Version 1: Not decided: the evidence is too weak for Number of patients" in said  # and nothing failed
    checks = json.loads((place / "decision/decision.json").read_text())["checks"]
    (clean,) = [check for check in checks if check["name"] == "clean_commit"]
    assert (clean["outcome"], clean["finding"]) == ("pass", f"commit {COMMIT}")
    assert f"commit `{COMMIT[:12]}`" in (place / "decision/model_card.md").read_text()
