"""Component `train_segmenter`."""

from kfp import dsl

from components.container import run_stage


@dsl.container_component
def train_segmenter(
    params: str,
    fold: int,
    slices: dsl.Input[dsl.Dataset],
    manifest: dsl.Input[dsl.Dataset],
    splits: dsl.Input[dsl.Dataset],
    segmenter: dsl.Output[dsl.Model],
    report: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> dsl.ContainerSpec:
    """Train the ResUNet: where is the tumor?"""
    return run_stage(
        "train_segmenter",
        *("--params-json", params),
        *("--fold", fold),
        *("--slices", slices.path),
        *("--manifest", manifest.path),
        *("--splits", splits.path),
        *("--out-segmenter", segmenter.path),
        *("--out-report", report.path),
        *("--out-metrics", metrics.path),
    )
