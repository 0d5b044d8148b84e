"""The report: one HTML file that holds everything it shows and opens without a network."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from tumor_cascade.evaluation.no_learning import Scores
from tumor_cascade.evaluation.statistics import Estimate, Summary
from tumor_cascade.evaluation.strata import name_strata, title_strata
from tumor_cascade.params import EvaluateCascadeParams

TEMPLATE_NAME = "report.html.j2"
UNDEFINED = "\N{EN DASH}"


@dataclass(frozen=True)
class ReportContext:
    """What a reader has to know before the first number.

    Attributes:
        protocol: How they and training were separated, e.g. `patient_level`.
        scope: Whom the cascade was scored on, in words.
        is_leaky: The cascade already knew patients of them from its training.
        has_patient_ids: False where ids were invented per file.
        content_id: Of this evaluation.
        gate_thresholds: Of the cascade, sorted; several where each fold has its own. 0: no gate.
        decision_thresholds: The same of its decision.
        baselines: What no learning scores on the same slices; may be empty.
    """

    protocol: str
    scope: str
    is_leaky: bool
    has_patient_ids: bool
    content_id: str
    gate_thresholds: Sequence[float]
    decision_thresholds: Sequence[float]
    baselines: Scores


def render_report(
    context: ReportContext,
    summary: Summary,
    class_table: Sequence[Mapping[str, Any]],
    patients: pd.DataFrame,
    figures: Mapping[str, bytes],
    params: EvaluateCascadeParams,
) -> str:
    """Return the report as HTML.

    Args:
        context: Protocol, marks and ids.
        summary: Of `summarize_evaluation`.
        class_table: Of `tabulate_classes`.
        patients: Per-patient table, indexed by `patient_id`.
        figures: Name without suffix -> PNG bytes.
        params: The stage's section.
    """
    environment = Environment(
        loader=PackageLoader("tumor_cascade", "evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": format_number, "interval": format_interval, "range": format_range}
    return environment.get_template(TEMPLATE_NAME).render(
        context=context,
        metrics={name.replace("/", "."): value for name, value in summary.items()},
        class_table=class_table,
        patients=[{"patient_id": name, **row} for name, row in patients.to_dict("index").items()],
        images={name: base64.b64encode(png).decode() for name, png in figures.items()},
        params=params,
        strata=list(zip(name_strata(params.area_strata_px), title_strata(params.area_strata_px), strict=True)),
    )


def format_number(value: Estimate | float | int | None, kind: str) -> str:
    """Return a value as text, a dash if it is undefined.

    Args:
        value: A metric.
        kind: `score` and `difference` get 3 decimals, `fine` 5, `share` is in percent, `amount` gets
            1 decimal, `count` none.
    """
    number = value.value if isinstance(value, Estimate) else value
    if number is None or pd.isna(number):
        return UNDEFINED
    formats = {"score": ".3f", "fine": ".5f", "difference": "+.3f", "share": ".1%", "amount": ",.1f", "count": ",.0f"}
    return format(number, formats[kind])


def format_range(values: Sequence[float], kind: str) -> str:
    """Return sorted values as text: one, or the first and the last."""
    return " to ".join(dict.fromkeys(format_number(value, kind) for value in (values[0], values[-1])))


def format_interval(value: Estimate | float | int | None, kind: str) -> str:
    """Return an estimate's interval as text, empty where there is none."""
    if not isinstance(value, Estimate) or value.low is None or value.high is None:
        return ""
    return f"[{format_number(value.low, kind)}, {format_number(value.high, kind)}]"
