"""Component `ingest_data`."""

from kfp import dsl

from components.container import run_stage


@dsl.container_component
def ingest_data(
    params: str,
    raw: str,
    reference: str,
    slices: dsl.Output[dsl.Dataset],
    manifest: dsl.Output[dsl.Dataset],
) -> dsl.ContainerSpec:
    """Turn a raw data set into packed volumes in the data store, or verify those that a reference names.

    Args:
        params: Section `ingest_data` as JSON.
        raw: `s3://bucket/key-or-prefix`; empty for the phantom, and beside a reference.
        reference: Of data that DVC has versioned, as JSON; empty: raw data are ingested.

    Returns:
        slices: Reference to the packed volumes, a small file.
        manifest: Parquet, one row per slice.
    """
    return run_stage(
        "ingest_data",
        *("--params-json", params),
        *("--raw", raw),
        *("--reference", reference),
        *("--data-store", ""),  # the one that the environment names
        *("--out-slices", slices.path),
        *("--out-manifest", manifest.path),
    )
