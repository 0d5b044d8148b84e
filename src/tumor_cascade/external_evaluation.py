"""`tumor-cascade evaluate`: any cascade on any folder of labelled patients; the report of `evaluate_cascade`."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pandas as pd

from tumor_cascade.content import describe_content
from tumor_cascade.data.manifest import read_manifest
from tumor_cascade.data.split import TEST
from tumor_cascade.errors import DataError
from tumor_cascade.evaluation.selection import Cohort
from tumor_cascade.labelled_folder import LabelledFolder, ingested_folder
from tumor_cascade.network_folder import hash_patient
from tumor_cascade.out_folder import check_out_folder
from tumor_cascade.params import EvaluateCascadeParams, IngestDataParams
from tumor_cascade.product import CASCADE_NAME, REMEDY, load_cascade, read_artifact_json, read_seen_patients
from tumor_cascade.stages.evaluate_cascade import evaluate_cohort
from tumor_cascade.storage import atomic_dir

METRICS_NAME, KNOWN_NAME = "metrics.json", "known_patients.csv"
CONTENT_PATH, SCOPE = "report/content.json", "patients from outside"  # stages write a file of that name, of other scope


@dataclass(frozen=True)
class Acquaintance:
    """What a cascade already knows of the patients that it is evaluated on.

    Attributes:
        num_patients: That are scored.
        training: Of these, sorted, in the training of any of its networks.
        validation: Of the others, sorted, in a validation part, which chose weights and thresholds.
        training_protocol: How its own patients were split.
        is_training_leaky: Whether that protocol mixes slices of one patient.
        is_checkable: Whether both sides have patient ids to compare: by the names of their folders.
        num_left_out: Known patients that are not scored.
    """

    num_patients: int
    training: tuple[str, ...]
    validation: tuple[str, ...]
    training_protocol: str
    is_training_leaky: bool
    is_checkable: bool
    num_left_out: int = 0

    @property
    def known(self) -> tuple[str, ...]:
        """All patients that the cascade knows."""
        return (*self.training, *self.validation)

    @property
    def is_leaky(self) -> bool:
        """Whether the numbers must not count as those of new patients, or come of a leaky product."""
        return bool(self.known) or self.is_training_leaky

    @property
    def protocol(self) -> str:
        """The line of the report."""
        parts = ["external"]
        if self.known:
            parts.append(f"{len(self.known)} of {self.num_patients} patients known from training or validation")
        if self.num_left_out:
            parts.append(f"known patients left out: {self.num_left_out}")
        if self.is_training_leaky:
            parts.append(f"cascade trained under {self.training_protocol}")
        if not self.is_checkable:
            parts.append("no patient ids to compare with training")
        return "; ".join(parts)


def evaluate_folder(
    cascade: Path,
    data: Path,
    out: Path,
    ingest_params: IngestDataParams,
    params: EvaluateCascadeParams,
    *,
    layout: Literal["kaggle", "images"],
    is_overwrite: bool,
    has_only_new: bool = False,
) -> Acquaintance:
    """Ingest a data set for the while, evaluate a cascade on all its patients, write `report/` and `metrics.json`.

    Args:
        cascade: Packed cascade.
        data: Folder or zip with masks. Of the layout `kaggle`, patients may lie any number of lone folders deep.
        out: Output folder; it appears when complete.
        ingest_params: Section `ingest_data`; its `source` does not count.
        params: Section `evaluate_cascade`.
        layout: How the data lie.
        is_overwrite: Whether `out` may replace an earlier evaluation.
        has_only_new: Whether patients that the cascade knows are left out.

    Returns:
        Whom of these patients the cascade knows; if any is scored, the report is marked leaky.

    Raises:
        ParamsError: `out` would replace something else.
        DataError: With every violation of the data; they have no masks; no patient is new, or none can be told to be,
            where only those were asked for; or the cascade is damaged.
    """
    check_out_folder(out, [data, cascade], marker=CONTENT_PATH, mark=f'"scope": "{SCOPE}"', is_overwrite=is_overwrite)
    read_artifact_json(cascade / CASCADE_NAME)  # before minutes of reading data
    with (
        atomic_dir(out) as folder,
        ingested_folder(LabelledFolder(data, layout, ingest_params), folder) as (slices, manifest),
    ):
        rows = read_manifest(manifest)
        acquaintance = find_acquaintance(cascade, rows)
        if has_only_new and not acquaintance.is_checkable:
            raise DataError(
                f"--new-only: {data} or {cascade} has no patient ids, so nobody can say who is new; leave it out, or "
                "name patients' folders and a cascade that was trained on such."
            )
        if has_only_new and acquaintance.known:
            rows, num_left_out = drop_patients(rows, acquaintance.known), len(acquaintance.known)
            acquaintance = replace(find_acquaintance(cascade, rows), num_left_out=num_left_out)
        if acquaintance.known:
            write_known(acquaintance, folder / KNOWN_NAME)
        cohort = Cohort(
            parts=[(load_cascade(cascade), rows)],
            split=TEST,
            scope=SCOPE,
            protocol=acquaintance.protocol,
            is_leaky=acquaintance.is_leaky,
        )
        facts = {"evaluate_cascade": params.model_dump(), "protocol": acquaintance.protocol}
        evaluate_cohort(
            params,
            cohort,
            slices=slices,
            out_report=folder / "report",
            out_metrics=folder / METRICS_NAME,
            content=describe_content("evaluate_cascade", facts, {"cascade": cascade, "manifest": manifest}),
        )
    return acquaintance


def find_acquaintance(cascade: Path, rows: pd.DataFrame) -> Acquaintance:
    """Compare the patients of a manifest with those that the cascade's networks remember.

    Raises:
        DataError: A network does not say what it was trained on.
    """
    product = read_artifact_json(cascade / CASCADE_NAME)
    try:
        protocol, is_leaky = str(product["protocol"]), bool(product["is_leaky"])
        is_checkable = bool(product["has_patient_ids"] and rows["has_patient_ids"].all())
    except KeyError as error:
        raise DataError(f"cascade {cascade.name} does not say how it was trained ({error}); {REMEDY}") from error
    patients = sorted(map(str, rows["patient_id"].unique()))
    seen = read_seen_patients(cascade)
    training, validation = (
        [patient for patient in patients if is_checkable and hash_patient(patient) in part] for part in seen
    )
    return Acquaintance(
        num_patients=len(patients),
        training=tuple(training),
        validation=tuple(patient for patient in validation if patient not in training),
        training_protocol=protocol,
        is_training_leaky=is_leaky,
        is_checkable=is_checkable,
    )


def drop_patients(rows: pd.DataFrame, patients: Iterable[str]) -> pd.DataFrame:
    """Return the rows of all other patients.

    Raises:
        DataError: There are none.
    """
    kept = rows[~rows["patient_id"].isin(list(patients))].reset_index(drop=True)
    if kept.empty:
        raise DataError("no patient is new: the cascade was trained or validated on all of them; name other data.")
    return kept


def write_known(acquaintance: Acquaintance, path: Path) -> None:
    """Write a table of the patients that the cascade knows, and from where."""
    parts = {"training": acquaintance.training, "validation": acquaintance.validation}
    lines = [(patient, part) for part, patients in parts.items() for patient in patients]
    pd.DataFrame(lines, columns=["patient_id", "known_from"]).to_csv(path, index=False)
