"""`tumor-cascade evaluate`: any cascade on any folder of labelled patients; the report of `evaluate_cascade`."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from tumor_cascade.content import describe_content
from tumor_cascade.data.manifest import read_manifest
from tumor_cascade.data.split import TEST
from tumor_cascade.errors import DataError
from tumor_cascade.evaluation.selection import Cohort
from tumor_cascade.network_folder import hash_patient
from tumor_cascade.out_folder import check_out_folder
from tumor_cascade.params import EvaluateCascadeParams, IngestDataParams
from tumor_cascade.product import CASCADE_NAME, REMEDY, load_cascade, read_artifact_json, read_seen_patients
from tumor_cascade.stages.evaluate_cascade import evaluate_cohort
from tumor_cascade.stages.ingest_data import ingest_data
from tumor_cascade.storage import atomic_dir

METRICS_NAME = "metrics.json"


@dataclass(frozen=True)
class Acquaintance:
    """What a cascade already knows of the patients that it is evaluated on.

    Attributes:
        num_patients: In the data.
        num_training: Of these, in the training of any of its networks.
        num_validation: Of the others, in a validation part, which chose weights and thresholds.
        training_protocol: How its own patients were split.
        is_training_leaky: Whether that protocol mixes slices of one patient.
        is_checkable: Whether both sides have patient ids to compare.
    """

    num_patients: int
    num_training: int
    num_validation: int
    training_protocol: str
    is_training_leaky: bool
    is_checkable: bool

    @property
    def is_leaky(self) -> bool:
        """Whether the numbers must not count as those of new patients, or come of a leaky product."""
        return self.num_training + self.num_validation > 0 or self.is_training_leaky

    @property
    def protocol(self) -> str:
        """The line of the report."""
        parts = ["external"]
        if num_known := self.num_training + self.num_validation:
            parts.append(f"{num_known} of {self.num_patients} patients known from training or validation")
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
) -> Acquaintance:
    """Ingest a data set for the while, evaluate a cascade on all its patients, write `report/` and `metrics.json`.

    Args:
        cascade: Packed cascade.
        data: Folder or zip with masks.
        out: Output folder; it appears when complete.
        ingest_params: Section `ingest_data`; its `source` does not count.
        params: Section `evaluate_cascade`.
        layout: How the data lie.
        is_overwrite: Whether `out` may replace an earlier evaluation.

    Returns:
        Whether these patients were new to the cascade; if not, the report is marked leaky.

    Raises:
        ParamsError: `out` would replace something else.
        DataError: With every violation of the data; they have no masks; or the cascade is damaged.
    """
    check_out_folder(out, [data, cascade], marker=METRICS_NAME, is_overwrite=is_overwrite)
    read_artifact_json(cascade / CASCADE_NAME)  # before minutes of reading data
    with atomic_dir(out) as folder, tempfile.TemporaryDirectory(dir=folder) as work:
        slices, manifest = Path(work, "slices"), Path(work, "manifest.parquet")
        ingest = ingest_params.model_copy(update={"source": layout})
        ingest_data(ingest, raw=data, out_slices=slices, out_manifest=manifest)
        rows = read_manifest(manifest)
        acquaintance = find_acquaintance(cascade, rows)
        product = load_cascade(cascade)
        cohort = Cohort(
            parts=[(product, rows)],
            settings=product.settings,
            split=TEST,
            scope="patients from outside",
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
    patients = {hash_patient(str(patient)) for patient in rows["patient_id"].unique()}
    seen = read_seen_patients(cascade)
    in_training, in_validation = (patients & part if is_checkable else set[str]() for part in seen)
    return Acquaintance(
        num_patients=len(patients),
        num_training=len(in_training),
        num_validation=len(in_validation - in_training),
        training_protocol=protocol,
        is_training_leaky=is_leaky,
        is_checkable=is_checkable,
    )
