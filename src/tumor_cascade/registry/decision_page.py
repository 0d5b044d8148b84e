"""The page of a decision: verdict, every check explained, the same patients side by side; one file, no network."""

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from tumor_cascade.evaluation.figures import BLUE, GREEN, GREY, MAX_NAMED_PATIENTS, ORANGE, render_png, start_figure
from tumor_cascade.registry.judged_metrics import METRICS, Scores
from tumor_cascade.registry.policy import Policy
from tumor_cascade.registry.verdicts import Check, Group

TEMPLATE_NAME = "decision_page.html.j2"
UNDEFINED = "\N{EN DASH}"
SCORE = "cascade_volume_dice"
# In the order of the page: what people ask first.
GROUPS: dict[Group, tuple[str, str]] = {
    "primary": ("Is it better?", "One metric, declared beforehand, must improve."),
    "safety": ("Is it nowhere worse?", "A loss of the margin or more must be ruled out in each of these."),
    "strata": ("Is nobody worse off?", "The same in groups of patients, which a mean would hide."),
    "floors": ("Is it good enough at all?", "The lower bound of each figure is held to a floor, champion or not."),
    "patients": ("Is there enough to judge by?", "Patients whom neither cascade has learned from or been tuned on."),
    "health": (
        "Does it run?",
        "The registry's own copy, served over HTTP by a process of its own, gives its golden answers.",
    ),
    "integrity": ("Is it what it says it is?", "Facts without a threshold; any fault refuses."),
}
OUTCOMES = {"pass": "passed", "refuse": "failed", "abstain": "not decided", "note": "shown only"}


@dataclass(frozen=True)
class Bar:
    """An interval beside its limit, places in percent of the axis; None where undefined."""

    low: float
    high: float
    value: float
    limit: float
    zero: float | None


def render_decision(facts: dict[str, Any], checks: tuple[Check, ...], policy: Policy, patients: pd.DataFrame) -> str:
    """Return the page as HTML.

    Args:
        facts: The decision's JSON without its list of files.
        checks: Of the decision.
        policy: That it was made under.
        patients: Of `pair_patients`; without rows where nothing was scored.
    """
    environment = Environment(
        loader=PackageLoader("tumor_cascade", "registry"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["score"] = format_score
    groups = [
        (title, text, [(check, OUTCOMES[check.outcome], place_bar(check)) for check in checks if check.group == group])
        for group, (title, text) in GROUPS.items()
    ]
    picture = base64.b64encode(render_png(plot_pairs(patients))).decode() if len(patients) else None
    return environment.get_template(TEMPLATE_NAME).render(
        facts=facts,
        reason=facts["sentence"].partition(": ")[2],
        groups=[group for group in groups if group[2]],
        metrics=METRICS,
        policy=policy,
        picture=picture,
        patients=sort_worst_first(patients).reset_index().to_dict("records"),
        has_champion="champion_dice" in patients,
    )


def pair_patients(candidate: Scores | None, champion: Scores | None) -> pd.DataFrame:
    """Return both cascades' volume Dice of each patient, indexed by `patient_id`.

    Returns:
        Columns `institution`, `tumor_px`, `candidate_dice` and, with a champion, `champion_dice` and `gain`.
    """
    if candidate is None:
        return pd.DataFrame()
    table = candidate.patients[["institution", "tumor_px"]].assign(candidate_dice=candidate.patients[SCORE])
    if champion is None:
        return table
    return table.assign(
        champion_dice=champion.patients[SCORE], gain=candidate.patients[SCORE] - champion.patients[SCORE]
    )


def sort_worst_first(patients: pd.DataFrame) -> pd.DataFrame:
    """Return the patients who lose most first; without a champion, those with the lowest Dice."""
    columns = [name for name in ("gain", "candidate_dice") if name in patients]
    return patients.sort_values(columns[0], kind="stable") if columns else patients


def place_bar(check: Check) -> Bar | None:
    """Return where a check's interval and limit stand on an axis: of figures from 0 to 1, of gains around 0."""
    numbers = check.numbers
    if check.group == "floors":
        value, low, high, limit = (numbers[name] for name in ("value", "low", "high", "floor"))
    elif "gain" in numbers:
        value, low, high = (numbers[name] for name in ("gain", "gain_low", "gain_high"))
        limit = 0.0 if check.group == "primary" else -float(numbers["margin"] or 0)
    else:
        return None
    if value is None or low is None or high is None or limit is None:
        return None
    start, end = 0.0, 1.0
    if check.group != "floors":
        end = 1.15 * max(abs(low), abs(high), abs(float(numbers["margin"] or 0)))
        start = -end
    low, high, value, limit = (round(100 * (one - start) / (end - start), 2) for one in (low, high, value, limit))
    return Bar(low, high, value, limit, None if check.group == "floors" else 50.0)


def plot_pairs(patients: pd.DataFrame) -> Figure:
    """Return each patient's Dice under both cascades, joined by a line, sorted by the candidate's."""
    ranked = patients.sort_values("candidate_dice", kind="stable")
    places = np.arange(len(ranked))
    figure, axes = start_figure((9.5, 3.8))
    if "champion_dice" in ranked:
        for sign, color in ((1, GREEN), (-1, ORANGE)):
            part = np.sign(ranked["gain"].fillna(0).to_numpy()) == sign
            ends = ranked[["champion_dice", "candidate_dice"]].to_numpy()[part]
            axes.vlines(places[part], ends.min(axis=1), ends.max(axis=1), color=color, linewidth=2.5, alpha=0.7)
        axes.plot(places, ranked["champion_dice"], "o", color=GREY, markersize=5, label="champion")
    axes.plot(places, ranked["candidate_dice"], "o", color=BLUE, markersize=6, label="candidate")
    is_named = len(ranked) <= MAX_NAMED_PATIENTS
    axes.set(ylim=(-0.03, 1.03), ylabel="Volume Dice", xticks=[], xlabel="" if is_named else "Patients, sorted")
    if is_named:
        axes.set_xticks(places, [str(name) for name in ranked.index], rotation=60, ha="right", fontsize=7)
    axes.grid(axis="y", alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    return figure


def format_score(value: float | None, sign: str = "") -> str:
    """Return three digits, a dash where undefined."""
    return UNDEFINED if value is None or pd.isna(value) else f"{value:{sign}.3f}"
