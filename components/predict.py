"""Component `predict`: what `batch_predict` runs."""

from kfp import dsl

from components.container import run_stage


@dsl.container_component
def predict(source: str, model: str, out: str, metrics: dsl.Output[dsl.Metrics]) -> dsl.ContainerSpec:
    """Find tumors in a stored folder with a registered version, whose files are checked against the ledger first.

    Args:
        source: Folder or `s3://bucket/prefix` of images, patients or archives.
        model: As MLflow names it: `models:/tumor-cascade@champion`, or a number in the place of the alias.
        out: Folder or `s3://bucket/prefix` for predictions.jsonl, masks/ and overlays/; earlier ones are replaced,
            of another day or of a try that was lost after its last upload.

    Returns:
        metrics: How many slices, patients, positive slices and errors.
    """
    return run_stage(
        "predict",
        source,
        *("--model", model),
        *("--out", out, "--overwrite"),
        *("--out-metrics", metrics.path),
    )
