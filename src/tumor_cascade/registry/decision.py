"""The promotion gate: a pure function from a policy, facts and scores to a verdict with all its numbers."""

from collections.abc import Iterator, Sequence

import pandas as pd

from tumor_cascade.errors import DataError
from tumor_cascade.evaluation.statistics import Bootstrap, Estimate
from tumor_cascade.evaluation.strata import assign_strata, title_strata
from tumor_cascade.registry.comparison import compare, estimate_metric, share_error
from tumor_cascade.registry.judged_metrics import METRICS, Scores, have_tumor
from tumor_cascade.registry.margins import MarginTest
from tumor_cascade.registry.policy import MarginPolicy, MetricName, Policy, StatisticsPolicy
from tumor_cascade.registry.verdicts import Check, Decision, Fact, Outcome, conclude, describe

MIN_BOOTSTRAP_PATIENTS = 2


def decide(policy: Policy, facts: Sequence[Fact], candidate: Scores | None, champion: Scores | None) -> Decision:
    """Judge a candidate.

    Args:
        policy: The rules.
        facts: Integrity and health.
        candidate: Its scores on patients that neither cascade has learned from; None where there are none, or where a
            fault among the facts made scoring pointless.
        champion: Scores of the same patients; None for the first promotion, which facts and floors decide.

    Raises:
        DataError: The two were not scored on the same slices.
    """
    checks = [fact.to_check() for fact in facts]
    if candidate is None:
        checks += [] if any(fact.faults for fact in facts) else [judge_number(policy.statistics, 0)]
        return conclude(checks, 0)
    num_patients = len(candidate.patients)
    checks.append(judge_number(policy.statistics, int(have_tumor(candidate).sum())))
    if num_patients < MIN_BOOTSTRAP_PATIENTS:
        return conclude(checks, num_patients)
    checks += judge_floors(policy, candidate)
    if champion is not None:
        check_pairs(candidate, champion)
        checks += judge_comparison(policy, candidate, champion)
        checks += judge_strata(policy, candidate, champion)
    return conclude(checks, num_patients)


def check_pairs(candidate: Scores, champion: Scores) -> None:
    """Refuse scores of different slices or patients.

    Raises:
        DataError: They differ.
    """
    keys = ["patient_id", "slice_index", "has_tumor"]
    pairs = (candidate.slices[keys].reset_index(drop=True), champion.slices[keys].reset_index(drop=True))
    if not pairs[0].equals(pairs[1]) or not candidate.patients.index.equals(champion.patients.index):
        raise DataError("candidate and champion were not scored on the same slices; score both again in one job.")


def make_bootstrap(statistics: StatisticsPolicy, num_patients: int) -> Bootstrap:
    """Return the policy's resamples of some patients."""
    return Bootstrap(
        num_patients,
        num_resamples=statistics.num_bootstrap,
        confidence=statistics.confidence,
        seed=statistics.seed,
    )


def judge_number(statistics: StatisticsPolicy, num_patients: int) -> Check:
    """Abstain with too few patients with tumor: resampling them would feign certainty, whoever else there is."""
    return Check(
        group="patients",
        name="num_patients",
        title="Number of patients",
        outcome="pass" if num_patients >= statistics.min_patients else "abstain",
        rule=f"at least {statistics.min_patients} patients with tumor whom neither cascade has learned from",
        finding=f"{num_patients} patients with tumor",
        numbers={"num_patients": num_patients, "min_patients": statistics.min_patients},
    )


def judge_floors(policy: Policy, candidate: Scores) -> Iterator[Check]:
    """Hold the lower bounds of the candidate's own figures to the floors.

    A value below its floor is refused. A value above with its lower bound below is not decided: more patients could
    settle it.
    """
    bootstrap = make_bootstrap(policy.statistics, len(candidate.patients))
    floors: dict[MetricName, float] = {
        "slice_auroc": policy.floors.slice_auroc,
        "patient_recall": policy.floors.patient_recall,
        "volume_dice": policy.floors.volume_dice,
        "lesion_recall": policy.floors.lesion_recall,
    }
    for metric, floor in floors.items():
        estimate = estimate_metric(metric, candidate, bootstrap)
        yield Check(
            group="floors",
            name=metric,
            title=METRICS[metric].title,
            outcome=hold_to_floor(estimate, floor),
            rule=f"lower bound at least {floor:g}",
            finding=describe(estimate),
            numbers={"value": estimate.value, "low": estimate.low, "high": estimate.high, "floor": floor},
        )


