"""A difference held to its margin: shown, contradicted, or beyond what these patients can show."""

from dataclasses import dataclass

from tumor_cascade.registry.comparison import Difference
from tumor_cascade.registry.policy import MarginPolicy, StatisticsPolicy
from tumor_cascade.registry.verdicts import Check, Group, Outcome, describe


@dataclass(frozen=True)
class MarginTest:
    """A difference with its place among the tests.

    Attributes:
        difference: Of candidate and champion.
        rule: Metric and margin.
        p: Unadjusted.
        level: Holm's, at its place.
        p_adjusted: Holm's; shown where it is at most the error.
        statistics: Error and power.
    """

    difference: Difference
    rule: MarginPolicy
    p: float
    level: float
    p_adjusted: float
    statistics: StatisticsPolicy

    @property
    def detectable(self) -> float:
        """The minimal detectable effect at its level."""
        return self.difference.detect(self.level, self.statistics.power)

    def judge_noninferiority(self) -> tuple[Outcome, str]:
        """Return what becomes of "not worse by the margin or more", and why."""
        margin = self.rule.margin
        if self.p_adjusted <= self.statistics.error:
            return "pass", f"a loss of {margin:g} or more is ruled out"
        return self._judge_unshown(f"a loss of {margin:g} or more cannot be ruled out", "refuse")

    def judge_superiority(self, if_equal: Outcome) -> tuple[Outcome, str]:
        """Return what becomes of "better", and why."""
        if self.p_adjusted <= self.statistics.error:
            return "pass", "better"
        return self._judge_unshown("no gain is shown", if_equal)

    def _judge_unshown(self, what: str, if_powerful: Outcome) -> tuple[Outcome, str]:
        gain, margin = self.difference.gain, self.rule.margin
        if gain.value is None:
            return "abstain", "undefined on these patients"
        if self.difference.test_loss() <= self.level:
            return "refuse", "worse"
        if self.detectable > margin:
            return "abstain", f"{what}; these patients could show an effect from {self.detectable:.3f} on only"
        if self.p <= self.level:
            return "abstain", f"{what} together with the other comparisons, only on its own"
        return if_powerful, f"{what}, though these patients could show an effect of {self.detectable:.3f}"

    def to_check(self, group: Group, name: str, title: str, outcome: Outcome, rule: str, reason: str) -> Check:
        """Return the check with all numbers."""
        difference = self.difference
        return Check(
            group=group,
            name=name,
            title=title,
            outcome=outcome,
            rule=rule,
            finding=f"{reason}: gain {describe(difference.gain, is_difference=True)}",
            numbers={
                "candidate": difference.candidate,
                "champion": difference.champion,
                "gain": difference.gain.value,
                "gain_low": difference.gain.low,
                "gain_high": difference.gain.high,
                "margin": self.rule.margin,
                "p": self.p,
                "p_adjusted": self.p_adjusted,
                "level": self.level,
                "detectable_effect": self.detectable if difference.gain.value is not None else None,
                "num_patients": difference.num_patients,
                "num_patients_lost": difference.num_lost,
            },
        )
