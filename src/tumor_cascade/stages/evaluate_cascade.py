"""`evaluate_cascade`: scores the product on the locked test set, with intervals, pictures and a report."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from tumor_cascade.content import describe_content
from tumor_cascade.data.cohort import iterate_volumes, read_rows
from tumor_cascade.data.split import TEST, read_split_facts
from tumor_cascade.data.volumes import Volume, read_volume
from tumor_cascade.errors import DataError
from tumor_cascade.evaluation.album import render_figures
from tumor_cascade.evaluation.cohort import Evaluation, evaluate_volumes
from tumor_cascade.evaluation.detection import bin_probabilities, tabulate_classes, trace_precision_recall, trace_roc
from tumor_cascade.evaluation.gate import trace_thresholds
from tumor_cascade.evaluation.metrics import flatten_summary, list_estimates, summarize_evaluation
from tumor_cascade.evaluation.report import ReportContext, render_report
from tumor_cascade.network_folder import hash_patient
from tumor_cascade.params import EvaluateCascadeParams
from tumor_cascade.product import load_cascade, read_seen_patients
from tumor_cascade.settings import choose_device
from tumor_cascade.storage import atomic_dir, write_json


def evaluate_cascade(
    params: EvaluateCascadeParams,
    *,
    cascade: Path,
    slices: Path,
    manifest: Path,
    splits: Path,
    out_report: Path,
    out_metrics: Path,
) -> None:
    """Evaluate a cascade on the locked test set.

    Args:
        params: The stage's section.
        cascade: Packed product.
        slices: Folder of packed volumes.
        manifest: `manifest.parquet` of `ingest_data`.
        splits: Folder of `split_data`; rows of the partition `test` count.
        out_report: Folder for report, tables and figures.
        out_metrics: File for all metrics as numbers.

    Raises:
        DataError: A part is missing, damaged, does not fit, or has no masks; or a network has already seen a
            test patient.
    """
    inputs = {"cascade": cascade, "manifest": manifest, "splits": splits}
    content = describe_content("evaluate_cascade", {"evaluate_cascade": params.model_dump()}, inputs)
    facts = read_split_facts(splits)
    rows = read_rows(manifest, splits)
    rows["is_scored"] = rows["partition"] == TEST
    if not facts["is_leaky"]:
        check_strangers(cascade, rows.loc[rows["is_scored"], "patient_id"].unique())
    # Under slice_level a patient is in part on the other side: the volume is predicted whole, its test slices count.
    evaluate_cohort(
        params,
        cascade=cascade,
        slices=slices,
        rows=rows[rows.groupby("patient_id")["is_scored"].transform("any")],
        protocol=facts["protocol"],
        is_leaky=facts["is_leaky"],
        out_report=out_report,
        out_metrics=out_metrics,
        content=content,
    )


def evaluate_cohort(
    params: EvaluateCascadeParams,
    *,
    cascade: Path,
    slices: Path,
    rows: pd.DataFrame,
    protocol: str,
    is_leaky: bool,
    out_report: Path,
    out_metrics: Path,
    content: dict[str, Any],
) -> None:
    """Evaluate a cascade on any ingested patients.

    Args:
        params: The section of `evaluate_cascade`.
        cascade: Packed product.
        slices: Folder of packed volumes.
        rows: Manifest rows of whole patients. A bool column `is_scored` says which slices count; without it, all.
        protocol: How these patients were kept apart from training, for the report.
        is_leaky: Whether they were not.
        out_report: Folder for report, tables and figures.
        out_metrics: File for all metrics as numbers.
        content: Of this evaluation, see `describe_content`.

    Raises:
        DataError: There is no slice to score, a patient has no masks, or a volume is damaged.
    """
    rows = check_rows(rows)
    product = load_cascade(cascade).to(torch.device(choose_device()))
    evaluation = evaluate_volumes(
        product, iterate_volumes(slices, rows), params, num_patients=rows["patient_id"].nunique()
    )

    def load_volume(patient_id: str) -> Volume:
        return read_volume(slices, rows[rows["patient_id"] == patient_id])

    context = ReportContext(
        protocol=protocol,
        is_leaky=is_leaky,
        has_patient_ids=bool(rows["has_patient_ids"].all()),
        content_id=content["content_id"],
        gate_threshold=product.settings.gate_threshold,
    )
    summary = summarize_evaluation(evaluation, params)
    tables = trace_tables(evaluation)
    figures = render_figures(
        evaluation, tables, summary, context.gate_threshold, params.num_example_slices, load_volume
    )
    decisions = evaluation.slices[["has_tumor", "is_positive"]].to_numpy(bool).T
    html = render_report(context, summary, tabulate_classes(*decisions), evaluation.patients, figures, params)
    marks = {"protocol": protocol, "is_leaky": is_leaky, "has_patient_ids": context.has_patient_ids}
    with atomic_dir(out_report) as folder:
        (folder / "report.html").write_text(html, encoding="utf-8")
        (folder / "figures").mkdir()
        for name, png in figures.items():
            (folder / "figures" / f"{name}.png").write_bytes(png)
        for name, table in tables.items():
            table.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
        write_json(folder / "estimates.json", list_estimates(summary))
        write_json(folder / "content.json", {**content, **marks})
    write_json(out_metrics, {**flatten_summary(summary), "cascade/test_is_leaky": int(is_leaky)})


def check_strangers(cascade: Path, patients: Iterable[str]) -> None:
    """Refuse a test set whose patients any network of a cascade was trained or validated on.

    Raises:
        DataError: Naming each of them.
    """
    seen = set[str]().union(*read_seen_patients(cascade))
    known = [patient for patient in sorted(patients) if hash_patient(patient) in seen]
    if known:
        lines = [f"test patient {patient} was in training or validation." for patient in known]
        raise DataError(lines, "the cascade was made with other splits than these; run from train_classifier on again:")


def check_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with `is_scored`, sorted by patient and slice.

    Raises:
        DataError: Nothing is to be scored, or slices have no mask.
    """
    rows = rows.assign(is_scored=rows.get("is_scored", True))
    if not rows["is_scored"].any():
        raise DataError("there is no slice to evaluate on: the test partition is empty; run split_data again.")
    without = sorted(rows.loc[~rows["has_mask"], "patient_id"].unique())
    if without:
        lines = [f"patient {name} has no masks; ingest it with masks or leave it out." for name in without]
        raise DataError(lines, "an evaluation compares masks with masks:")
    return rows.sort_values(["patient_id", "slice_index"], ignore_index=True)


def trace_tables(evaluation: Evaluation) -> dict[str, pd.DataFrame]:
    """Return the tables that are written beside the report: file name without suffix -> table."""
    slices = evaluation.slices
    labels, probabilities = slices["has_tumor"].to_numpy(bool), slices["probability"].to_numpy(float)
    return {
        "per_slice": slices,
        "per_patient": evaluation.patients.reset_index(),
        "roc": trace_roc(labels, probabilities),
        "precision_recall": trace_precision_recall(labels, probabilities),
        "calibration": bin_probabilities(probabilities, labels),
        "dice_by_threshold": trace_thresholds(slices),
    }
