"""Verdicts on constructed scores: each right answer is worked out beside its test."""

import re

import numpy as np
import pytest

from promotions import build_fact, build_policy, build_scores
from tumor_cascade.errors import DataError
from tumor_cascade.registry.decision import decide, find_strata
from tumor_cascade.registry.verdicts import Check, Decision

NUM_PATIENTS = 40
CHAMPION = build_scores([0.80] * NUM_PATIENTS)


def find_check(decision: Decision, group: str, name: str) -> Check:
    return next(check for check in decision.checks if (check.group, check.name) == (group, name))


def list_outcomes(decision: Decision, outcome: str) -> list[str]:
    return [f"{check.group}.{check.name}" for check in decision.checks if check.outcome == outcome]


def test_decide__better_by_five_points_in_every_patient_is_promoted() -> None:
    # The gain is 0.05 in each patient, so in every resample: p = 1 / 4001 for each of the four tests but the patients'
    # share: of 40 none is lost, p = 0.85^40 = 0.0015.
    decision = decide(build_policy(), [build_fact()], build_scores([0.85] * NUM_PATIENTS), CHAMPION)
    assert decision.verdict == "promote"
    assert decision.sentence == "Promoted: every check is passed."
    primary = find_check(decision, "primary", "volume_dice").numbers
    assert (primary["candidate"], primary["champion"]) == (pytest.approx(0.85), pytest.approx(0.80))
    assert primary["p"] == pytest.approx(1 / 4001)
    assert find_check(decision, "safety", "patient_recall").numbers["p"] == pytest.approx(0.85**40)


def test_decide__worse_is_refused_and_says_what() -> None:
    decision = decide(build_policy(), [build_fact()], build_scores([0.75] * NUM_PATIENTS), CHAMPION)
    assert decision.verdict == "refuse"
    assert decision.sentence == "Refused: it fails Volume Dice of the cascade."
    assert find_check(decision, "primary", "volume_dice").finding.startswith("worse: gain -0.050 [-0.050, -0.050]")


@pytest.mark.parametrize("if_equal", ["abstain", "refuse"])
def test_decide__an_equal_one_gets_what_the_policy_says(if_equal: str) -> None:
    policy = build_policy(comparison={**build_policy().comparison.model_dump(), "if_equal": if_equal})
    decision = decide(policy, [build_fact()], CHAMPION, CHAMPION)
    assert decision.verdict == if_equal
    assert list_outcomes(decision, if_equal) == ["primary.volume_dice"]
    assert find_check(decision, "primary", "volume_dice").numbers["p"] == 1.0


def test_decide__better_in_dice_but_missing_more_slices_is_refused() -> None:
    # Every fourth patient loses 2 of 4 tumor slices: 20 of 160 or 0.125 of the sensitivity, over the margin of 0.05.
    candidate = build_scores([0.85] * NUM_PATIENTS, missed=[2, 0, 0, 0] * 10)
    decision = decide(build_policy(), [build_fact()], candidate, CHAMPION)
    assert decision.verdict == "refuse"
    assert find_check(decision, "primary", "volume_dice").outcome == "pass"
    assert list_outcomes(decision, "refuse") == ["safety.slice_sensitivity"]
    assert find_check(decision, "safety", "slice_sensitivity").numbers["gain"] == pytest.approx(-0.125)


def test_decide__losing_whole_patients_is_refused_however_good_the_dice() -> None:
    # 8 of 40 patients are missed: the share falls by 0.2, P(at most 8 lost of 40 at 0.15) = 0.86.
    candidate = build_scores([0.95] * NUM_PATIENTS, missed=[4, 0, 0, 0, 0] * 8)
    decision = decide(build_policy(), [build_fact()], candidate, CHAMPION)
    numbers = find_check(decision, "safety", "patient_recall").numbers
    assert decision.verdict == "refuse"
    assert (numbers["num_patients_lost"], numbers["gain"]) == (8, pytest.approx(-0.2))
    assert numbers["p"] == pytest.approx(0.8646, abs=1e-4)


