"""The manifest: one row per slice, every fact about the data that later stages judge, split or verify by."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tumor_cascade.errors import DataError

SEQUENCES = ("pre", "flair", "post")
NEAR_BLANK_SHARE = 0.01  # of foreground; a slice with less shows next to nothing

# Rows are sorted by patient_id, slice_index. Intensity facts are of the stored uint8 values, per sequence.
MANIFEST_SCHEMA = pa.schema(
    [
        ("patient_id", pa.string()),
        ("institution", pa.string()),
        ("slice_number", pa.int32()),  # as named by the source, from 1 in the public archive
        ("slice_index", pa.int32()),  # row in the patient's array file, from 0 in slice order
        ("source_name", pa.string()),  # file name in the source, for messages
        ("height_px", pa.int32()),
        ("width_px", pa.int32()),
        ("has_mask", pa.bool_()),
        ("tumor_area_px", pa.int32()),  # 0 without mask
        ("has_tumor", pa.bool_()),
        ("has_border_mask", pa.bool_()),  # a mask pixel on the image's border
        ("mask_background_share", pa.float32()),  # share of mask pixels whose FLAIR value is <= 10; 0 without tumor
        ("tumor_mean_flair", pa.float32()),  # mean FLAIR inside the mask; NaN without tumor
        ("tissue_mean_flair", pa.float32()),  # mean FLAIR over pixels > 10 outside the mask; NaN where there are none
        ("is_pre_real", pa.bool_()),  # False: the sequence is missing and FLAIR stands in (judged per patient)
        ("is_post_real", pa.bool_()),
        *((f"{name}_{fact}", pa.float32()) for name in SEQUENCES for fact in ("mean", "std", "p01", "p99")),
        ("foreground_share", pa.float32()),  # share of pixels with FLAIR > 10
        ("corner_mean", pa.float32()),  # mean over the four 8x8 corners, all sequences: 0 where background is 0
        ("pre_flair_correlation", pa.float32()),  # Pearson over pixels > 10 in either; NaN where undefined
        ("post_flair_correlation", pa.float32()),
        ("spacing_mm", pa.float32()),  # in-plane; NaN where the source does not say
        ("image_sha256", pa.string()),  # over the uint8 bytes of (3, H, W), C order
        ("mask_sha256", pa.string()),  # over the uint8 {0, 1} bytes of (H, W); empty without mask
        ("perceptual_hash", pa.string()),  # 64-bit DCT hash of FLAIR, 16 hex digits
        ("has_patient_ids", pa.bool_()),  # False: ids were invented per file; never promotable
    ]
)


def write_manifest(rows: pd.DataFrame, path: Path) -> None:
    """Write the manifest as Parquet, rows sorted by patient and slice.

    Args:
        rows: One row per slice with exactly the columns of `MANIFEST_SCHEMA`.
        path: File that the caller swaps in as a whole.
    """
    rows = rows.sort_values(["patient_id", "slice_index"], ignore_index=True)
    table = pa.Table.from_pandas(rows[MANIFEST_SCHEMA.names], schema=MANIFEST_SCHEMA, preserve_index=False)
    pq.write_table(table.replace_schema_metadata(None), path, compression="zstd")


def read_manifest(path: Path) -> pd.DataFrame:
    """Return the manifest, one row per slice, in the order of patient and slice.

    Raises:
        DataError: The file is missing, no Parquet, or has other columns.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(
            f"manifest {path.name} cannot be read ({type(error).__name__}); run ingest_data again."
        ) from error
    if table.schema.names != MANIFEST_SCHEMA.names:
        raise DataError(f"manifest {path.name} has other columns than this version writes; run ingest_data again.")
    frame: pd.DataFrame = table.to_pandas()
    return frame
