"""All metrics of an evaluation, `<model>/<metric>`; in files `<model>/<split>_<metric>`."""

from dataclasses import asdict

import pandas as pd

from tumor_cascade.evaluation.cohort import Evaluation
from tumor_cascade.evaluation.detection import summarize_detection
from tumor_cascade.evaluation.gate import summarize_gate
from tumor_cascade.evaluation.scores import MODELS, ORACLE
from tumor_cascade.evaluation.segmentation import describe_volumes, summarize_segmentation
from tumor_cascade.evaluation.statistics import Bootstrap, Estimate, Summary, auroc_of, share_of
from tumor_cascade.params import EvaluateCascadeParams

# What metrics.json holds, short enough to be compared by eye; the report's estimates.json has every metric.
WITH_BOUNDS = {
    "cascade": (
        "volume_dice",
        "slice_dice",
        "auroc",
        "accuracy",
        "sensitivity",
        "specificity",
        "gate_volume_dice_gain",
    ),
    "segmenter": ("volume_dice", "auroc"),
    "classifier": ("auroc",),
    "oracle": ("volume_dice",),
}
PLAIN = {
    "cascade": (
        "num_patients",
        "num_slices",
        "num_tumor_slices",
        "average_precision",
        "pooled_dice",
        "hd95_px",
        "lesion_sensitivity",
        "false_lesions_per_volume",
        "gate_skipped_slice_share",
        "gate_kept_tumor_slice_share",
    ),
    "segmenter": ("slice_dice", "pooled_dice"),
}
NUM_DIGITS = 6  # more would be noise of the order in which floats are added


def summarize_evaluation(evaluation: Evaluation, params: EvaluateCascadeParams) -> Summary:
    """Return every metric of a cohort; intervals of all come from the same resamples of patients."""
    patients, slices = evaluation.patients, evaluation.slices
    bootstrap = Bootstrap(
        len(patients), num_resamples=params.num_bootstrap, confidence=params.confidence, seed=params.seed
    )
    is_tumor_free = (patients["num_tumor_slices"] == 0).to_numpy()
    is_called = slices.groupby("patient_id")["is_positive"].any().reindex(patients.index).to_numpy(bool)
    summary: Summary = {
        "num_patients": len(patients),
        "num_tumor_free_patients": int(is_tumor_free.sum()),
        "patient_sensitivity": bootstrap.estimate(share_of(is_called, ~is_tumor_free)),
        "patient_specificity": bootstrap.estimate(share_of(~is_called, is_tumor_free)),
        "num_slices": len(slices),
        "num_tumor_slices": int(slices["has_tumor"].sum()),
        **summarize_detection(slices, params.area_strata_px, bootstrap),
        **summarize_gate(patients, bootstrap),
    }
    named: Summary = {f"cascade/{name}": value for name, value in summary.items()}
    for model in MODELS:
        scores = summarize_segmentation(model, patients, slices, params.area_strata_px, bootstrap)
        named |= {f"{model}/{name}": value for name, value in scores.items()}
    labels, owners = slices["has_tumor"].to_numpy(bool), pd.factorize(slices["patient_id"], sort=True)[0]
    for model, score in (("classifier", "classifier_logit"), ("segmenter", "segmenter_score")):
        named[f"{model}/auroc"] = bootstrap.estimate(auroc_of(slices[score].to_numpy(float), labels, owners))
    volumes = describe_volumes(*(patients[f"{ORACLE}_volume_{score}"].to_numpy(float) for score in ("dice", "error")))
    return named | {f"{ORACLE}/{name}": bootstrap.estimate(volumes[name]) for name in volumes}


def flatten_summary(summary: Summary, split: str) -> dict[str, float | int | None]:
    """Return the headline metrics as plain JSON numbers; bounds stand beside them as `<name>_low` and `<name>_high`."""
    summary = name_split(summary, split)
    flat: dict[str, float | int | None] = {}
    for model, names in WITH_BOUNDS.items():
        for name in (f"{model}/{split}_{name}" for name in names):
            estimate = summary[name]
            assert isinstance(estimate, Estimate)
            flat |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    for model, names in PLAIN.items():
        for name in (f"{model}/{split}_{name}" for name in names):
            value = summary[name]
            flat[name] = value.value if isinstance(value, Estimate) else value
    return {name: round_value(value) for name, value in flat.items()}


def list_estimates(summary: Summary, split: str) -> dict[str, dict[str, float | int | None]]:
    """Return every metric as JSON: `value`, and where it has an interval `low` and `high`."""
    return {
        name: {
            key: round_value(number)
            for key, number in (asdict(value) if isinstance(value, Estimate) else {"value": value}).items()
        }
        for name, value in name_split(summary, split).items()
    }


def name_split(summary: Summary, split: str) -> Summary:
    """Return the metrics under their names in files: `<model>/<split>_<metric>`."""
    return {name.replace("/", f"/{split}_"): value for name, value in summary.items()}


def round_value(value: float | int | None) -> float | int | None:
    """Return a float without the digits that depend on the order of additions."""
    return round(value, NUM_DIGITS) if isinstance(value, float) else value
