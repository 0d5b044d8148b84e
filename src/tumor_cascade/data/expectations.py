"""The one adapter to Great Expectations: runs the validation rules and renders their pages.

Great Expectations takes seconds to import, calls home unless told not to, and writes times and random ids into its
pages. All three end here: it is imported when needed, analytics off, and its pages come out the same on every run.
"""

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from tumor_cascade.data.validation_frames import FRAME_KEYS
from tumor_cascade.data.validation_rules import Rule
from tumor_cascade.params import ValidateDataParams

Status = Literal["passed", "failed", "not_applicable"]

MAX_LISTED_ROWS = 20
SITE = "data_docs"
NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Outcome:
    """What came of one rule.

    Attributes:
        rule: The rule.
        status: `not_applicable` where there was nothing to look at.
        num_checked: Rows of the frame that were looked at.
        num_offending: Rows that break the rule; a rule with a tolerated share passes with some.
        offending_rows: The first of them: their keys and the values judged.
        observed_range: Least and greatest of the judged column, or None where it is no number.
    """

    rule: Rule
    status: Status
    num_checked: int
    num_offending: int
    offending_rows: list[dict[str, Any]]
    observed_range: tuple[float, float] | None


class Expectations:
    """A throw-away Great Expectations context that gathers the results of one run.

    Args:
        params: Bounds that the rules take.
    """

    def __init__(self, params: ValidateDataParams) -> None:
        os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read at import
        import great_expectations

        self._params = params
        self._gx = great_expectations
        self._context = great_expectations.get_context(mode="ephemeral")
        self._context.variables.progress_bars = {"globally": False}
        self._source = self._context.data_sources.add_pandas("manifest")

    def check(self, name: str, frame: pd.DataFrame, rules: list[Rule]) -> list[Outcome]:
        """Judge a frame by its rules.

        Args:
            name: The frame's name; also the suite's.
            frame: As `validation_frames` made it.
            rules: Rules of that frame.

        Returns:
            One outcome per rule, in their order.
        """
        batches = self._source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
        suite = self._context.suites.add(self._gx.ExpectationSuite(name=name))
        for rule in rules:
            suite.add_expectation(self._make_expectation(rule))
        definition = self._gx.ValidationDefinition(name=name, data=batches, suite=suite)
        result = self._context.validation_definitions.add(definition).run(
            batch_parameters={"dataframe": frame},
            result_format={"result_format": "COMPLETE", "unexpected_index_column_names": FRAME_KEYS[name]},
            run_id=self._gx.core.run_identifier.RunIdentifier(run_name="validate_data", run_time=NO_TIME),
        )
        by_name = {item.expectation_config.meta["rule"]: item for item in result.results}
        return [_read_outcome(rule, frame, by_name[rule.name]) for rule in rules]

    def write_site(self, site_dir: Path) -> None:
        """Write the Data Docs pages of all checks into an empty folder, the same bytes on every run."""
        backend = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(site_dir)}
        builder = {"class_name": "DefaultSiteIndexBuilder"}
        config = {
            "class_name": "SiteBuilder",
            "store_backend": backend,
            "site_index_builder": builder,
            "show_how_to_buttons": False,
        }
        self._context.add_data_docs_site(SITE, config)
        self._context.build_data_docs(site_names=[SITE])
        for page in site_dir.rglob("*.html"):
            page.write_text(_settle_page(page.read_text(encoding="utf-8")), encoding="utf-8")

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


def _read_outcome(rule: Rule, frame: pd.DataFrame, item: Any) -> Outcome:
    errors = [fault for fault in _list_faults(item.exception_info) if fault.get("raised_exception")]
    if errors:
        raise RuntimeError(f"rule {rule.name} could not be run: {errors[0]['exception_message']}")
    result = item.result
    num_checked = int(result["element_count"]) - int(result["missing_count"])
    rows = [{key: _to_plain(value) for key, value in row.items()} for row in result["unexpected_index_list"] or []]
    status: Status = "not_applicable" if num_checked == 0 else "passed" if item.success else "failed"
    return Outcome(
        rule,
        status,
        num_checked,
        int(result["unexpected_count"]),
        rows[:MAX_LISTED_ROWS],
        _measure_range(rule, frame, item.expectation_config.kwargs.get("column")),
    )


def _list_faults(info: dict[str, Any]) -> list[dict[str, Any]]:
    # Great Expectations returns one fault, or a mapping of metrics to faults.
    return [info] if "raised_exception" in info else list(info.values())


def _measure_range(rule: Rule, frame: pd.DataFrame, column: str | None) -> tuple[float, float] | None:
    if column is None or not pd.api.types.is_numeric_dtype(frame[column]):
        return None
    values = (frame if rule.only_where is None else frame[frame[rule.only_where]])[column].dropna()
    return (round(float(values.min()), 6), round(float(values.max()), 6)) if len(values) else None


def _to_plain(value: Any) -> Any:
    plain = value.item() if hasattr(value, "item") else value
    return round(plain, 6) if isinstance(plain, float) else plain


def _settle_page(page: str) -> str:
    """Return a page without the times, random ids and the logo that reports each view to its maker."""
    page = re.sub(r'<img[^>]*src="https://great-expectations-web-assets[^>]*>', "", page)
    page = re.sub(r"\b\d{8}T\d{6}\.\d{6}Z(?=</span>)", "not recorded", page)
    ids: dict[str, str] = {}
    pattern = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    return re.sub(pattern, lambda found: ids.setdefault(found[0], f"id-{len(ids)}"), page)
