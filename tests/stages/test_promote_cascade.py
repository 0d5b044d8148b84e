"""The whole act with real, if useless, cascades: registered, judged on real volumes, entered, explained."""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML

from candidates import hash_data, write_candidate, write_data, write_evaluation
from predictions import PARAMS
from promotions import POLICY
from tumor_cascade.data.cohort import read_rows
from tumor_cascade.data.split import TEST
from tumor_cascade.errors import DataError
from tumor_cascade.network_folder import hash_patient
from tumor_cascade.registry.checkout import Checkout, ask_git
from tumor_cascade.registry.client import connect
from tumor_cascade.registry.evidence import select_strangers
from tumor_cascade.registry.health import Health, HealthProbe
from tumor_cascade.registry.promotion import Outcome
from tumor_cascade.registry.shared import open_shared
from tumor_cascade.stages.evaluate_cascade import evaluate_cascade
from tumor_cascade.stages.promote_cascade import PromotionSettings, promote_cascade

HEALTHY = Health(0.1, 0.01, 500.0, 0.0, 0)
NO_FLOORS = dict.fromkeys(POLICY["floors"], 0.0)
Offer = Callable[..., Outcome]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight patients, four of them locked away; a database; a committed policy without floors."""
    folder = write_data(tmp_path_factory.mktemp("data"), num_patients=8)
    connect(f"sqlite:///{folder}/empty.db").search_experiments()
    policy = {**POLICY, "floors": NO_FLOORS, "statistics": {**POLICY["statistics"], "min_patients": 3}}
    (folder / "policies").mkdir()
    with (folder / "policies" / "paper.yaml").open("w") as stream:
        YAML(typ="safe").dump(policy, stream)
    for command in ("init --quiet", "add policies", "-c user.name=t -c user.email=t@example.org commit --quiet -m x"):
        subprocess.run(["git", *command.split()], cwd=folder, check=True)
    return folder


@pytest.fixture
def offer(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Offer:
    shutil.copyfile(base / "empty.db", tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)

    def run(
        name: str,
        *,
        changed: tuple[str, ...] = (),
        probe: HealthProbe = lambda *_: HEALTHY,
        gate_threshold: float = 0.5,
        training_patients: list[str] | None = None,
    ) -> Outcome:
        cascade, report = tmp_path / name, tmp_path / f"report-{name}"
        if not cascade.exists():
            known = {"gate_threshold": gate_threshold, "training_patients": training_patients or []}
            write_evaluation(report, write_candidate(cascade, name, hash_data(base), **known))
        checkout = Checkout(ask_git(base, "rev-parse", "HEAD"), changed)
        return promote_cascade(
            PromotionSettings(base / "policies/paper.yaml", PARAMS, open_shared(), checkout, probe=probe),
            cascade=cascade,
            report=report,
            slices=base / "slices",
            manifest=base / "manifest.parquet",
            splits=base / "splits",
            out_decision=tmp_path / "decision",
        )

    return run


def read_decision() -> dict[str, object]:
    decision: dict[str, object] = json.loads(Path("decision/decision.json").read_text())
    return decision


def test_promote_cascade__first_then_equal_then_the_page_tells(offer: Offer) -> None:
    assert offer("a").entry.kind == "promote"
    decision = read_decision()
    assert (decision["champion"], decision["num_patients"]) == (None, 4)
    outcome = offer("b")  # the same weights under another name: equal in every patient
    assert outcome.entry.kind == "abstain"
    page = Path("decision/comparison.html").read_text()
    assert "Not decided: version 2 against champion 1" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "<script src" not in page
    assert page.count("<tr><td>") == 4
    table = pd.read_csv("decision/per_patient.csv")
    assert list(table["candidate_dice"]) == list(table["champion_dice"])
    card = Path("decision/model_card.md").read_text()
    assert "not for diagnosis" in card
    assert "not stated" in card
    assert len(card) <= 5000
    assert open_shared().registry.list_versions("tumor-cascade")[1].description == card


def test_promote_cascade__a_dirty_checkout_is_refused_before_anything_runs(offer: Offer) -> None:
    def probe(*_: object) -> Health:
        raise AssertionError("must not run")

    outcome = offer("a", changed=("src/a.py",), probe=probe)
    assert (outcome.entry.kind, outcome.entry.why) == ("refuse", "Refused: it fails Clean commit.")
    assert "src/a.py is not as committed" in Path("decision/comparison.html").read_text()


def test_promote_cascade__an_unhealthy_version_is_refused(offer: Offer) -> None:
    outcome = offer("a", probe=lambda *_: replace(HEALTHY, memory_mb=9000.0))
    assert (outcome.entry.kind, outcome.entry.why) == ("refuse", "Refused: it fails Health.")


def test_promote_cascade__patients_that_the_champion_knows_do_not_count(offer: Offer, base: Path) -> None:
    rows = read_rows(base / "manifest.parquet", base / "splits")
    test_patients = sorted(rows.loc[rows["partition"] == TEST, "patient_id"].unique())
    # The champion has learned from two of the four, and is judged on the others itself: too few.
    assert offer("a", training_patients=test_patients[:2]).entry.kind == "abstain"
    assert read_decision()["patients"]["excluded"] == {"candidate": 2}  # type: ignore[index]
    assert read_decision()["patients"]["names"] == test_patients[2:]  # type: ignore[index]


def test_promote_cascade__nobody_left_to_judge_on_abstains(offer: Offer, base: Path) -> None:
    rows = read_rows(base / "manifest.parquet", base / "splits")
    outcome = offer("a", training_patients=sorted(rows["patient_id"].unique()))
    assert outcome.entry.why == "Not decided: the evidence is too weak for Number of patients."


def test_promote_cascade__the_tables_of_an_evaluation_decide_nothing(offer: Offer, base: Path, tmp_path: Path) -> None:
    data = {"slices": base / "slices", "manifest": base / "manifest.parquet", "splits": base / "splits"}
    cascade, report = write_candidate(tmp_path / "a", "a", hash_data(base)), tmp_path / "report-a"
    evaluate_cascade(PARAMS, cascade=cascade, **data, out_report=report, out_metrics=tmp_path / "metrics.json")
    table = pd.read_csv(report / "per_patient.csv", index_col="patient_id").astype({"cascade_volume_dice": float})
    table.loc[table.index != min(table.index, key=hash_patient), "cascade_volume_dice"] = 0.99
    table.to_csv(report / "per_patient.csv")
    offer("a")
    assert list(pd.read_csv("decision/per_patient.csv")["candidate_dice"]) == [0.0] * 4  # of random weights


def test_promote_cascade__a_cascade_that_was_edited_since_its_evaluation_is_refused(
    offer: Offer, base: Path, tmp_path: Path
) -> None:
    cascade = write_candidate(tmp_path / "a", "a", hash_data(base))
    write_evaluation(tmp_path / "report-a", cascade)
    text = (cascade / "cascade.json").read_text()
    (cascade / "cascade.json").write_text(text.replace('"gate_threshold": 0.5', '"gate_threshold": 0.4'))
    assert offer("a").entry.why == "Refused: it fails Hashes match."


def test_select_strangers__data_that_cannot_decide(base: Path) -> None:
    rows = read_rows(base / "manifest.parquet", base / "splits")
    with pytest.raises(DataError, match=r"have no patient ids, so nobody can say who is new; they decide nothing"):
        select_strangers(base, rows.assign(has_patient_ids=False), "flat", PARAMS, {})
    with pytest.raises(DataError, match=r"the gate compares masks with masks:\n- patient AA_0000 has no masks"):
        select_strangers(base, rows.assign(has_mask=False), "unlabelled", PARAMS, {})
