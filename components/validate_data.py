"""Component `validate_data`."""

from kfp import dsl

from components.container import run_stage


@dsl.container_component
def validate_data(
    params: str,
    slices: dsl.Input[dsl.Dataset],
    manifest: dsl.Input[dsl.Dataset],
    report: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> dsl.ContainerSpec:
    """Check the data against every expectation; critical violations stop here."""
    return run_stage(
        "validate_data",
        *("--params-json", params),
        *("--slices", slices.path),
        *("--manifest", manifest.path),
        *("--out-report", report.path),
        *("--out-metrics", metrics.path),
    )
