"""Component `evaluate_cascade`."""

from kfp import dsl

from components.container import run_stage


@dsl.container_component
def evaluate_cascade(
    params: str,
    cascade: dsl.Input[dsl.Model],
    slices: dsl.Input[dsl.Dataset],
    manifest: dsl.Input[dsl.Dataset],
    splits: dsl.Input[dsl.Dataset],
    report: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> dsl.ContainerSpec:
    """Score the product on patients that it has not learned from, with intervals and pictures."""
    return run_stage(
        "evaluate_cascade",
        *("--params-json", params),
        *("--cascade", cascade.path),
        *("--slices", slices.path),
        *("--manifest", manifest.path),
        *("--splits", splits.path),
        *("--out-report", report.path),
        *("--out-metrics", metrics.path),
    )
