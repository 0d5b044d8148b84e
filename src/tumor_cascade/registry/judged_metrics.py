"""The metrics that a promotion policy can name, from the raw scores of one cascade on some patients."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tumor_cascade.evaluation.statistics import Floats, Statistic, auroc_of, mean_of, ratio_of
from tumor_cascade.registry.policy import MetricName


@dataclass(frozen=True)
class Scores:
    """What `evaluation.cohort` says of one cascade; two of them are compared row by row.

    Attributes:
        slices: A row per slice, sorted by patient and slice: `patient_id`, `has_tumor`, `probability`, ...
        patients: A row per patient in sorted order, indexed by `patient_id`.
    """

    slices: pd.DataFrame
    patients: pd.DataFrame

    def select(self, patients: "pd.Index[Any]") -> "Scores":
        """Return the scores of some patients."""
        return Scores(self.slices[self.slices["patient_id"].isin(patients)], self.patients.loc[patients])

    def column(self, name: str) -> Floats:
        """Return a column of the patients `(P,)`."""
        values: Floats = self.patients[name].to_numpy(float)
        return values


@dataclass(frozen=True)
class Metric:
    """One figure of a cascade.

    Attributes:
        title: For people.
        definition: In half a sentence.
        describe: Scores -> statistic over weights of patients.
        is_higher_better: False for counts of errors.
        count_found: Of a share of things found: how many in each patient `(P,)`. Such a share is often 1, where
            resampling shows no spread, so its bounds and tests are also taken from the binomial distribution.
        count_all: Of such a share: how many there are to be found in each patient `(P,)`.
    """

    title: str
    definition: str
    describe: Callable[[Scores], Statistic]
    is_higher_better: bool = True
    count_found: Callable[[Scores], Floats] | None = None
    count_all: Callable[[Scores], Floats] | None = None

    def count_patients(self, scores: Scores) -> int:
        """Return how many patients it is taken over: of a share of things found, those who have any."""
        return len(scores.patients) if self.count_all is None else int((self.count_all(scores) > 0).sum())


def find_tumor_slices(scores: Scores) -> Floats:
    """Return how many tumor slices of each patient are called positive."""
    return scores.column("num_tumor_slices") - scores.column("num_missed_slices")


def find_patients(scores: Scores) -> Floats:
    """Return 1 for each patient with a tumor slice that is called positive, else 0."""
    return (find_tumor_slices(scores) > 0).astype(float)


def have_tumor(scores: Scores) -> Floats:
    """Return 1 for each patient with a tumor slice, else 0."""
    return (scores.column("num_tumor_slices") > 0).astype(float)


def find_lesions(scores: Scores) -> Floats:
    """Return how many tumors of each patient are found."""
    return scores.column("cascade_lesions_found")


def describe_auroc(scores: Scores) -> Statistic:
    """Return the statistic of the slice AUROC."""
    owners = np.unique(scores.slices["patient_id"].to_numpy(str), return_inverse=True)[1]
    return auroc_of(scores.slices["probability"], scores.slices["has_tumor"].to_numpy(bool), owners)


def describe_specificity(scores: Scores) -> Statistic:
    """Return the statistic of the slice specificity."""
    num_free = scores.column("num_slices") - scores.column("num_tumor_slices")
    return ratio_of(num_free - scores.column("num_false_alarms"), num_free)


METRICS: dict[MetricName, Metric] = {
    "volume_dice": Metric(
        "Volume Dice of the cascade",
        "mean over patients with tumor",
        lambda scores: mean_of(scores.column("cascade_volume_dice")),
    ),
    "slice_auroc": Metric(
        "Slice AUROC", "does a tumor slice get a higher probability than a tumor-free one", describe_auroc
    ),
    "slice_sensitivity": Metric(
        "Slice sensitivity",
        "share of all tumor slices that are called positive",
        lambda scores: ratio_of(find_tumor_slices(scores), scores.column("num_tumor_slices")),
    ),
    "slice_specificity": Metric(
        "Slice specificity", "share of all tumor-free slices that are called negative", describe_specificity
    ),
    "patient_recall": Metric(
        "Patient recall",
        "share of patients with tumor in whom a tumor slice is called positive",
        lambda scores: ratio_of(find_patients(scores), have_tumor(scores)),
        count_found=find_patients,
        count_all=have_tumor,
    ),
    "lesion_recall": Metric(
        "Lesion recall",
        "share of tumors, as 3D components, that are found",
        lambda scores: ratio_of(find_lesions(scores), scores.column("num_lesions")),
        count_found=find_lesions,
        count_all=lambda scores: scores.column("num_lesions"),
    ),
    "false_lesions_per_volume": Metric(
        "False lesions per volume",
        "marked 3D components without tumor, mean over patients",
        lambda scores: mean_of(scores.column("cascade_false_lesions")),
        is_higher_better=False,
    ),
}