def hold_to_floor(estimate: Estimate, floor: float) -> Outcome:
    """Return what becomes of a value with its interval at a floor."""
    if estimate.value is None or estimate.low is None:
        return "abstain"
    if estimate.low >= floor:
        return "pass"
    return "refuse" if estimate.value < floor else "abstain"


def judge_comparison(policy: Policy, candidate: Scores, champion: Scores) -> Iterator[Check]:
    """Ask for a better primary metric and for safety metrics that are not worse; Holm over all of them."""
    rules = [policy.comparison.primary, *policy.comparison.safety]
    bootstrap = make_bootstrap(policy.statistics, len(candidate.patients))
    differences = {rule.metric: compare(rule.metric, candidate, champion, bootstrap) for rule in rules}
    nulls = {rule.metric: 0.0 if rule is rules[0] else -rule.margin for rule in rules}
    p_values = {str(name): difference.test(nulls[name]) for name, difference in differences.items()}
    levels = share_error(p_values, policy.statistics.error)
    for rule in rules:
        test = MarginTest(
            differences[rule.metric], rule, p_values[rule.metric], *levels[rule.metric], policy.statistics
        )
        if rule is rules[0]:
            outcome, reason = test.judge_superiority(policy.comparison.if_equal)
            text = f"better than the champion; a gain of {rule.margin:g} is worth having"
            yield test.to_check("primary", rule.metric, METRICS[rule.metric].title, outcome, text, reason)
        else:
            outcome, reason = test.judge_noninferiority()
            text = f"not worse than the champion by {rule.margin:g} or more"
            yield test.to_check("safety", rule.metric, METRICS[rule.metric].title, outcome, text, reason)


def judge_strata(policy: Policy, candidate: Scores, champion: Scores) -> Iterator[Check]:
    """Ask that no group of patients is worse off; Holm over the groups that are large enough."""
    rules = policy.strata
    groups = find_strata(candidate.patients, rules.tumor_volume_edges_px)
    large = {name: patients for name, patients in groups.items() if len(patients) >= rules.min_patients}
    differences = {
        name: compare(
            rules.metric,
            candidate.select(patients),
            champion.select(patients),
            make_bootstrap(policy.statistics, len(patients)),
        )
        for name, patients in large.items()
    }
    p_values = {name: difference.test(-rules.margin) for name, difference in differences.items()}
    levels = share_error(p_values, policy.statistics.error)
    rule = MarginPolicy(metric=rules.metric, margin=rules.margin)
    text = f"{METRICS[rules.metric].title} not worse than the champion's by {rules.margin:g} or more"
    for name, patients in groups.items():
        if name not in large:
            finding = f"{len(patients)} patients: too few to be judged, at least {rules.min_patients}"
            yield Check("strata", name, name, "note", text, finding, {"num_patients": len(patients)})
            continue
        test = MarginTest(differences[name], rule, p_values[name], *levels[name], policy.statistics)
        outcome, reason = test.judge_noninferiority()
        if outcome == "abstain" and rules.if_undecidable == "report":
            outcome = "note"
        yield test.to_check("strata", name, name, outcome, text, f"{len(patients)} patients: {reason}")


def find_strata(patients: pd.DataFrame, edges_px: list[int]) -> dict[str, "pd.Index[str]"]:
    """Return the patients with tumor of each stratum of tumor size and each institution; empty strata are left out."""
    patients = patients[patients["tumor_px"] > 0]
    sizes = pd.Series(assign_strata(patients["tumor_px"].to_numpy(), edges_px), index=patients.index)
    groups = {f"Tumor {title}": patients.index[sizes == number] for number, title in enumerate(title_strata(edges_px))}
    for institution in sorted(patients["institution"].unique()):
        groups[f"Institution {institution}"] = patients.index[patients["institution"] == institution]
    return {name: members for name, members in groups.items() if len(members)}
