"""The promotion policy: a file in git that says what a candidate has to show before it becomes champion; no defaults.

Error and power are those of one decision: Holm's method shares the error among all comparisons with the champion.
"""

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tumor_cascade.content import PACKAGE_DIR
from tumor_cascade.errors import ParamsError
from tumor_cascade.params import Section, check_values
from tumor_cascade.registry.entries import PolicyRef
from tumor_cascade.storage import hash_file

# In a checkout at its root; a wheel carries a copy inside the package.
POLICIES_DIRS = (PACKAGE_DIR.parents[1] / "policies", PACKAGE_DIR / "policies")
POLICIES = {"phantom": "phantom", "kaggle": "lgg"}
MetricName = Literal[
    "volume_dice",
    "slice_auroc",
    "slice_sensitivity",
    "slice_specificity",
    "patient_recall",
    "lesion_recall",
    "false_lesions_per_volume",
]
Margin = Annotated[float, Field(gt=0, description="in the metric's own unit")]
Share = Annotated[float, Field(gt=0, lt=1)]
Undecided = Literal["abstain", "refuse"]


class StatisticsPolicy(Section):
    """How sure the gate has to be."""

    confidence: Annotated[
        Share, Field(description="of the two-sided intervals that are shown and that floors are held to")
    ]
    error: Annotated[Share, Field(description="one-sided: chance of any wrong yes among the comparisons of a decision")]
    power: Annotated[Share, Field(description="with which a minimal detectable effect is detected")]
    num_bootstrap: Annotated[int, Field(ge=1000, le=1_000_000, description="resamples of patients")]
    seed: Annotated[int, Field(ge=0, lt=2**31, description="of the resamples")]
    min_patients: Annotated[int, Field(ge=2, description="with fewer that have a tumor, the gate abstains")]


class FloorsPolicy(Section):
    """What the lower bounds of the candidate's own figures must reach, champion or not."""

    slice_auroc: Annotated[float, Field(ge=0, le=1, description="of slice detection")]
    patient_recall: Annotated[float, Field(ge=0, le=1, description="patients whose tumor is noticed")]
    volume_dice: Annotated[float, Field(ge=0, le=1, description="of the cascade, mean over patients")]
    lesion_recall: Annotated[float, Field(ge=0, le=1, description="tumors that are found")]


class MarginPolicy(Section):
    """A metric and the difference that matters in it."""

    metric: MetricName = Field(description="compared on the same patients")
    margin: Margin


class ComparisonPolicy(Section):
    """Candidate against champion on the same patients."""

    primary: MarginPolicy = Field(description="must be better; margin: a gain worth having, which the data could show")
    safety: list[MarginPolicy] = Field(min_length=1, description="must not be worse by the margin or more")
    if_equal: Undecided = Field(description="verdict where the data could show a gain worth having and show none")

    @model_validator(mode="after")
    def check_metrics(self) -> "ComparisonPolicy":
        """Refuse a metric that is named twice."""
        names = [rule.metric for rule in (self.primary, *self.safety)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"comparison names {', '.join(twice)} twice; name each metric once")
        return self


class StrataPolicy(Section):
    """Groups of patients with tumor in whom a candidate must not be worse: a mean hides them."""

    metric: MetricName
    margin: Margin
    min_patients: Annotated[int, Field(ge=2, description="smaller strata are shown and not judged")]
    tumor_volume_edges_px: list[int] = Field(min_length=1, description="between strata of tumor size, over all slices")
    if_undecidable: Literal["abstain", "report"] = Field(description="what a stratum too small for its margin does")

    @field_validator("tumor_volume_edges_px")
    @classmethod
    def check_edges(cls, value: list[int]) -> list[int]:
        """Refuse edges out of order."""
        if value[0] < 1 or any(low >= high for low, high in pairwise(value)):
            raise PydanticCustomError("edges", "must be rising numbers from 1")
        return value


class HealthPolicy(Section):
    """What the version must do when it is served from the registry's own copy."""

    max_load_s: Annotated[float, Field(gt=0, description="from files to the first answer, without imports")]
    max_seconds_per_slice: Annotated[float, Field(gt=0, description="on the golden volume, after a first run")]
    max_memory_mb: Annotated[float, Field(gt=0, description="peak of the serving process")]
    max_probability_difference: Annotated[float, Field(ge=0, le=1, description="to the golden answers")]
    max_mask_difference_px: Annotated[int, Field(ge=0, description="to the golden masks, all slices")]


class Policy(Section):
    """All rules. Integrity has no values: clean commit, complete chain, equal hashes, no pickle, split by patient."""

    name: str = Field(pattern=r"^[a-z0-9-]+$", description="as in the ledger and on pages")
    statistics: StatisticsPolicy
    floors: FloorsPolicy
    comparison: ComparisonPolicy
    strata: StrataPolicy
    health: HealthPolicy


def choose_policy(source: str | None) -> Path:
    """Return the policy file for a kind of data, as `ingest_data.source` names it.

    Raises:
        ParamsError: There is none.
    """
    if source not in POLICIES:
        raise ParamsError(f"no policy is made for data of the source {source}; name one with --policy.")
    places = [folder / f"{POLICIES[source]}.yaml" for folder in POLICIES_DIRS]
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        raise ParamsError(f"no policy file: none of {', '.join(map(str, places))}; reinstall, or name one: --policy.")
    return found


def read_policy(path: Path) -> tuple[Policy, PolicyRef]:
    """Return a policy, and how the ledger names it.

    Raises:
        ParamsError: The file is missing, no YAML mapping, or breaks a rule; with every violation.
    """
    try:
        values = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ParamsError(
            f"policy {path}: cannot be read ({error}); name one of the repository's policies/."
        ) from error
    except YAMLError as error:
        raise ParamsError(f"policy {path}: is no valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ParamsError(f"policy {path}: must be a mapping of {', '.join(Policy.model_fields)}.")
    policy = check_values(Policy, values, path.name, ())
    return policy, PolicyRef(name=policy.name, sha256=hash_file(path))
