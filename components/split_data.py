"""Component `split_data`."""

from kfp import dsl

from components.container import run_stage


@dsl.container_component
def split_data(
    params: str,
    slices: dsl.Input[dsl.Dataset],
    manifest: dsl.Input[dsl.Dataset],
    splits: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> dsl.ContainerSpec:
    """Lock a test set away and deal the rest into folds, by patient."""
    return run_stage(
        "split_data",
        *("--params-json", params),
        *("--slices", slices.path),
        *("--manifest", manifest.path),
        *("--out-splits", splits.path),
        *("--out-metrics", metrics.path),
    )
