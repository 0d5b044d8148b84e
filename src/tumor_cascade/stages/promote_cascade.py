"""`promote_cascade`: registers a product and makes it champion if the gate says so; an act, no stage of dvc.yaml."""

from dataclasses import dataclass, replace
from pathlib import Path

from tumor_cascade.data.cohort import read_rows
from tumor_cascade.data.manifest import read_manifest
from tumor_cascade.data.split import TEST
from tumor_cascade.params import EvaluateCascadeParams
from tumor_cascade.product import read_artifact_json
from tumor_cascade.registry.checkout import Checkout
from tumor_cascade.registry.health import HealthProbe, probe_in_process
from tumor_cascade.registry.judge import CascadeJudge, Material
from tumor_cascade.registry.policy import read_policy
from tumor_cascade.registry.promotion import Outcome, promote
from tumor_cascade.registry.shared import Shared
from tumor_cascade.storage import CONTENT_NAME, atomic_dir


@dataclass(frozen=True)
class JudgedPatients:
    """Labelled patients to judge on instead of the locked test set.

    Attributes:
        slices: Folder of packed volumes.
        manifest: Their manifest.
        name: What they are called.
    """

    slices: Path
    manifest: Path
    name: str


@dataclass(frozen=True)
class PromotionSettings:
    """What a promotion needs besides artifacts.

    Attributes:
        policy_path: The rules, a file in git.
        params: Section `evaluate_cascade`: how patients are scored.
        shared: Registry and ledger.
        checkout: Of this code.
        judged: Patients to judge on; None: the locked test set.
        probe: Runs a version and measures it.
    """

    policy_path: Path
    params: EvaluateCascadeParams
    shared: Shared
    checkout: Checkout
    judged: JudgedPatients | None = None
    probe: HealthProbe = probe_in_process


def promote_cascade(
    settings: PromotionSettings,
    *,
    cascade: Path,
    report: Path,
    slices: Path,
    manifest: Path,
    splits: Path,
    out_decision: Path,
) -> Outcome:
    """Register a packed cascade, judge it against the champion on the same patients, and act on the verdict.

    Args:
        settings: Policy, scoring, registry.
        cascade: Packed product.
        report: Of `evaluate_cascade`; names the cascade's bytes.
        slices: Folder of packed volumes.
        manifest: `manifest.parquet` of `ingest_data`.
        splits: Folder of `split_data`.
        out_decision: Folder for `decision.json`, `comparison.html`, the model card and a table of patients.

    Raises:
        DataError: A part is damaged or does not fit, or the ledger is.
    """
    policy, policy_ref = read_policy(settings.policy_path)
    params = settings.params.model_copy(update={"partition": "test"})
    rows = read_rows(manifest, splits)
    material = Material(
        manifest=manifest,
        splits=splits,
        judged_slices=slices,
        judged_rows=rows[rows["partition"] == TEST],
        origin="the locked test set of the candidate's split",
        report=report,
        source=read_source(slices),
    )
    taken = take_judged(material, settings.judged)
    judge = CascadeJudge(policy, settings.policy_path, policy_ref, params, taken, settings.checkout, settings.probe)
    outcome = promote(settings.shared.registry, settings.shared.store, cascade, policy_ref, judge)
    with atomic_dir(out_decision) as folder:
        for name, page in outcome.pages.items():
            (folder / name).write_bytes(page)
    return outcome


def read_source(slices: Path) -> str | None:
    """Return the kind of data in a folder of packed volumes, as `ingest_data.source` names it; None if it is silent."""
    path = slices / CONTENT_NAME
    source = read_artifact_json(path).get("params", {}).get("source") if path.is_file() else None
    return None if source is None else str(source)


def take_judged(material: Material, judged: JudgedPatients | None) -> Material:
    """Return the material with other patients, if any are given, in the place of the test set."""
    if judged is None:
        return material
    rows = read_manifest(judged.manifest)
    return replace(material, judged_slices=judged.slices, judged_rows=rows, origin=f"all patients of {judged.name}")
