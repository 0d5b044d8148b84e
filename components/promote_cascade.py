"""Component `promote_cascade`: an act on a shared registry, never cached."""

from kfp import dsl

from components.container import run_stage


@dsl.container_component
def promote_cascade(
    params: str,
    cascade: dsl.Input[dsl.Model],
    report: dsl.Input[dsl.Artifact],
    slices: dsl.Input[dsl.Dataset],
    manifest: dsl.Input[dsl.Dataset],
    splits: dsl.Input[dsl.Dataset],
    decision: dsl.Output[dsl.Artifact],
) -> dsl.ContainerSpec:
    """Register the product and make it champion if the gate says so; a refusal is a result, not a failure."""
    return run_stage(
        "promote_cascade",
        *("--params-json", params),
        *("--cascade", cascade.path),
        *("--report", report.path),
        *("--slices", slices.path),
        *("--manifest", manifest.path),
        *("--splits", splits.path),
        *("--out-decision", decision.path),
    )