def test_decide__a_detectable_effect_above_the_margin_abstains() -> None:
    # Gains of +0.1 and -0.1 in turn: mean 0, standard deviation 0.1, standard error 0.1 / sqrt(40) = 0.0158. Its p is
    # the largest of four, so Holm gives it the whole error: (1.645 + 0.842) x 0.0158 = 0.0393, above 0.03.
    candidate = build_scores([0.90, 0.70] * 20)
    decision = decide(build_policy(), [build_fact()], candidate, CHAMPION)
    check = find_check(decision, "primary", "volume_dice")
    assert decision.verdict == "abstain"
    assert check.numbers["detectable_effect"] == pytest.approx(2.4865 * 0.1 / 40**0.5, rel=0.03)
    assert re.search(r"no gain is shown; these patients could show an effect from 0\.0\d\d on only", check.finding)
    assert decision.sentence == "Not decided: the evidence is too weak for Volume Dice of the cascade."


def test_decide__the_same_spread_in_more_patients_decides() -> None:
    # 0.1 / sqrt(160) = 0.0079, times 2.49: 0.0197, below 0.03.
    candidate, champion = build_scores([0.90, 0.70] * 80), build_scores([0.80] * 160)
    decision = decide(build_policy(comparison__if_equal="refuse"), [build_fact()], candidate, champion)
    assert decision.verdict == "refuse"
    assert "though these patients could show an effect of 0.0" in find_check(decision, "primary", "volume_dice").finding


def test_decide__too_few_patients_abstain_however_large_the_gain() -> None:
    candidate, champion = build_scores([0.95] * 19), build_scores([0.80] * 19)
    decision = decide(build_policy(), [build_fact()], candidate, champion)
    assert decision.verdict == "abstain"
    assert list_outcomes(decision, "abstain")[0] == "patients.num_patients"
    assert find_check(decision, "primary", "volume_dice").outcome == "pass"


def test_decide__without_any_patient_it_abstains() -> None:
    empty = build_scores([0.8, 0.8]).select(CHAMPION.patients.index[:0])
    assert decide(build_policy(), [build_fact()], empty, empty).verdict == "abstain"


def test_decide__a_loss_in_one_institution_is_refused_under_a_better_mean() -> None:
    # Institution B, 8 of 40 patients, loses 0.2; the others gain 0.15: mean 0.8 x 0.15 - 0.2 x 0.2 = +0.08.
    institutions = ("B", "A", "A", "A", "A")
    champion = build_scores([0.80] * NUM_PATIENTS, institutions=institutions)
    candidate = build_scores([0.60, 0.95, 0.95, 0.95, 0.95] * 8, institutions=institutions)
    decision = decide(build_policy(), [build_fact()], candidate, champion)
    assert find_check(decision, "primary", "volume_dice").numbers["gain"] == pytest.approx(0.08)
    assert list_outcomes(decision, "refuse") == ["strata.Institution B"]
    assert decision.verdict == "refuse"


def test_decide__a_stratum_too_small_to_judge_is_shown() -> None:
    institutions = ("B", *["A"] * 9)
    champion = build_scores([0.80] * NUM_PATIENTS, institutions=institutions)
    candidate = build_scores([0.60, *[0.95] * 9] * 4, institutions=institutions)
    decision = decide(build_policy(), [build_fact()], candidate, champion)
    check = find_check(decision, "strata", "Institution B")
    assert (check.outcome, check.finding) == ("note", "4 patients: too few to be judged, at least 5")
    assert decision.verdict == "promote"


