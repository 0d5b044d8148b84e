"""The card of a version on scores that are known on paper."""

import re
from pathlib import Path
from typing import Any

import pytest

from candidates import write_candidate
from manifests import make_manifest
from promotions import build_policy, build_scores
from tumor_cascade.registry.judged_metrics import Scores
from tumor_cascade.registry.model_card import NOT_STATED, Card, describe_start, render_card
from tumor_cascade.registry.versions import MAX_DESCRIPTION

DECISION: dict[str, Any] = {
    "candidate": {"version": 7, "content_id": "a" * 64},
    "champion": {"version": 4, "content_id": "b" * 64},
    "sentence": "Promoted: every check is passed.",
    "num_patients": 20,
    "policy": {"name": "paper"},
    "patients": {"origin": "the locked test set of the candidate's split"},
}
HEADINGS = ["Intended use", "Data", "Protocol", "Figures", "Limits", "Weights", "Lineage"]


@pytest.fixture(scope="module")
def cascade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_candidate(tmp_path_factory.mktemp("card") / "cascade", "a", training_patients=["x", "y"])


def render(cascade: Path, scores: Scores | None, source: str | None = "kaggle", commit: str | None = "c" * 40) -> str:
    return render_card(Card(DECISION, build_policy(), cascade, scores, source, make_manifest(num_patients=3), commit))


def test_render_card__says_what_is_known(cascade: Path) -> None:
    # 0.8 in every patient and resample; 20 of 20 found: Clopper and Pearson's bound is 0.025^(1/20) = 0.832.
    card = render(cascade, build_scores([0.8] * 20, institutions=("A", "B")))
    assert re.findall(r"^## (.+)", card, flags=re.MULTILINE) == HEADINGS
    assert "not for diagnosis" in card
    assert "| Volume Dice of the cascade | 0.800 [0.800, 0.800] |" in card
    assert "| Patient recall | 1.000 [0.832, 1.000] |" in card
    assert "| Institution A | 10 | 0.800 [0.800, 0.800] |" in card
    assert "against version 4" in card
    assert "CC BY-NC-SA 4.0" in card
    assert "2 patients taught or tuned its networks; scored on 20 others, from the locked test set" in card
    assert "Every patient scored has a tumor: specificity by patient is unknown." in card
    assert "commit `cccccccccccc`" in card
    assert len(card) <= MAX_DESCRIPTION


def test_render_card__names_its_blanks(cascade: Path) -> None:
    card = render(cascade, None, source=None, commit=None)
    for blank in (
        "Trained on",
        "Licence of the data",
        "Reference standard",
        "People",
        "Licence of the trained weights",
    ):
        assert f"- {blank}: {NOT_STATED}" in card
    assert f"commit `{NOT_STATED}`" in card
    assert "Not scored: " in card
    assert "CC BY" not in card


@pytest.mark.parametrize(
    ("initialization", "kind", "start"),
    [
        ("none", "resnet50", "random start: no weights of others"),
        ("imagenet", "resnet50", "torchvision's ImageNet-1k weights: BSD-3-Clause; their images: research use"),
        ("imagenet", "vgg", "ImageNet weights, licence not stated"),
        ("weights/own.safetensors", "resnet50", "weights from a file or another network; licence not stated"),
        (None, "resnet50", "start not stated"),
    ],
)
def test_describe_start__tells_the_licence(initialization: str | None, kind: str, start: str) -> None:
    assert describe_start(initialization, kind) == start
