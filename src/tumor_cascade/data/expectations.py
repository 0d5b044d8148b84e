"""The one adapter to Great Expectations: runs the validation rules and renders their pages.

Great Expectations takes seconds to import, calls home unless told not to, and writes times and random ids into its
pages. All three end here: it is imported when needed, analytics off, and its pages come out the same on every run.
"""

import os
import re
import shutil
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from tumor_cascade.data.validation_frames import FRAME_KEYS, derive_frames, frame_columns
from tumor_cascade.data.validation_rules import RULES, Rule
from tumor_cascade.params import ValidateDataParams

Status = Literal["passed", "failed", "not_applicable"]

MAX_LISTED_ROWS = 20
SITE = "data_docs"
BOUNDS = ("min_value", "max_value", "mostly")
NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Outcome:
    """What came of one rule.

    Attributes:
        rule: The rule.
        status: `not_applicable` where there was nothing to look at.
        num_checked: Rows of the frame that were looked at.
        num_offending: Rows that break the rule; a rule with a tolerated share passes with some.
        num_offending_patients: Patients that they belong to; None where rows belong to none.
        bounds: The numbers judged by: `min_value`, `max_value`, `mostly` (the share of rows that has to keep the rule).
        offending_rows: Some of them, from as many patients as possible: their keys and the values judged.
        observed_range: Least and greatest of the judged column, or None where it is no number.
    """

    rule: Rule
    status: Status
    num_checked: int
    num_offending: int
    num_offending_patients: int | None
    bounds: dict[str, float]
    offending_rows: list[dict[str, Any]]
    observed_range: tuple[float, float] | None


class Expectations:
    """The rules as Great Expectations suites, one per frame, in a throw-away context that keeps the last results.

    Args:
        params: Bounds that the rules take.
    """

    def __init__(self, params: ValidateDataParams) -> None:
        os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read at import
        import great_expectations
        from great_expectations.render import util

        # Its tables of findings put the columns in the order of a set: another one in each process.
        util.set = _Names  # type: ignore[attr-defined]
        self._params = params
        # Any: the library's own types are narrower than what it takes.
        self._gx: Any = great_expectations
        self._context = self._gx.get_context(mode="ephemeral")
        self._context.variables.progress_bars = {"globally": False}
        source = self._context.data_sources.add_pandas("manifest")
        self._definitions = {name: self._define(source, name) for name in FRAME_KEYS}

    def check_manifest(self, manifest: pd.DataFrame) -> tuple[list[Outcome], dict[str, float | int | None]]:
        """Return the outcome of every rule, in their order, and the facts of the cohort.

        Where columns are missing or of another type nothing else can be looked at: no other outcome, no facts.
        """
        outcomes = self._check_frame("columns", frame_columns(manifest))
        if outcomes[0].status == "failed":
            return outcomes, {}
        frames = derive_frames(manifest)
        for name, frame in frames.items():
            outcomes += self._check_frame(name, frame)
        names = [rule.name for rule in RULES]
        [cohort] = frames["cohort"].drop(columns="cohort").to_dict("records")
        facts = {str(key): None if pd.isna(value) else round(value, 6) for key, value in cohort.items()}
        return sorted(outcomes, key=lambda outcome: names.index(outcome.rule.name)), facts

    def write_pages(self, site_dir: Path) -> dict[str, str]:
        """Write the Data Docs pages of all checks into an empty folder, the same bytes on every run.

        Great Expectations' front page is left out: without the net it stays empty.

        Returns:
            Frame -> path of its page, relative to the folder.
        """
        backend = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(site_dir.resolve())}
        config = {"class_name": "SiteBuilder", "store_backend": backend, "show_how_to_buttons": False}
        self._context.add_data_docs_site(SITE, config)
        self._context.build_data_docs(site_names=[SITE], build_index=False)
        shutil.rmtree(site_dir / "static")  # megabytes of fonts and tutorial; the pages carry their styles
        for page in site_dir.rglob("*.html"):
            page.write_text(_settle_page(page.read_text(encoding="utf-8")), encoding="utf-8")
        pages = site_dir.glob("validations/**/*.html")
        return {path.relative_to(site_dir).parts[1]: path.relative_to(site_dir).as_posix() for path in pages}

    def _define(self, source: Any, name: str) -> Any:
        batches = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
        expectations = [self._make_expectation(rule) for rule in RULES if rule.frame == name]
        suite = self._context.suites.add(self._gx.ExpectationSuite(name=name, expectations=expectations))
        definition = self._gx.ValidationDefinition(name=name, data=batches, suite=suite)
        return self._context.validation_definitions.add(definition)

    def _make_expectation(self, rule: Rule) -> Any:
        from great_expectations.expectations.row_conditions import Column

        condition = {} if rule.only_where is None else {"row_condition": Column(rule.only_where) == True}  # noqa: E712
        return getattr(self._gx.expectations, rule.expectation)(
            **rule.options(self._params),
            **condition,
            severity=rule.severity,
            meta={"rule": rule.name},
            notes=f"{rule.name} ({rule.severity}): {rule.statement}.",
        )

    def _check_frame(self, name: str, frame: pd.DataFrame) -> list[Outcome]:
        rules = [rule for rule in RULES if rule.frame == name]
        result = self._definitions[name].run(
            batch_parameters={"dataframe": frame},
            result_format={"result_format": "COMPLETE", "unexpected_index_column_names": FRAME_KEYS[name]},
            run_id=self._gx.core.run_identifier.RunIdentifier(run_name="validate_data", run_time=NO_TIME),
        )
        items = {item.expectation_config.meta["rule"]: item for item in result.results}
        return [_read_outcome(rule, frame, items[rule.name]) for rule in rules]