@pytest.mark.parametrize(("if_undecidable", "verdict"), [("report", "promote"), ("abstain", "abstain")])
def test_decide__a_stratum_beyond_its_margin_does_as_the_policy_says(if_undecidable: str, verdict: str) -> None:
    # B, 8 patients: gains of +0.4 and -0.3 in turn, standard error 0.35 / sqrt(8) = 0.124, far beyond 0.1.
    institutions = ("B", "A", "A", "A", "A")
    champion = build_scores([0.60] * NUM_PATIENTS, institutions=institutions)
    candidate = build_scores([1.0, 0.9, 0.9, 0.9, 0.9, 0.3, 0.9, 0.9, 0.9, 0.9] * 4, institutions=institutions)
    policy = build_policy(strata__if_undecidable=if_undecidable)
    assert decide(policy, [build_fact()], candidate, champion).verdict == verdict


def test_decide__patients_without_tumor_do_not_make_up_for_those_with() -> None:
    decision = decide(build_policy(), [build_fact()], build_scores([0.95] * 19, num_tumor_free=30), None)
    check = find_check(decision, "patients", "num_patients")
    assert (check.outcome, check.finding, decision.num_patients) == ("abstain", "19 patients with tumor", 49)


def test_find_strata__patients_without_tumor_are_in_none() -> None:
    patients = build_scores([0.8] * 4, num_tumor_free=6).patients
    groups = find_strata(patients, [2000])
    assert {name: list(group) for name, group in groups.items()} == {
        name: ["P000", "P001", "P002", "P003"]
        for name in ("Tumor \N{GREATER-THAN OR EQUAL TO} 2,000 px", "Institution A")
    }


def test_decide__the_first_promotion_rests_on_facts_and_floors() -> None:
    decision = decide(build_policy(), [build_fact()], CHAMPION, None)
    assert decision.verdict == "promote"
    assert {check.group for check in decision.checks} == {"integrity", "patients", "floors"}


def test_decide__all_of_40_found_is_a_recall_of_at_least_0_912() -> None:
    # Clopper and Pearson, 40 of 40: 0.025^(1/40) = 0.9119; resampling alone would say 1.
    decision = decide(build_policy(), [build_fact()], CHAMPION, None)
    assert find_check(decision, "floors", "patient_recall").numbers["low"] == pytest.approx(0.025 ** (1 / 40))


@pytest.mark.parametrize(
    ("dice", "verdict"),
    [
        ([0.60] * NUM_PATIENTS, "refuse"),  # below the floor of 0.7
        ([1.0, 0.45] * 20, "abstain"),  # mean 0.725, standard error 0.275 / sqrt(40) = 0.043: lower bound 0.64
    ],
)
def test_decide__a_floor_refuses_what_is_below_and_abstains_on_what_may_be(dice: list[float], verdict: str) -> None:
    decision = decide(build_policy(), [build_fact()], build_scores(dice), None)
    assert decision.verdict == verdict
    assert list_outcomes(decision, verdict) == ["floors.volume_dice"]


def test_decide__broken_integrity_is_refused_without_scores() -> None:
    decision = decide(build_policy(), [build_fact("weights.pkl is a pickle")], None, None)
    assert (decision.verdict, decision.sentence) == ("refuse", "Refused: it fails No pickle.")
    assert decision.checks[0].finding == "weights.pkl is a pickle"


def test_decide__broken_integrity_outweighs_a_better_score() -> None:
    decision = decide(build_policy(), [build_fact("weights.pkl is a pickle")], build_scores([0.85] * 40), CHAMPION)
    assert decision.verdict == "refuse"


def test_decide__scores_of_other_patients_are_an_error() -> None:
    with pytest.raises(DataError, match="not scored on the same slices"):
        decide(build_policy(), [build_fact()], build_scores([0.85] * 39), CHAMPION)


def test_decide__is_the_same_every_time_and_plain_json() -> None:
    rng = np.random.default_rng(0)
    candidate = build_scores(list(rng.uniform(0.7, 0.9, NUM_PATIENTS)))
    first, second = (decide(build_policy(), [build_fact()], candidate, CHAMPION).to_json() for _ in range(2))
    assert first == second
