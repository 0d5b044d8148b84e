"""Stage `validate_data`: bad data stop here, with every violation listed."""

from pathlib import Path
from typing import Any

import click

from tumor_cascade.content import describe_content
from tumor_cascade.data.expectations import Expectations, Outcome
from tumor_cascade.data.manifest import read_manifest
from tumor_cascade.data.validation_page import render_page
from tumor_cascade.data.validation_rules import RULES
from tumor_cascade.errors import DataError
from tumor_cascade.params import ValidateDataParams
from tumor_cascade.storage import atomic_dir, write_json

MAX_NAMED_ROWS = 5


def validate_data(
    params: ValidateDataParams, *, manifest: Path, slices: Path, out_report: Path, out_metrics: Path
) -> None:
    """Judge the data and write a report, which stands even where a critical rule is broken.

    Args:
        params: The stage's section.
        manifest: `manifest.parquet` of `ingest_data`.
        slices: Folder of packed volumes; its content is part of what is judged.
        out_report: Folder for `result.json`, the Data Docs site and `content.json`.
        out_metrics: File for counts and cohort facts.

    Raises:
        DataError: With every critical rule that is broken.
    """
    expectations = Expectations(params)
    outcomes, cohort = expectations.check_manifest(read_manifest(manifest))
    metrics = {**count_outcomes(outcomes), **cohort}
    with atomic_dir(out_report) as folder:
        described = [describe_outcome(outcome) for outcome in outcomes]
        pages = expectations.write_pages(folder / "data_docs")
        (folder / "data_docs" / "index.html").write_text(render_page(described, metrics, pages), encoding="utf-8")
        write_json(folder / "result.json", described)
        inputs = {"manifest": manifest, "slices": slices}
        write_json(folder / "content.json", describe_content("validate_data", params.model_dump(mode="json"), inputs))
    write_json(out_metrics, metrics)
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    for outcome in failed:
        if outcome.rule.severity == "warning":
            click.echo(f"warning: {explain_outcome(outcome)}", err=True)
    critical = [explain_outcome(outcome) for outcome in failed if outcome.rule.severity == "critical"]
    if critical:
        raise DataError(critical, "the data break critical rules:")


def count_outcomes(outcomes: list[Outcome]) -> dict[str, int]:
    """Return how many rules were looked at and how many are broken, by severity."""
    failed = [outcome.rule.severity for outcome in outcomes if outcome.status == "failed"]
    return {
        "num_rules": len(RULES),
        "num_not_applicable": len(RULES) - sum(outcome.status != "not_applicable" for outcome in outcomes),
        "num_critical_failed": failed.count("critical"),
        "num_warnings": failed.count("warning"),
    }


def describe_outcome(outcome: Outcome) -> dict[str, Any]:
    """Return the entry of an outcome in result.json."""
    rule = outcome.rule
    return {
        "name": rule.name,
        "severity": rule.severity,
        "statement": rule.statement,
        "frame": rule.frame,
        "status": outcome.status,
        "success": outcome.status != "failed",
        "num_checked": outcome.num_checked,
        "num_offending": outcome.num_offending,
        "num_offending_patients": outcome.num_offending_patients,
        "bounds": outcome.bounds,
        "observed_range": outcome.observed_range,
        "offending_rows": outcome.offending_rows,
    }


def explain_outcome(outcome: Outcome) -> str:
    """Return a broken rule as one line: the rule, how many rows break it, which, what to do."""
    rule = outcome.rule
    shown = [", ".join(f"{key} {value}" for key, value in row.items()) for row in outcome.offending_rows]
    more = outcome.num_offending - MAX_NAMED_ROWS
    rest = f"; and {more} more" if more > 0 else ""
    reach = f" in {outcome.num_offending_patients} patient(s)" if rule.frame == "slices" else ""
    return (
        f"{rule.name}: {rule.statement}; {outcome.num_offending} of {outcome.num_checked} {rule.frame}{reach} "
        f"break this ({'; '.join(shown[:MAX_NAMED_ROWS])}{rest}). {rule.remedy}"
    )
