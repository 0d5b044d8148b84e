from pathlib import Path
from typing import get_args

import pytest

from pipeline import ROOT
from promotions import build_fact, build_scores
from tumor_cascade.errors import ParamsError
from tumor_cascade.registry.decision import decide
from tumor_cascade.registry.judged_metrics import METRICS
from tumor_cascade.registry.policy import POLICIES, MetricName, Policy, choose_policy, read_policy
from tumor_cascade.storage import hash_file

PHANTOM = ROOT / "policies" / "phantom.yaml"


@pytest.mark.parametrize("name", sorted(set(POLICIES.values())))
def test_policies__in_the_repository_are_valid(name: str) -> None:
    path = ROOT / "policies" / f"{name}.yaml"
    policy, ref = read_policy(path)
    assert (policy.name, ref.name, ref.sha256) == (name, name, hash_file(path))


def test_policies__each_file_is_for_some_data() -> None:
    assert {path.stem for path in (ROOT / "policies").iterdir()} == set(POLICIES.values())


@pytest.mark.parametrize(("name", "num_patients", "if_equal"), [("phantom", 12, "refuse"), ("lgg", 20, "abstain")])
def test_policies__can_be_decided_by_as_many_patients_as_their_test_sets_have(
    name: str, num_patients: int, if_equal: str
) -> None:
    # Paired gains of +0.13 and +0.03 in turn: mean 0.08, standard error 0.05 / sqrt(12) = 0.014. Losses alike. Equal:
    # +0.02 and -0.02, detectable from about (1.65 + 0.84) x 0.02 / sqrt(12) = 0.014 on, below the margin of a gain.
    policy, _ = read_policy(ROOT / "policies" / f"{name}.yaml")
    half = num_patients // 2
    champion = build_scores([0.80] * num_patients)
    for verdict, dice in (("promote", [0.93, 0.83]), ("refuse", [0.77, 0.67]), (if_equal, [0.82, 0.78])):
        decision = decide(policy, [build_fact()], build_scores(dice * half), champion)
        assert decision.verdict == verdict, decision.sentence
    assert decide(policy, [build_fact()], champion, None).verdict == "promote"


def test_metrics__are_those_that_a_policy_can_name() -> None:
    assert list(METRICS) == list(get_args(MetricName))


def test_policy__no_field_has_a_default() -> None:
    def list_models(model: type) -> list[type]:
        inner = [field.annotation for field in model.model_fields.values()]  # type: ignore[attr-defined]
        return [model, *(one for kind in inner if hasattr(kind, "model_fields") for one in list_models(kind))]

    fields = [field for model in list_models(Policy) for field in model.model_fields.values()]  # type: ignore[attr-defined]
    assert all(field.is_required() for field in fields)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("error: 0.05", "error: 2", r"statistics.error is 2; must be less than 1. Correct it"),
        ("if_equal: refuse", "if_equal: promote", r"comparison.if_equal is 'promote'; must be 'abstain' or 'refuse'"),
        ("metric: slice_auroc", "metric: volume_dice", r"comparison names volume_dice twice; name each metric once"),
        ("metric: slice_auroc", "metric: accuracy", r"comparison.safety.0.metric is 'accuracy'; must be 'volume_dice'"),
        ("[1500, 4000]", "[4000, 1500]", r"strata.tumor_volume_edges_px is \[4000, 1500\]; must be rising numbers"),
        ("name: phantom", "nam: phantom", r"name is missing; add it.\nphantom.yaml: nam is no parameter"),
        ("floors:", "floors: [", "is no valid YAML"),
    ],
)
def test_read_policy__a_broken_rule_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = PHANTOM.read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "phantom.yaml").write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ParamsError, match=message):
        read_policy(tmp_path / "phantom.yaml")


def test_read_policy__no_file_or_no_mapping(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"cannot be read .*; name one of the repository's policies/"):
        read_policy(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(ParamsError, match="must be a mapping of name, statistics, floors"):
        read_policy(tmp_path / "list.yaml")


def test_choose_policy__by_kind_of_data() -> None:
    assert choose_policy("kaggle") == ROOT / "policies" / "lgg.yaml"
    with pytest.raises(ParamsError, match="no policy is made for data of the source images; name one with --policy"):
        choose_policy("images")
