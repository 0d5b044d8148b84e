"""Component `train_classifier`."""

from kfp import dsl

from components.container import run_stage


@dsl.container_component
def train_classifier(
    params: str,
    fold: int,
    slices: dsl.Input[dsl.Dataset],
    manifest: dsl.Input[dsl.Dataset],
    splits: dsl.Input[dsl.Dataset],
    classifier: dsl.Output[dsl.Model],
    report: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> dsl.ContainerSpec:
    """Train the ResNet: does this slice show tumor?"""
    return run_stage(
        "train_classifier",
        *("--params-json", params),
        *("--fold", fold),
        *("--slices", slices.path),
        *("--manifest", manifest.path),
        *("--splits", splits.path),
        *("--out-classifier", classifier.path),
        *("--out-report", report.path),
        *("--out-metrics", metrics.path),
    )