class _Names(list[str]):
    """Names in their order, with what Great Expectations' tables ask of a set."""

    def difference(self, others: list[str]) -> list[str]:
        """Return those that are not among others."""
        return [name for name in self if name not in others]


def _read_outcome(rule: Rule, frame: pd.DataFrame, item: Any) -> Outcome:
    errors = [fault for fault in _list_faults(item.exception_info) if fault.get("raised_exception")]
    if errors:
        raise RuntimeError(f"rule {rule.name} could not be run: {errors[0]['exception_message']}")
    result, options = item.result, item.expectation_config.kwargs
    num_checked = int(result["element_count"]) - int(result["missing_count"])
    keys = FRAME_KEYS[rule.frame]
    found = _take_turns(
        sorted(result["unexpected_index_list"] or [], key=lambda row: [row[key] for key in keys]), keys[0]
    )
    rows = [_describe_row(row, keys) for row in found[:MAX_LISTED_ROWS]]
    status: Status = "not_applicable" if num_checked == 0 else "passed" if item.success else "failed"
    return Outcome(
        rule,
        status,
        num_checked,
        int(result["unexpected_count"]),
        len({row["patient_id"] for row in found}) if "patient_id" in keys else None,
        {key: round(options[key], 6) for key in BOUNDS if options.get(key) is not None},
        rows,
        _measure_range(rule, frame, options.get("column")),
    )


def _list_faults(info: dict[str, Any]) -> list[dict[str, Any]]:
    # Great Expectations returns one fault, or a mapping of metrics to faults.
    return [info] if "raised_exception" in info else list(info.values())


def _measure_range(rule: Rule, frame: pd.DataFrame, column: str | None) -> tuple[float, float] | None:
    if column is None or not pd.api.types.is_numeric_dtype(frame[column]):
        return None
    values = (frame if rule.only_where is None else frame[frame[rule.only_where]])[column].dropna()
    return (round(float(values.min()), 6), round(float(values.max()), 6)) if len(values) else None


def _take_turns(rows: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    # One row of each patient first, then a second of each: a short list shows how far a finding reaches.
    seen: Counter[str] = Counter()
    turns = []
    for row in rows:
        seen[row[key]] += 1
        turns.append(seen[row[key]])
    return [row for _, _, row in sorted(zip(turns, range(len(rows)), rows, strict=True), key=lambda item: item[:2])]


def _describe_row(row: dict[str, Any], keys: list[str]) -> dict[str, Any]:
    # Its name first, then the values judged, as plain numbers that JSON knows.
    plain = {key: row[key].item() if hasattr(row[key], "item") else row[key] for key in [*keys, *row]}
    return {key: round(value, 6) if isinstance(value, float) else value for key, value in plain.items()}


def _settle_page(page: str) -> str:
    """Return a page without times, random ids, the advertisement, and logos that report each view."""
    page = re.sub(r'<img[^>]*src="https://great-expectations-web-assets[^>]*>', "", page)
    page = re.sub(r"url\('https://great-expectations-web-assets[^)]*\)", "none", page)
    page = re.sub(r"<footer>.*?</footer>", "", page, flags=re.DOTALL)
    page = re.sub(r"\b\d{8}T\d{6}\.\d{6}Z(?=</span>)|\b1970-01-01T00:00:00Z", "not recorded", page)
    ids: dict[str, str] = {}
    pattern = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    return re.sub(pattern, lambda found: ids.setdefault(found[0], f"id-{len(ids)}"), page)
