"""The splits table: who trains, who validates, who is locked away; one row per slice."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tumor_cascade.errors import DataError
from tumor_cascade.storage import atomic_file, write_json

DEVELOPMENT = "development"
TEST = "test"
TEST_FOLD = -1
SPLITS_NAME = "splits.parquet"
FACTS_NAME = "splits.json"
SLICE_KEY = ["patient_id", "slice_index"]

# Rows are sorted by patient_id, slice_index.
SPLITS_SCHEMA = pa.schema(
    [
        ("patient_id", pa.string()),
        ("slice_index", pa.int32()),
        ("partition", pa.string()),  # "development" or "test"
        ("fold", pa.int32()),  # 0 to k-1 of development: validation in that fold, training in the others; -1 for test
    ]
)


def write_splits(splits_dir: Path, splits: pd.DataFrame, facts: dict[str, Any]) -> None:
    """Write the table and its facts into a folder that the caller swaps in as a whole."""
    table = pa.Table.from_pandas(splits, schema=SPLITS_SCHEMA, preserve_index=False)
    with atomic_file(splits_dir / SPLITS_NAME) as temporary:
        pq.write_table(table.replace_schema_metadata(None), temporary, compression="zstd")
    write_json(splits_dir / FACTS_NAME, facts)


def read_splits(splits_dir: Path) -> pd.DataFrame:
    """Return the partition and fold of every slice, in the order of patient and slice.

    Raises:
        DataError: The table is missing, no Parquet, or has other columns.
    """
    try:
        table = pq.read_table(splits_dir / SPLITS_NAME)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{SPLITS_NAME} cannot be read ({type(error).__name__}); run split_data again.") from error
    if table.schema.names != SPLITS_SCHEMA.names:
        raise DataError(f"{SPLITS_NAME} has other columns than this version writes; run split_data again.")
    frame: pd.DataFrame = table.to_pandas()
    return frame


def read_split_facts(splits_dir: Path) -> dict[str, Any]:
    """Return protocol, seed, `is_leaky`, counts and near-duplicates as `split_data` wrote them.

    Raises:
        DataError: The file is missing or no JSON.
    """
    try:
        facts: dict[str, Any] = json.loads((splits_dir / FACTS_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{FACTS_NAME} cannot be read ({type(error).__name__}); run split_data again.") from error
    return facts
