"""The words of a decision: checks with their numbers, and the verdict that they add up to."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tumor_cascade.evaluation.metrics import round_value
from tumor_cascade.evaluation.statistics import Estimate

Verdict = Literal["promote", "refuse", "abstain"]
Outcome = Literal["pass", "refuse", "abstain", "note"]
Group = Literal["integrity", "health", "patients", "floors", "primary", "safety", "strata"]
Numbers = dict[str, float | int | None]
MEANINGS: dict[Verdict, str] = {
    "promote": "Promoted: every check is passed.",
    "refuse": "Refused: it fails {refuse}.",
    "abstain": "Not decided: the evidence is too weak for {abstain}.",
}


@dataclass(frozen=True)
class Check:
    """One rule and what became of it.

    Attributes:
        group: Part of the policy.
        name: Metric, fact or stratum.
        title: For people.
        outcome: A `note` is shown and decides nothing.
        rule: What is asked, in words.
        finding: What was found, in words with numbers.
        numbers: The same for machines.
    """

    group: Group
    name: str
    title: str
    outcome: Outcome
    rule: str
    finding: str
    numbers: Numbers

    def to_json(self) -> dict[str, Any]:
        """Return plain values, floats rounded to what does not depend on the order of additions."""
        return {**asdict(self), "numbers": {name: round_value(value) for name, value in self.numbers.items()}}


@dataclass(frozen=True)
class Fact:
    """A rule without a threshold: integrity, or a version's health.

    Attributes:
        group: Part of the policy.
        name: Short.
        title: For people.
        rule: What is asked.
        finding: What was found, where nothing is wrong.
        faults: What is wrong, a line each.
        numbers: Measured.
    """

    group: Group
    name: str
    title: str
    rule: str
    finding: str
    faults: tuple[str, ...]
    numbers: Numbers

    def to_check(self) -> Check:
        """Return the check: refused with any fault."""
        outcome: Outcome = "refuse" if self.faults else "pass"
        finding = "; ".join(self.faults) or self.finding
        return Check(self.group, self.name, self.title, outcome, self.rule, finding, self.numbers)


@dataclass(frozen=True)
class Decision:
    """A verdict and all that led to it.

    Attributes:
        verdict: Refuse if any check says so; else abstain if any does; else promote.
        sentence: The verdict in words.
        num_patients: That candidate and champion were scored on.
        checks: In the order of the policy.
    """

    verdict: Verdict
    sentence: str
    num_patients: int
    checks: tuple[Check, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "verdict": self.verdict,
            "sentence": self.sentence,
            "num_patients": self.num_patients,
            "checks": [check.to_json() for check in self.checks],
        }


def conclude(checks: Sequence[Check], num_patients: int) -> Decision:
    """Return the decision that checks add up to."""
    outcomes = {check.outcome for check in checks}
    verdict: Verdict = "refuse" if "refuse" in outcomes else "abstain" if "abstain" in outcomes else "promote"
    names = {str(one): ", ".join(check.title for check in checks if check.outcome == one) for one in outcomes}
    return Decision(verdict, MEANINGS[verdict].format_map(names), num_patients, tuple(checks))


def describe(estimate: Estimate, *, is_difference: bool = False) -> str:
    """Return a value with its interval as text."""
    form = "+.3f" if is_difference else ".3f"
    if estimate.value is None:
        return "undefined"
    if estimate.low is None or estimate.high is None:
        return format(estimate.value, form)
    return f"{estimate.value:{form}} [{estimate.low:{form}}, {estimate.high:{form}}]"
