"""The judge of a promotion: facts, health, scores of both cascades, the gate's decision, and the pages that tell it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tumor_cascade.data.manifest import read_manifest
from tumor_cascade.params import EvaluateCascadeParams
from tumor_cascade.registry.aliases import CARD_NAME
from tumor_cascade.registry.checkout import Checkout
from tumor_cascade.registry.decision import decide
from tumor_cascade.registry.decision_page import pair_patients, render_decision
from tumor_cascade.registry.entries import PolicyRef, State
from tumor_cascade.registry.evidence import Patients, score, select_strangers
from tumor_cascade.registry.health import CASCADE_DIR, HealthProbe, judge_health
from tumor_cascade.registry.integrity import inspect_cascade
from tumor_cascade.registry.judged_metrics import Scores
from tumor_cascade.registry.ledger import DECISION_NAME
from tumor_cascade.registry.model_card import Card, render_card
from tumor_cascade.registry.policy import Policy
from tumor_cascade.registry.promotion import Judgement, Stored

PAGE_NAME, TABLE_NAME = "comparison.html", "per_patient.csv"


@dataclass(frozen=True)
class Material:
    """What a candidate was made from, and whom it is to be judged on.

    Attributes:
        manifest: Of the data that it was trained on.
        splits: Their split.
        judged_slices: Folder of packed volumes of the patients to judge on.
        judged_rows: Their manifest rows.
        origin: Who they are, in words.
        report: Folder of the candidate's `evaluate_cascade`, which names the cascade's bytes.
        source: Kind of the data it was trained on, as in `ingest_data.source`; None where it is unknown.
    """

    manifest: Path
    splits: Path
    judged_slices: Path
    judged_rows: pd.DataFrame
    origin: str
    report: Path
    source: str | None


@dataclass(frozen=True)
class CascadeJudge:
    """Judges packed cascades under one policy.

    Attributes:
        policy: The rules.
        policy_path: Their file.
        policy_ref: How the ledger names it.
        params: How patients are scored.
        material: Of the candidate.
        checkout: Of this code.
        probe: Runs a version and measures it.
    """

    policy: Policy
    policy_path: Path
    policy_ref: PolicyRef
    params: EvaluateCascadeParams
    material: Material
    checkout: Checkout
    probe: HealthProbe

    def __call__(self, candidate: Stored, champion: Stored | None, state: State) -> Judgement:
        """Judge the registry's own copies. A candidate that is not what it says it is is not run at all."""
        cascade = candidate.folder / CASCADE_DIR
        facts = inspect_cascade(
            cascade,
            report=self.material.report,
            manifest=self.material.manifest,
            splits=self.material.splits,
            policy_path=self.policy_path,
            policy_name=self.policy.name,
            checkout=self.checkout,
            state=state,
        )
        patients: Patients | None = None
        scores: tuple[Scores | None, Scores | None] = (None, None)
        if not any(fact.faults for fact in facts):
            facts.append(judge_health(self.probe(candidate.folder, self.policy.health), self.policy.health))
            folders = {"candidate": cascade}
            if champion is not None:
                folders["champion"] = champion.folder / CASCADE_DIR
            patients = self._select(folders)
            scores = self._score(folders, patients)
        decision = decide(self.policy, facts, *scores)
        described = {
            **decision.to_json(),
            "candidate": candidate.ref.model_dump(),
            "champion": champion.ref.model_dump() if champion else None,
            "policy": {**self.policy_ref.model_dump(), "rules": self.policy.model_dump()},
            "patients": describe_patients(patients, self.material.origin),
        }
        pairs = pair_patients(*scores)
        pages = {
            PAGE_NAME: render_decision(described, decision.checks, self.policy, pairs).encode(),
            CARD_NAME: self._render_card(described, cascade, scores[0]).encode(),
            TABLE_NAME: pairs.to_csv(float_format="%.6g").encode(),
        }
        described["files"] = {name: hashlib.sha256(page).hexdigest() for name, page in pages.items()}
        pages[DECISION_NAME] = (json.dumps(described, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()
        return Judgement(decision.verdict, decision.sentence, patients.data if patients else None, pages)

    def _select(self, folders: dict[str, Path]) -> Patients:
        material = self.material
        return select_strangers(material.judged_slices, material.judged_rows, material.origin, self.params, folders)

    def _score(self, folders: dict[str, Path], patients: Patients) -> tuple[Scores | None, Scores | None]:
        """Return the scores of candidate and champion, both made here and now; None where there is nobody."""
        scores = {name: score(cascade, patients, self.params) for name, cascade in folders.items() if patients.names}
        return scores.get("candidate"), scores.get("champion")

    def _render_card(self, described: dict[str, Any], cascade: Path, scores: Scores | None) -> str:
        return render_card(
            Card(
                decision=described,
                policy=self.policy,
                cascade=cascade,
                scores=scores if scores is not None and len(scores.patients) > 1 else None,
                source=self.material.source,
                rows=read_manifest(self.material.manifest),
                commit=self.checkout.commit,
            )
        )


def describe_patients(patients: Patients | None, origin: str) -> dict[str, Any]:
    """Return who was judged on, for the decision."""
    if patients is None:
        return {"origin": origin, "names": [], "excluded": {}, "data": None}
    return {"origin": origin, "names": patients.names, "excluded": patients.excluded, "data": patients.data}
