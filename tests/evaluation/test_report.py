"""The report stands alone, says what it must and escapes what it is given."""

import re
from html.parser import HTMLParser

import pytest

from predictions import PARAMS, draw_squares, evaluate_patients, make_evaluation, make_prediction
from tumor_cascade.evaluation.cohort import Evaluation
from tumor_cascade.evaluation.detection import tabulate_classes
from tumor_cascade.evaluation.metrics import summarize_evaluation
from tumor_cascade.evaluation.report import ReportContext, format_interval, format_number, render_report
from tumor_cascade.evaluation.statistics import Estimate

FIGURES = [
    *("confusion_matrix", "roc", "precision_recall", "calibration"),
    *("dice_per_patient", "dice_by_threshold", "outcomes", "examples"),
]
VOID = {"meta", "link", "img", "br"}


class Checker(HTMLParser):
    """Collects addresses, alternative texts and unbalanced tags."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.num_images_without_text = 0
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "srcset")]
        self.num_images_without_text += tag == "img" and not values.get("alt")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


SOME_SLICES = ' Under this split only some slices of a patient are scored: "volume Dice" is of those, not of a volume.'


def render(evaluation: Evaluation, **changes: object) -> str:
    values: dict[str, object] = {"protocol": "patient_level", "is_leaky": False, "has_patient_ids": True}
    values |= {"scope": "the locked test set", "gate_thresholds": [0.25], "decision_thresholds": [0.5]}
    values |= {"baselines": {}}
    context = ReportContext(content_id="c0ffee", **(values | changes))  # type: ignore[arg-type]
    decisions = evaluation.slices[["has_tumor", "is_positive"]].to_numpy(bool).T
    return render_report(
        context,
        summarize_evaluation(evaluation, PARAMS),
        tabulate_classes(*decisions),
        evaluation.patients,
        dict.fromkeys(FIGURES, b"\x89PNG"),
        PARAMS,
    )


def test_render_report__thresholds_of_several_folds() -> None:
    html = render(make_evaluation(), gate_thresholds=[0.125, 0.25], decision_thresholds=[0.078, 0.09, 0.339])
    assert "<dd>0.125 to 0.250, each fold has its own</dd>" in html
    assert "<dd>0.078 to 0.339, each fold has its own</dd>" in html
    assert "<dd>0.250</dd>" in render(make_evaluation())


def test_render_report__opens_without_a_network() -> None:
    html, checker = render(make_evaluation()), Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    assert checker.num_images_without_text == 0
    assert all(address.startswith(("data:", "#")) for address in checker.addresses)
    assert len([address for address in checker.addresses if address.startswith("data:image/png")]) == len(FIGURES)
    assert not re.search(r"https?://|@import|url\(", html)


def test_render_report__says_what_it_must() -> None:
    html = render(make_evaluation())
    for text in (
        "Research use only",
        "c0ffee",
        "patient_level",
        "3 patients, 9 slices",
        "0.773",
        "Empty truth.",
        "the locked test set",
    ):
        assert text in html
    assert "Leaky" not in html
    assert "No patient ids" not in html


def test_render_report__marks_what_can_never_be_promoted() -> None:
    html = render(make_evaluation(), protocol="slice_level", is_leaky=True, has_patient_ids=False)
    assert "Leaky, for comparison only." in html
    assert "slice_level (leaky)" in html
    assert SOME_SLICES in html
    assert "No patient ids." in html


def test_render_report__only_a_split_of_slices_has_no_volumes() -> None:
    assert SOME_SLICES not in render(make_evaluation())
    assert SOME_SLICES not in render(make_evaluation(), is_leaky=True)
    split = render(make_evaluation(), protocol="slice_level", is_leaky=True)
    whole = render(make_evaluation(), is_leaky=True)
    assert split.replace(SOME_SLICES, "").replace("slice_level", "patient_level") == whole


def test_render_report__nothing_defined_and_no_gate() -> None:
    empty = draw_squares([0, 0])
    html = render(evaluate_patients([empty], [make_prediction([0.1, 0.2], empty)]), gate_thresholds=[0.0])
    assert "nan" not in html.lower().replace("tumor_nan", "")
    assert "none: every slice is segmented" in html
    assert "One patient only" in html


def test_render_report__escapes_names() -> None:
    evaluation = make_evaluation()
    evaluation.patients["institution"] = "<script>alert(1)</script>"
    html = render(evaluation)
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)" in html


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (Estimate(0.84712, 0.8, 0.9), "score", "0.847"),
        (0.0171, "difference", "+0.017"),
        (0.9881, "share", "98.8%"),
        (1234.56, "amount", "1,234.6"),
        (1234, "count", "1,234"),
        (0.99996, "fine", "0.99996"),
        (None, "score", "\N{EN DASH}"),
        (float("nan"), "count", "\N{EN DASH}"),
    ],
)
def test_format_number__each_kind(value: Estimate | float | None, kind: str, text: str) -> None:
    assert format_number(value, kind) == text


def test_format_interval__only_where_there_is_one() -> None:
    assert format_interval(Estimate(0.8, 0.75, 0.85), "score") == "[0.750, 0.850]"
    assert format_interval(Estimate(0.8, None, None), "score") == ""
    assert format_interval(7, "count") == ""
