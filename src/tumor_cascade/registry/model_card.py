"""The model card of a version: what it is, how good, for whom, and what nobody has stated."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from tumor_cascade.evaluation.statistics import Estimate
from tumor_cascade.network_folder import CONFIG_NAME
from tumor_cascade.product import CASCADE_NAME, read_artifact_json, read_seen_patients
from tumor_cascade.registry.comparison import estimate_metric
from tumor_cascade.registry.decision import find_strata, make_bootstrap
from tumor_cascade.registry.judged_metrics import METRICS, Scores
from tumor_cascade.registry.policy import Policy
from tumor_cascade.registry.verdicts import describe
from tumor_cascade.storage import CONTENT_NAME

TEMPLATE_NAME = "model_card.md.j2"
NOT_STATED = "not stated"
SHORT = 12


@dataclass(frozen=True)
class Source:
    """A data set as its publisher describes it; what it does not say is `not stated`."""

    name: str
    licence: str
    reference_standard: str
    people: str


SOURCES = {
    "phantom": Source(
        "generated phantom of this project; no patient", "Apache-2.0", "the generator's own masks", "none"
    ),
    "kaggle": Source(
        "LGG MRI segmentation: TCGA lower-grade glioma, The Cancer Imaging Archive; packaging and masks by M. Buda",
        "CC BY-NC-SA 4.0; cite Buda et al. 2019 (10.1016/j.compbiomed.2019.05.002) and Mazurowski et al. 2017",
        "manual masks of the FLAIR abnormality (Buda et al. 2019), one per slice",
        f"patients with lower-grade glioma; age, sex and ethnicity: {NOT_STATED} in the files",
    ),
}
UNKNOWN_SOURCE = Source(*[NOT_STATED] * 4)
RESNET_WEIGHTS = "torchvision's ImageNet-1k weights: BSD-3-Clause; their images: research use"
IMAGENET_WEIGHTS = {
    "resnet18": RESNET_WEIGHTS,
    "resnet50": RESNET_WEIGHTS,
    "efficientnet_lite0": "ImageNet-1k weights of Google's TPU repository: Apache-2.0; their images: research use",
}


@dataclass(frozen=True)
class Card:
    """What a card is made from.

    Attributes:
        decision: The decision's JSON.
        policy: It was made under.
        cascade: The version's packed cascade.
        scores: On the patients of the decision; None where nothing was scored.
        source: Kind of the data it was trained on, as in `ingest_data.source`; None where it is unknown.
        rows: Manifest rows of the data that it was made from.
        commit: Of the code.
    """

    decision: dict[str, Any]
    policy: Policy
    cascade: Path
    scores: Scores | None
    source: str | None
    rows: pd.DataFrame
    commit: str | None


def render_card(card: Card) -> str:
    """Return the card as Markdown."""
    environment = Environment(
        loader=PackageLoader("tumor_cascade", "registry"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    product, content = (read_artifact_json(card.cascade / name) for name in (CASCADE_NAME, CONTENT_NAME))
    training, validation = read_seen_patients(card.cascade)
    return environment.get_template(TEMPLATE_NAME).render(
        decision=card.decision,
        product=product,
        content=content,
        source=SOURCES.get(card.source or "", UNKNOWN_SOURCE),
        num_seen=len(training | validation),
        rows=card.rows,
        figures=list(list_figures(card.scores, card.policy)) if card.scores else [],
        strata=list(list_strata(card.scores, card.policy)) if card.scores else [],
        num_tumor_free=None if card.scores is None else int((card.scores.column("num_tumor_slices") == 0).sum()),
        confidence=card.policy.statistics.confidence,
        networks=list(describe_networks(card.cascade)),
        commit=card.commit or NOT_STATED,
        not_stated=NOT_STATED,
        short=SHORT,
    )


def list_figures(scores: Scores, policy: Policy) -> Iterator[tuple[str, str, str]]:
    """Yield title, value with interval, and definition of each metric that a policy can name."""
    bootstrap = make_bootstrap(policy.statistics, len(scores.patients))
    for name, metric in METRICS.items():
        yield metric.title, describe(estimate_metric(name, scores, bootstrap)), metric.definition


def list_strata(scores: Scores, policy: Policy) -> Iterator[tuple[str, int, str]]:
    """Yield name, number of patients and the policy's metric with its interval of each stratum."""
    rules = policy.strata
    for name, patients in find_strata(scores.patients, rules.tumor_volume_edges_px).items():
        bootstrap = make_bootstrap(policy.statistics, len(patients))
        estimate: Estimate = estimate_metric(rules.metric, scores.select(patients), bootstrap)
        yield name, len(patients), describe(estimate)


def describe_networks(cascade: Path) -> Iterator[tuple[str, str, str, str]]:
    """Yield name, kind, start (with the licence of its weights) and content_id of each network."""
    for path in (path.parent for path in sorted(cascade.glob(f"*/*/{CONFIG_NAME}"))):
        config, content = (read_artifact_json(path / name) for name in (CONFIG_NAME, CONTENT_NAME))
        architecture = config.get("architecture", {})
        kind = str(architecture.get("network") or architecture.get("encoder") or NOT_STATED)
        params = content.get("params", {}).get(f"train_{path.parent.name.removesuffix('s')}", {})
        content_id = str(content.get("content_id", NOT_STATED))
        yield f"{path.parent.name}/{path.name}", kind, describe_start(params.get("initialization"), kind), content_id


def describe_start(initialization: str | None, kind: str) -> str:
    """Return what a network started from, with the licence of that."""
    if initialization is None:
        return f"start {NOT_STATED}"
    if initialization == "none":
        return "random start: no weights of others"
    if initialization == "imagenet":
        return IMAGENET_WEIGHTS.get(kind, f"ImageNet weights, licence {NOT_STATED}")
    return f"weights from a file or another network; licence {NOT_STATED}"
