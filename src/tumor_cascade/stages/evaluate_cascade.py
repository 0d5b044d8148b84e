"""`evaluate_cascade`: scores the product on patients that it has not learned from; intervals, pictures, a report."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from tumor_cascade.content import describe_content
from tumor_cascade.data.cohort import iterate_volumes, read_rows
from tumor_cascade.data.split import read_split_facts
from tumor_cascade.data.volumes import Volume, read_volume
from tumor_cascade.errors import DataError
from tumor_cascade.evaluation.album import render_figures
from tumor_cascade.evaluation.cohort import Evaluation, evaluate_volumes, join_evaluations
from tumor_cascade.evaluation.detection import bin_probabilities, tabulate_classes, trace_precision_recall, trace_roc
from tumor_cascade.evaluation.gate import trace_thresholds
from tumor_cascade.evaluation.metrics import flatten_summary, list_estimates, summarize_evaluation
from tumor_cascade.evaluation.no_learning import score_baselines
from tumor_cascade.evaluation.report import ReportContext, render_report
from tumor_cascade.evaluation.selection import Cohort, select_out_of_fold, select_test
from tumor_cascade.params import EvaluateCascadeParams
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
    """Evaluate a cascade on the locked test set, or its folds' networks on their validation patients.

    Args:
        params: The stage's section.
        cascade: Packed product.
        slices: Folder of packed volumes.
        manifest: `manifest.parquet` of `ingest_data`.
        splits: Folder of `split_data`.
        out_report: Folder for report, tables and figures.
        out_metrics: File for all metrics as numbers.

    Raises:
        DataError: A part is missing, damaged, does not fit, or has no masks; or a network has already seen a patient
            that it would be scored on.
    """
    inputs = {"cascade": cascade, "manifest": manifest, "splits": splits}
    content = describe_content("evaluate_cascade", {"evaluate_cascade": params.model_dump()}, inputs)
    facts, rows = read_split_facts(splits), read_rows(manifest, splits)
    select = select_test if params.partition == "test" else select_out_of_fold
    cohort = select(cascade, rows, facts["protocol"], facts["is_leaky"])
    is_scored = pd.concat([part["is_scored"] for _, part in cohort.parts]).reindex(rows.index, fill_value=False)
    check_rows(rows[is_scored])
    cohort = replace(cohort, baselines=score_baselines(slices, rows, is_scored.to_numpy(bool)))
    evaluate_cohort(params, cohort, slices=slices, out_report=out_report, out_metrics=out_metrics, content=content)


def evaluate_cohort(
    params: EvaluateCascadeParams,
    cohort: Cohort,
    *,
    slices: Path,
    out_report: Path,
    out_metrics: Path,
    content: dict[str, Any],
) -> None:
    """Evaluate a cascade on any ingested patients.

    Args:
        params: The section of `evaluate_cascade`.
        cohort: Whom, and by which networks.
        slices: Folder of packed volumes.
        out_report: Folder for report, tables and figures.
        out_metrics: File for all metrics as numbers.
        content: Of this evaluation, see `describe_content`.

    Raises:
        DataError: There is no slice to score, a patient has no masks, or a volume is damaged.
    """
    rows = check_rows(pd.concat([part for _, part in cohort.parts]))
    evaluations = []
    for cascade, part in cohort.parts:
        volumes = iterate_volumes(slices, check_rows(part))
        cascade.to(torch.device(choose_device()))
        evaluations.append(evaluate_volumes(cascade, volumes, params, num_patients=part["patient_id"].nunique()))
    evaluation = join_evaluations(evaluations)

    def load_volume(patient_id: str) -> Volume:
        return read_volume(slices, rows[rows["patient_id"] == patient_id])

    summary, tables = summarize_evaluation(evaluation, params), trace_tables(evaluation)
    settings = [cascade.settings for cascade, _ in cohort.parts]
    decision_thresholds = sorted({one.decision_threshold for one in settings})
    figures = render_figures(evaluation, tables, summary, decision_thresholds, params.num_example_slices, load_volume)
    context = ReportContext(
        protocol=cohort.protocol,
        scope=cohort.scope,
        is_leaky=cohort.is_leaky,
        has_patient_ids=bool(rows["has_patient_ids"].all()),
        content_id=content["content_id"],
        gate_thresholds=sorted({one.gate_threshold for one in settings}),
        decision_thresholds=decision_thresholds,
        baselines=cohort.baselines,
    )
    decisions = evaluation.slices[["has_tumor", "is_positive"]].to_numpy(bool).T
    html = render_report(context, summary, tabulate_classes(*decisions), evaluation.patients, figures, params)
    marks = {"protocol": cohort.protocol, "is_leaky": cohort.is_leaky, "has_patient_ids": context.has_patient_ids}
    with atomic_dir(out_report) as folder:
        (folder / "report.html").write_text(html, encoding="utf-8")
        (folder / "figures").mkdir()
        for name, png in figures.items():
            (folder / "figures" / f"{name}.png").write_bytes(png)
        for name, table in tables.items():
            table.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
        write_json(folder / "estimates.json", list_estimates(summary, cohort.split))
        write_json(folder / "content.json", {**content, **marks, "scope": cohort.scope})
    leak = {f"cascade/{cohort.split}_is_leaky": int(cohort.is_leaky)}
    no_learning = {
        f"{name}/{cohort.split}_{metric}": value
        for name, scores in cohort.baselines.items()
        for metric, value in scores.items()
        if value is not None
    }
    write_json(out_metrics, {**flatten_summary(summary, cohort.split), **leak, **no_learning})


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
